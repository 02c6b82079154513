namespace BgeMetal.Training;

/// <summary>Measuring retrieval while a model is trained.</summary>
public sealed record EvaluationOptions
{
    /// <summary>A folder in BEIR's layout: corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv.</summary>
    public required string DataDirectory { get; init; }

    /// <summary>Which judgements.</summary>
    public string Split { get; init; } = "test";

    /// <summary>For a reranker: the hits to reorder, a run in trec_eval's format.</summary>
    public string? CandidateFile { get; init; }

    /// <summary>For a reranker: how many of each query's hits it reorders.</summary>
    public int Candidates { get; init; } = 50;

    /// <summary>Steps between two evaluations, beside those before the first and after the last step; 0 for these two alone.</summary>
    public int Steps { get; init; }

    /// <summary>The measure that decides which model is the best: ndcg, mrr, recall, map, precision or hit_rate, with its cut-off.</summary>
    public string Metric { get; init; } = "ndcg@10";
}
