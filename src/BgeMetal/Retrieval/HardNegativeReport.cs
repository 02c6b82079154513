namespace BgeMetal.Retrieval;

/// <summary>What a mining run did. All but <see cref="Run"/> counts the parts of an interrupted run too.</summary>
public sealed record HardNegativeReport
{
    /// <summary>Rows written.</summary>
    public long Rows { get; init; }

    /// <summary>Different texts mined in.</summary>
    public long CorpusTexts { get; init; }

    /// <summary>Negatives that come from the ranks asked for.</summary>
    public long Mined { get; init; }

    /// <summary>Negatives drawn at random because there were too few candidates.</summary>
    public long Filled { get; init; }

    /// <summary>Rows that have fewer negatives than asked for, because the corpus has no more texts for them.</summary>
    public long ShortRows { get; init; }

    /// <summary>Candidates passed over for their score or a margin.</summary>
    public long OutOfLimits { get; init; }

    /// <summary>Candidates passed over because they repeat a positive or another candidate.</summary>
    public long NearDuplicates { get; init; }

    /// <summary>Candidates the reranker refused.</summary>
    public long Vetoed { get; init; }

    /// <summary>Candidates that score as high as the row's positive; counted when a margin, near-duplicate removal or the report asks for positives' scores.</summary>
    public long SuspectedFalseNegatives { get; init; }

    /// <summary>What this process embedded.</summary>
    public EmbeddingRun Run { get; init; }

    /// <summary>The counts of both.</summary>
    internal HardNegativeReport Plus(HardNegativeReport other) => this with
    {
        Rows = Rows + other.Rows,
        Mined = Mined + other.Mined,
        Filled = Filled + other.Filled,
        ShortRows = ShortRows + other.ShortRows,
        OutOfLimits = OutOfLimits + other.OutOfLimits,
        NearDuplicates = NearDuplicates + other.NearDuplicates,
        Vetoed = Vetoed + other.Vetoed,
        SuspectedFalseNegatives = SuspectedFalseNegatives + other.SuspectedFalseNegatives,
    };
}
