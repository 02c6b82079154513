using BgeMetal.Cli.Output;
using BgeMetal.Data;
using BgeMetal.Retrieval;

namespace BgeMetal.Cli.Evaluation;

/// <summary>Runs a data set's queries over its corpus: embed, exact search, and reranking where a reranker is there. Data sets that share a corpus and follow one another share its vectors.</summary>
internal sealed class RetrievalEvaluation(Terminal terminal, EmbeddingSession session, RerankSession? reranker) : IDisposable
{
    private const int QueriesAtATime = 256;
    private IReadOnlyList<RetrievalPassage>? _corpus;
    private FlatIndex? _index;
    private string? _folder;

    /// <summary>The k of nDCG@k and the others.</summary>
    public required IReadOnlyList<int> Cutoffs { get; init; }

    /// <summary>Hits kept for each query.</summary>
    public int Depth { get; init; } = 1000;

    /// <summary>Hits that the reranker sees and reorders; what it does not see stays behind them, in the order of the search. (FlagEmbedding drops it, and with it the recall beyond.)</summary>
    public int RerankDepth { get; init; } = 100;

    /// <summary>Put before each query.</summary>
    public string? QueryInstruction { get; init; }

    /// <summary>Put before each passage.</summary>
    public string? PassageInstruction { get; init; }

    /// <summary>Tokens a query is cut to; null: as passages.</summary>
    public int? QueryMaxLength { get; init; }

    /// <summary>Whether hits with the query's own id are left out.</summary>
    public bool IgnoreIdenticalIds { get; init; }

    private int SearchDepth => Math.Max(Depth, Cutoffs.Max()) + (IgnoreIdenticalIds ? 1 : 0);

    /// <summary>The ranked lists of all judged queries. The vectors wait in a temporary file, mapped into memory, so a corpus may be larger than memory.</summary>
    public RetrievalRun Search(NamedDataset set)
    {
        if (!ReferenceEquals(_corpus, set.Data.Corpus)) Open(set);
        return Search(set.Label, set.Data, _index!);
    }

    /// <summary>The measures of a run.</summary>
    public RetrievalReport Measure(NamedDataset set, RetrievalRun run) => RetrievalMetrics.Evaluate(set.Data.Judgements, run, Cutoffs, IgnoreIdenticalIds);

    /// <inheritdoc/>
    public void Dispose()
    {
        _index?.Dispose();
        if (_folder is not null) Directory.Delete(_folder, recursive: true);
        (_corpus, _index, _folder) = (null, null, null);
    }

    private void Open(NamedDataset set)
    {
        Dispose();
        _folder = Directory.CreateTempSubdirectory("bgemetal-").FullName;
        string path = Path.Combine(_folder, "corpus.index");
        Build(set.Label, set.Data, path);
        _index = FlatIndex.Open(path, session.Embedder.Threads);
        session.Search(_index, SearchDepth);
        _corpus = set.Data.Corpus;
    }

    private void Build(string label, RetrievalDataset dataset, string path)
    {
        int dimensions = session.Embedder.Dimensions;
        using FlatIndexWriter writer = FlatIndex.Create(path, dimensions);
        using TextChunks chunks = TextChunks.Of(dataset.Corpus.Select(passage => new TextInput { Id = passage.Id, Text = passage.FullText, Source = dataset.Directory }));
        session.EmbedAll(chunks, PassageInstruction, $"{label}: corpus", (texts, vectors) =>
        {
            for (int i = 0; i < texts.Count; i++) writer.Add(texts[i].Id, null, vectors.AsSpan(i * dimensions, dimensions));
        });
        writer.Commit();
    }

    private RetrievalRun Search(string label, RetrievalDataset dataset, FlatIndex index)
    {
        RetrievalRun run = new();
        using Progress progress = terminal.Watch($"{label}: queries", "queries", dataset.Queries.Count);
        foreach (RetrievalQuery[] queries in dataset.Queries.Chunk(QueriesAtATime))
        {
            TextInput[] inputs = [.. queries.Select(query => ToInput(query, dataset.Directory))];
            float[] vectors = session.Embed(inputs, QueryInstruction, null);
            SearchHit[][] hits = index.SearchBatch(vectors, SearchDepth, terminal.Cancellation);
            for (int i = 0; i < queries.Length; i++)
            {
                terminal.Cancellation.ThrowIfCancellationRequested();
                if (reranker is null) run.Add(queries[i].Id, hits[i]);
                else run.Add(queries[i].Id, Rerank(dataset, queries[i], hits[i]));
                progress.Report(1);
            }
        }
        return run;
    }

    private TextInput ToInput(RetrievalQuery query, string source) => QueryMaxLength is { } length
        ? new TextInput { Id = query.Id, InputIds = session.Embedder.Tokenizer.Encode(QueryInstruction + query.Text, maxLength: length).InputIds, Source = source }
        : new TextInput { Id = query.Id, Text = query.Text, Source = source };

    private RankedPassage[] Rerank(RetrievalDataset dataset, RetrievalQuery query, SearchHit[] hits)
    {
        SearchHit[] wanted = [.. hits.Where(hit => !IgnoreIdenticalIds || hit.Id != query.Id)], seen = [.. wanted.Take(RerankDepth)];
        string[] passages = [.. seen.Select(hit => dataset.Corpus[(int)hit.Row].FullText)];
        float[] scores = reranker!.Score([new RerankInput { Query = query.Text, Passages = passages, Source = dataset.Directory }], null)[0];
        return [.. seen.Zip(scores, (hit, score) => new RankedPassage(hit.Id, score)), .. Behind(scores, wanted.AsSpan(RerankDepth < wanted.Length ? RerankDepth : wanted.Length))];
    }

    /// <summary>Hits with scores below all of <paramref name="scores"/>, the next number down wherever the search's score falls: in trec_eval too they keep their order.</summary>
    private static RankedPassage[] Behind(float[] scores, ReadOnlySpan<SearchHit> hits)
    {
        RankedPassage[] passages = new RankedPassage[hits.Length];
        float below = scores.Where(float.IsFinite).DefaultIfEmpty(0).Min();
        for (int i = 0; i < hits.Length; i++)
        {
            if (i == 0 || hits[i].Score != hits[i - 1].Score) below = MathF.BitDecrement(below);
            passages[i] = new RankedPassage(hits[i].Id, below);
        }
        return passages;
    }
}
