using BgeMetal.Text;

namespace BgeMetal.Data.Training;

/// <summary>
/// The batches of a contrastive run. A batch is a function of the options and its number alone, whoever asks and in whatever order, so several threads may make
/// batches ahead and a resumed run goes on exactly as the first would have. Thread-safe.
/// </summary>
internal sealed class ContrastiveBatches
{
    private readonly TrainingDataSet<TrainingRow> _data;
    private readonly ContrastiveOptions _options;
    private readonly ModelTokenizer? _tokenizer;
    private readonly RowOrder _order;

    /// <summary>Batches of <paramref name="data"/>, whose rows were read with the options' rules.</summary>
    /// <param name="data">The rows; owned by the caller.</param>
    /// <param name="options">Sizes, instructions, order and sampling.</param>
    /// <param name="tokenizer">The model's tokenizer; null when every text is given as <c>input_ids</c>.</param>
    /// <exception cref="BgeMetalException">There is no batch: short batches are dropped and no file fills one.</exception>
    public ContrastiveBatches(TrainingDataSet<TrainingRow> data, ContrastiveOptions options, ModelTokenizer? tokenizer)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(options.BatchSize, 1, nameof(options));
        ArgumentOutOfRangeException.ThrowIfLessThan(options.GroupSize, 1, nameof(options));
        _data = data;
        _options = options;
        _tokenizer = tokenizer;
        _order = new RowOrder(ContrastiveGroups.Of(data, options), options.Seed, options.Shuffle, options.DropLast);
        if (_order.BatchesPerEpoch == 0)
            throw new BgeMetalException("no training data", $"the {data.Rows} rows do not fill one batch of {options.BatchSize}, and batches that are not full are dropped");
    }

    /// <summary>Batches of an epoch, at least one.</summary>
    public int PerEpoch => _order.BatchesPerEpoch;

    /// <summary>Rows that some batch of an epoch holds.</summary>
    public long RowsPerEpoch => _order.RowsPerEpoch;

    /// <summary>Makes a batch by its number since the start of the run: epoch * <see cref="PerEpoch"/> + its number in the epoch.</summary>
    /// <inheritdoc cref="Build(int, int)"/>
    public ContrastiveBatch Build(long batch) => Build(checked((int)(batch / PerEpoch)), (int)(batch % PerEpoch));

    /// <summary>Reads, samples and tokenises the rows of a batch.</summary>
    /// <exception cref="BgeMetalException">A row is malformed or does not fit the batch (with file and line), or a file cannot be read.</exception>
    public ContrastiveBatch Build(int epoch, int index)
    {
        (ReadOnlyMemory<int> numbers, RowGroup group) = _order.Batch(epoch, index);
        TrainingRow[] rows = new TrainingRow[numbers.Length];
        for (int i = 0; i < rows.Length; i++) rows[i] = _data.Read(numbers.Span[i]);
        int groupSize = GroupSize(rows);
        bool scored = IsScored(rows);
        SequenceList queries = new(_tokenizer, rows.Length), passages = new(_tokenizer, rows.Length * groupSize);
        float[]? scores = scored ? new float[rows.Length * groupSize] : null;
        PassageSampler sampler = new(_options.Seed);
        int[] negatives = new int[groupSize - 1];
        for (int i = 0; i < rows.Length; i++)
        {
            TrainingRow row = rows[i];
            string? prompt = row.Prompt ?? _data.SourceOf(numbers.Span[i]).Name.Input.Prompt ?? _options.QueryInstruction;
            Add(queries, row.Query, _options.QueryFormat, prompt, _options.QueryMaxLength, row.Place);
            int positive = sampler.Draw(epoch, numbers.Span[i], row.Positives.Length, row.Negatives.Length, negatives);
            AddPassage(passages, row, row.Positives[positive], prompt);
            foreach (int negative in negatives) AddPassage(passages, row, row.Negatives[negative], prompt);
            if (scores is null) continue;
            scores[i * groupSize] = row.PositiveScores![positive];
            for (int j = 0; j < negatives.Length; j++) scores[i * groupSize + 1 + j] = row.NegativeScores![negatives[j]];
        }

        return new ContrastiveBatch
        {
            Epoch = epoch,
            Index = index,
            Queries = queries.ToArray(),
            Passages = passages.ToArray(),
            GroupSize = groupSize,
            TeacherScores = scores,
            NoInBatchNegatives = group.NoInBatchNegatives,
            Rows = numbers,
            Places = Array.ConvertAll(rows, row => row.Place),
            Tokens = queries.Tokens + passages.Tokens,
        };
    }

    /// <summary>G: the option's, unless the batch comes from one data set and its rows say otherwise (FlagEmbedding's _get_train_group_size).</summary>
    private int GroupSize(TrainingRow[] rows)
    {
        if (!_options.SameDatasetWithinBatch) return _options.GroupSize;
        TrainingRow first = rows[0];
        foreach (TrainingRow row in rows)
            if (row.Type != first.Type)
                throw Error(row, $"the type is {Quoted(row.Type)}, but {Quoted(first.Type)} in another row of the same batch ({first.Place}): rows of one file, and merged small files, must have one type");
        int size = first.Type switch
        {
            null => first.GroupSize ?? _options.GroupSize,
            "only_1neg" => 2,
            "symmetric_class" => Math.Min(first.Negatives.Length + 1, _options.GroupSize),
            _ => _options.GroupSize,
        };
        foreach (TrainingRow row in rows)
            if (size > 1 && row.Negatives.Length == 0) throw Error(row, $"\"neg\" has no text: at least one negative is needed for groups of {size} passages");
        return size;
    }

    private bool IsScored(TrainingRow[] rows)
    {
        if (!_options.KnowledgeDistillation) return false;
        int scored = rows.Count(row => row.PositiveScores is not null);
        if (scored is 0 || scored == rows.Length) return scored > 0;
        throw Error(rows.First(row => row.PositiveScores is null), "a teacher's scores are missing, while other rows of the same batch have them");
    }

    private void AddPassage(SequenceList passages, TrainingRow row, TrainingText text, string? prompt)
    {
        bool symmetric = _options.SameDatasetWithinBatch && row.Type is "symmetric_sts" or "symmetric_clustering";
        if (symmetric) Add(passages, text, _options.QueryFormat, prompt, _options.PassageMaxLength, row.Place);
        else Add(passages, text, _options.PassageFormat, _options.PassageInstruction, _options.PassageMaxLength, row.Place);
    }

    private static void Add(SequenceList sequences, TrainingText text, InstructionFormat format, string? instruction, int maxLength, RowPlace place)
    {
        if (text.InputIds is int[] ids) sequences.Add(ids);
        else sequences.Add(instruction is null ? text.Text! : format.Apply(instruction, text.Text!), maxLength, place);
    }

    private static string Quoted(string? type) => type is null ? "missing" : $"\"{type}\"";

    private static BgeMetalException Error(TrainingRow row, string why) => new("bad input", why, row.Place.File, row.Place.Line);
}
