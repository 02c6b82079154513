namespace BgeMetal.Retrieval;

/// <summary>
/// How hard negatives are mined; names and defaults are FlagEmbedding's hn_mine, limits are those of positive-aware mining (Moreira et al. 2024, "NV-Retriever").
/// A query with several positives is held to the one with the lowest score.
/// </summary>
public sealed record HardNegativeOptions
{
    /// <summary>Rows <c>{"query","pos":[..],"neg":[..]}</c>; read twice, so it cannot be standard input.</summary>
    public required string InputFile { get; init; }

    /// <summary>The same rows with their negatives replaced; every other field stays, but for the scores of the negatives that are no more.</summary>
    public required string OutputFile { get; init; }

    /// <summary>Texts to mine in, rows <c>{"text"}</c> or plain lines; null mines in all positives and negatives of the input.</summary>
    public string? CandidatePool { get; init; }

    /// <summary>The best so many hits of a query are passed over: they are often answers nobody marked.</summary>
    public int RangeStart { get; init; } = 10;

    /// <summary>Hits up to this rank are candidates.</summary>
    public int RangeEnd { get; init; } = 210;

    /// <summary>Negatives of a row. Where there are fewer candidates, random texts of the corpus fill up.</summary>
    public int NegativeNumber { get; init; } = 15;

    /// <summary>Put before each query; null for the model's own.</summary>
    public string? QueryInstruction { get; init; }

    /// <summary>
    /// Whether the search runs where the embedder computes, when that is a GPU; ranges beyond <see cref="FlatIndex.MostHitsOnGpu"/> are searched on the CPU all the same. The negatives do
    /// not depend on it.
    /// </summary>
    public bool UseGpuForSearching { get; init; }

    /// <summary>Seed of sampling and filling; the draw of a row depends on nothing else.</summary>
    public int Seed { get; init; } = 42;

    /// <summary>Candidates with a higher score are passed over.</summary>
    public double? MaxScore { get; init; }

    /// <summary>Candidates with a lower score are passed over.</summary>
    public double? MinScore { get; init; }

    /// <summary>Candidates must score at least so much less than the positive.</summary>
    public double? AbsoluteMargin { get; init; }

    /// <summary>Candidates must score at least this share of the positive's score less than it.</summary>
    public double? RelativeMargin { get; init; }

    /// <summary>Candidates whose cosine with a positive or a better candidate reaches this are passed over as the same text again.</summary>
    public double? NearDuplicate { get; init; }

    /// <summary>With a reranker: candidates whose relevance (sigmoid) is higher are passed over, besides those it ranks not below the positive.</summary>
    public double? RerankerMaxScore { get; init; }

    /// <summary>Takes a row for each query with candidates that score as high as its positive: suspected false negatives. Null for none.</summary>
    public string? ReportFile { get; init; }

    /// <summary>Keeps vectors and finished parts, so that a run that was killed goes on; null for a folder beside the output. Emptied at the end.</summary>
    public string? WorkDirectory { get; init; }

    /// <summary>Whether malformed rows are counted and left out instead of ending the run.</summary>
    public bool SkipInvalid { get; init; }

    internal bool NeedsPositives => AbsoluteMargin is not null || RelativeMargin is not null || NearDuplicate is not null || ReportFile is not null;

    /// <exception cref="BgeMetalException">An option is out of range.</exception>
    internal void Validate()
    {
        if (InputFile == "-") throw new BgeMetalException("option --input-file", "standard input cannot be read twice, a file was expected");
        if (RangeStart < 0 || RangeEnd <= RangeStart || RangeEnd > 1 << 20)
            throw new BgeMetalException("option --range-for-sampling", $"{RangeStart}-{RangeEnd} is no range of ranks, expected for instance 10-210");
        if (NegativeNumber < 1) throw new BgeMetalException("option --negative-number", $"{NegativeNumber} is out of range, expected at least 1");
        if (NearDuplicate is not null and not (> 0 and <= 1)) throw new BgeMetalException("option --near-duplicate", $"{NearDuplicate} is out of range, expected a cosine above 0, at most 1");
    }
}
