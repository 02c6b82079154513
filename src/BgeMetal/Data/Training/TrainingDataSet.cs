using BgeMetal.Tensors;

namespace BgeMetal.Data.Training;

/// <summary>What a training data set is made of.</summary>
internal sealed record TrainingDataOptions
{
    /// <summary>The most rows of one file; a file with more gives this many, chosen at random by <see cref="Seed"/>.</summary>
    public int MaxRowsPerFile { get; init; } = int.MaxValue;

    /// <summary>The seed of that choice.</summary>
    public int Seed { get; init; }

    /// <summary>When given, bad rows are counted there and left out; all files are then checked whole before the training starts. When null a bad row is an error.</summary>
    public InvalidLines? Skipped { get; init; }

    /// <summary>Files that have together at most this many bytes are checked whole before the training starts, larger ones row by row as they are read.</summary>
    public long CheckBytes { get; init; } = 64 << 20;
}

/// <summary>A file of a data set and the rows of it that take part.</summary>
internal sealed class TrainingSource
{
    private readonly int[]? _chosen;

    internal TrainingSource(TrainingFileName name, TrainingFile file, int firstRow, int[]? chosen)
    {
        Name = name;
        File = file;
        FirstRow = firstRow;
        _chosen = chosen;
    }

    /// <summary>Where the file came from.</summary>
    public TrainingFileName Name { get; }

    /// <summary>The file.</summary>
    public TrainingFile File { get; }

    /// <summary>The number in the data set of its first row.</summary>
    public int FirstRow { get; }

    /// <summary>Rows that take part.</summary>
    public int Rows => _chosen?.Length ?? File.Rows;

    /// <summary>The row's number in the file.</summary>
    public int RowInFile(int row) => _chosen is null ? row : _chosen[row];
}

/// <summary>
/// Rows of several files, numbered through from 0 in the order of the files, read in any order and from any thread.
/// </summary>
/// <typeparam name="T">What a row is read as.</typeparam>
internal sealed class TrainingDataSet<T> : IDisposable
{
    private readonly Func<JsonRow, T> _parse;
    private readonly int[] _firstRows;

    private TrainingDataSet(List<TrainingSource> sources, Func<JsonRow, T> parse, int rows)
    {
        Sources = sources;
        _parse = parse;
        _firstRows = [.. sources.Select(s => s.FirstRow)];
        Rows = rows;
    }

    /// <summary>The files that have rows, in order.</summary>
    public IReadOnlyList<TrainingSource> Sources { get; }

    /// <summary>Rows of all files, at least one.</summary>
    public int Rows { get; }

    /// <summary>Bytes of all files, after decompression.</summary>
    public long Length => Sources.Sum(s => s.File.Length);

    /// <summary>A number that changes when files are added, left out, reordered or changed in their layout: a run resumed on other data can be told.</summary>
    public ulong Fingerprint => Sources.Aggregate(0UL, (hash, s) => CounterRandom.Mix(CounterRandom.Mix(hash ^ s.File.Fingerprint) + (ulong)s.Rows));

    /// <summary>Opens and indexes the files, several at a time.</summary>
    /// <param name="inputs">Files and folders.</param>
    /// <param name="parse">Reads a row: takes what it needs out of the JSON and throws for what is malformed. Called from several threads.</param>
    /// <param name="options">Caps and checks.</param>
    /// <exception cref="BgeMetalException">A file cannot be read, a row is bad, or there is no row at all.</exception>
    public static TrainingDataSet<T> Open(IEnumerable<TrainingInput> inputs, Func<JsonRow, T> parse, TrainingDataOptions options)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(options.MaxRowsPerFile, 1, nameof(options));
        List<TrainingFileName> names = TrainingFileName.Expand(inputs);
        TrainingFile?[] files = new TrainingFile?[names.Count];
        try
        {
            OpenAll(names, files);
            if (options.Skipped is not null || files.Sum(f => f!.Length) <= options.CheckBytes)
                foreach (TrainingFile? file in files) file!.Check(parse, options.Skipped);
            return Join(names, files!, parse, options);
        }
        catch
        {
            foreach (TrainingFile? file in files) file?.Dispose();
            throw;
        }
    }

    /// <summary>Reads a row.</summary>
    /// <exception cref="BgeMetalException">The row is malformed, or the file cannot be read.</exception>
    public T Read(int row)
    {
        TrainingSource source = SourceOf(row);
        return source.File.Read(source.RowInFile(row - source.FirstRow), _parse);
    }

    /// <summary>The file that a row is in.</summary>
    public TrainingSource SourceOf(int row)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(row);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(row, Rows);
        int found = Array.BinarySearch(_firstRows, row);
        return Sources[found >= 0 ? found : ~found - 1];
    }

    /// <summary>Where a row stands.</summary>
    public RowPlace Place(int row)
    {
        TrainingSource source = SourceOf(row);
        return source.File.Place(source.RowInFile(row - source.FirstRow));
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (TrainingSource source in Sources) source.File.Dispose();
    }

    /// <summary>Opens all files; of several that fail, the first in order is the one reported.</summary>
    private static void OpenAll(List<TrainingFileName> names, TrainingFile?[] files)
    {
        BgeMetalException?[] errors = new BgeMetalException?[names.Count];
        Parallel.For(0, names.Count, i =>
        {
            try
            {
                files[i] = TrainingFile.Open(names[i].Path);
            }
            catch (BgeMetalException e)
            {
                errors[i] = e;
            }
        });
        foreach (BgeMetalException? error in errors)
            if (error is not null) throw error;
    }

    private static TrainingDataSet<T> Join(List<TrainingFileName> names, TrainingFile[] files, Func<JsonRow, T> parse, TrainingDataOptions options)
    {
        List<TrainingSource> sources = [];
        long rows = 0;
        for (int i = 0; i < files.Length; i++)
        {
            if (files[i].Rows == 0)
            {
                files[i].Dispose();
                continue;
            }

            int[]? chosen = files[i].Rows > options.MaxRowsPerFile ? Choose(files[i].Rows, options.MaxRowsPerFile, options.Seed, i) : null;
            sources.Add(new TrainingSource(names[i], files[i], (int)rows, chosen));
            rows += sources[^1].Rows;
            if (rows > int.MaxValue) throw new BgeMetalException("too much training data", $"the files have more than {int.MaxValue:N0} rows", names[i].Path);
        }

        if (rows == 0) throw new BgeMetalException("no training data", options.Skipped?.Count > 0 ? "every row is malformed" : "the files have no rows", names.Count > 0 ? names[0].Path : null, innerException: options.Skipped?.First);
        return new TrainingDataSet<T>(sources, parse, (int)rows);
    }

    /// <summary>Chooses rows uniformly and in ascending order: selection sampling (Knuth, TAOCP 2, 3.4.2, algorithm S).</summary>
    private static int[] Choose(int rows, int count, int seed, int file)
    {
        CounterRandom random = new(seed, RandomPurpose.RowsOfFile, file);
        int[] chosen = new int[count];
        for (int row = 0, taken = 0; taken < count; row++)
            if (random.Below(rows - row) < count - taken) chosen[taken++] = row;
        return chosen;
    }
}
