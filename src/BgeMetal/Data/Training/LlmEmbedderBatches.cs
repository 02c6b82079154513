using BgeMetal.Text;

namespace BgeMetal.Data.Training;

/// <summary>How one task's rows become batches.</summary>
/// <param name="Rules">Which rows and which candidates.</param>
/// <param name="QueryInstruction">Put before queries.</param>
/// <param name="KeyInstruction">Put before candidates.</param>
/// <param name="BatchSize">Rows of a batch.</param>
/// <param name="MaxRows">The most rows of a file, or null.</param>
internal sealed record TaskBatching(CandidateRules Rules, string QueryInstruction, string KeyInstruction, int BatchSize, int? MaxRows);

/// <summary>What batches of the LLM-Embedder's data are made by.</summary>
/// <param name="For">A task's rules.</param>
/// <param name="Composition">How rows of several files come together.</param>
/// <param name="BatchSize">Rows of a mixed batch.</param>
/// <param name="GroupSize">Candidates of a row.</param>
/// <param name="QueryMaxLength">Tokens a query is cut to.</param>
/// <param name="KeyMaxLength">Tokens a candidate is cut to.</param>
/// <param name="Shuffle">Whether rows come in random order; <see cref="BatchComposition.Random"/> does not ask.</param>
/// <param name="DropLast">Whether a last batch that is not full is left out.</param>
/// <param name="Seed">The seed of every random choice.</param>
internal sealed record LlmEmbedderBatching(Func<string, TaskBatching> For, BatchComposition Composition, int BatchSize, int GroupSize,
    int QueryMaxLength, int KeyMaxLength, bool Shuffle, bool DropLast, int Seed);

/// <summary>
/// The batches of an LLM-Embedder run. The files are read once beforehand: for the task of each, and for the rows that their scores or their candidates rule out.
/// A batch is then a function of the options and its number alone, so a resumed run goes on exactly as the first would have. Thread-safe.
/// </summary>
internal sealed class LlmEmbedderBatches
{
    private readonly TrainingDataSet<LlmEmbedderRow> _data;
    private readonly LlmEmbedderBatching _options;
    private readonly ModelTokenizer? _tokenizer;
    private readonly CandidateSampler _sampler;
    private readonly Dictionary<TrainingSource, string> _tasks = [];
    private readonly RowOrder? _order;
    private readonly RowDraw? _draw;

    /// <summary>Batches of <paramref name="data"/>, which the caller owns.</summary>
    /// <exception cref="BgeMetalException">A file has no task or rows of several, a row is malformed, or no batch can be made.</exception>
    public LlmEmbedderBatches(TrainingDataSet<LlmEmbedderRow> data, LlmEmbedderBatching options, ModelTokenizer? tokenizer)
    {
        _data = data;
        _options = options;
        _tokenizer = tokenizer;
        _sampler = new CandidateSampler(options.Seed, options.GroupSize);
        List<RowGroup> groups = [];
        for (int i = 0; i < data.Sources.Count; i++)
        {
            (string task, int[] rows) = AdmittedRows.Of(data, data.Sources[i], options, _sampler, i);
            _tasks.Add(data.Sources[i], task);
            if (rows.Length > 0) groups.Add(new RowGroup(AdmittedRows.Ranges(rows), options.For(task).BatchSize, false));
        }
        if (groups.Count == 0) throw new BgeMetalException("no training data", $"the rules leave none of the {data.Rows} rows", data.Sources[0].Name.Path);
        if (options.Composition == BatchComposition.Mixed) groups = [new RowGroup([.. groups.SelectMany(group => group.Ranges)], options.BatchSize, false)];
        if (options.Composition == BatchComposition.Random) _draw = new RowDraw(groups, options.Seed);
        else _order = new RowOrder(groups, options.Seed, options.Shuffle, options.DropLast);
        RowsPerEpoch = groups.Sum(group => (long)group.Rows);
        if (PerEpoch == 0) throw new BgeMetalException("no training data", $"{RowsPerEpoch} rows do not fill one batch, and batches that are not full are dropped");
    }

    /// <summary>Batches of an epoch, at least one.</summary>
    public int PerEpoch => _draw?.BatchesPerEpoch ?? _order!.BatchesPerEpoch;

    /// <summary>Rows that the rules leave.</summary>
    public long RowsPerEpoch { get; }

    /// <summary>The tasks of the files, each once.</summary>
    public IReadOnlyCollection<string> Tasks => [.. _tasks.Values.Distinct()];

    /// <summary>Makes a batch by its number since the start of the run: epoch * <see cref="PerEpoch"/> + its number in the epoch.</summary>
    public ContrastiveBatch Build(long batch) => Build(checked((int)(batch / PerEpoch)), (int)(batch % PerEpoch));

    /// <summary>Reads, samples and tokenises the rows of a batch.</summary>
    /// <exception cref="BgeMetalException">A row is malformed, or rows with and without scores meet in one batch.</exception>
    public ContrastiveBatch Build(int epoch, int index)
    {
        ReadOnlyMemory<int> numbers = _draw?.Batch(epoch, index) ?? _order!.Batch(epoch, index).Rows;
        LlmEmbedderRow[] rows = new LlmEmbedderRow[numbers.Length];
        string[] tasks = new string[rows.Length];
        for (int i = 0; i < rows.Length; i++) (rows[i], tasks[i]) = (_data.Read(numbers.Span[i]), _tasks[_data.SourceOf(numbers.Span[i])]);
        SequenceList queries = new(_tokenizer, rows.Length), keys = new(_tokenizer, rows.Length * _options.GroupSize);
        List<float>? scores = AreScored(rows) ? [] : null;
        for (int i = 0; i < rows.Length; i++)
        {
            TaskBatching task = _options.For(tasks[i]);
            Add(queries, rows[i].Query, task.QueryInstruction, _options.QueryMaxLength, rows[i].Place);
            foreach (int candidate in _sampler.Draw(rows[i], task.Rules, epoch, numbers.Span[i]))
            {
                Add(keys, rows[i].Candidates[candidate], task.KeyInstruction, _options.KeyMaxLength, rows[i].Place);
                scores?.Add(rows[i].Scores![candidate]);
            }
        }
        return new ContrastiveBatch
        {
            Epoch = epoch,
            Index = index,
            Queries = queries.ToArray(),
            Passages = keys.ToArray(),
            GroupSize = _options.GroupSize,
            TeacherScores = scores?.ToArray(),
            NoInBatchNegatives = false,
            Rows = numbers,
            Places = Array.ConvertAll(rows, row => row.Place),
            Tokens = queries.Tokens + keys.Tokens,
            Task = tasks.Distinct().Count() == 1 ? tasks[0] : null,
        };
    }

    private static bool AreScored(LlmEmbedderRow[] rows)
    {
        int scored = rows.Count(row => row.Scores is not null);
        if (scored is 0 || scored == rows.Length) return scored > 0;
        RowPlace place = rows.First(row => row.Scores is null).Place;
        throw new BgeMetalException("bad input", "the row has no teacher's scores, while other rows of its batch have; --inbatch-same-dataset keeps files apart", place.File, place.Line);
    }

    private static void Add(SequenceList sequences, TrainingText text, string instruction, int maxLength, RowPlace place)
    {
        if (text.InputIds is { } ids) sequences.Add(ids);
        else sequences.Add(instruction + text.Text, maxLength, place);
    }
}
