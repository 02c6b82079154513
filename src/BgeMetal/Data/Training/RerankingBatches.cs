namespace BgeMetal.Data.Training;

/// <summary>
/// The batches of a cross-encoder's training, sampled as the contrastive ones are. A batch is a function of the options and its number alone. Thread-safe.
/// </summary>
internal sealed class RerankingBatches
{
    private readonly TrainingDataSet<TrainingRow> _data;
    private readonly ContrastiveOptions _options;
    private readonly PairJoiner? _joiner;
    private readonly RowOrder _order;

    /// <summary>Batches of <paramref name="data"/>, whose rows were read with the options' rules.</summary>
    /// <param name="data">The rows; owned by the caller.</param>
    /// <param name="options">Sizes, instructions, order and sampling; lengths are the joiner's.</param>
    /// <param name="joiner">Joins texts; null when every passage is given as <c>input_ids</c>, which then are a joined pair.</param>
    /// <exception cref="BgeMetalException">There is no batch.</exception>
    public RerankingBatches(TrainingDataSet<TrainingRow> data, ContrastiveOptions options, PairJoiner? joiner)
    {
        (_data, _options, _joiner) = (data, options, joiner);
        _order = new RowOrder([new RowGroup([(0, data.Rows)], options.BatchSize, true)], options.Seed, options.Shuffle, options.DropLast);
        if (_order.BatchesPerEpoch == 0)
            throw new BgeMetalException("no training data", $"the {data.Rows} rows do not fill one batch of {options.BatchSize}, and batches that are not full are dropped");
    }

    /// <summary>Batches of an epoch, at least one.</summary>
    public int PerEpoch => _order.BatchesPerEpoch;

    /// <summary>Reads, samples, joins and tokenises the rows of a batch by its number since the start of the run.</summary>
    /// <exception cref="BgeMetalException">A row is malformed (with file and line), or a file cannot be read.</exception>
    public RerankingBatch Build(long batch)
    {
        int epoch = checked((int)(batch / PerEpoch)), groupSize = _options.GroupSize;
        ReadOnlySpan<int> numbers = _order.Batch(epoch, (int)(batch % PerEpoch)).Rows.Span;
        List<TokenSequence> pairs = new(numbers.Length * groupSize);
        List<RowPlace> places = [];
        float[]? scores = _options.KnowledgeDistillation ? new float[numbers.Length * groupSize] : null;
        PassageSampler sampler = new(_options.Seed);
        int[] negatives = new int[groupSize - 1];
        foreach (int number in numbers)
        {
            TrainingRow row = _data.Read(number);
            int positive = sampler.Draw(epoch, number, row.Positives.Length, row.Negatives.Length, negatives);
            if (scores is not null) scores[pairs.Count] = row.PositiveScores![positive];
            pairs.Add(Pair(row, row.Positives[positive]));
            foreach (int negative in negatives)
            {
                if (scores is not null) scores[pairs.Count] = row.NegativeScores![negative];
                pairs.Add(Pair(row, row.Negatives[negative]));
            }
            places.Add(row.Place);
        }
        return new RerankingBatch { Pairs = pairs, GroupSize = groupSize, TeacherScores = scores, Places = places };
    }

    private TokenSequence Pair(TrainingRow row, TrainingText passage)
    {
        if (passage.InputIds is { } ids) return new TokenSequence(ids);
        if (_joiner is null || row.Query.Text is not { } query)
            throw new BgeMetalException("bad input", "query and passage cannot be joined: both as texts, or passages as the \"input_ids\" of joined pairs, were expected", row.Place.File, row.Place.Line);
        string? instruction = row.Prompt ?? _options.QueryInstruction;
        return _joiner.Join(instruction is null ? query : _options.QueryFormat.Apply(instruction, query),
            _options.PassageInstruction is null ? passage.Text! : _options.PassageFormat.Apply(_options.PassageInstruction, passage.Text!));
    }
}
