namespace BgeMetal.Data.Training;

/// <summary>A file or folder of training data as the user names it.</summary>
/// <param name="Path">A <c>.jsonl</c> or <c>.json</c> file (both JSON lines), its <c>.gz</c>, or a folder.</param>
/// <param name="Task">The LLM-Embedder's task for all its rows, or null.</param>
/// <param name="Prompt">The query instruction for its rows that have no <c>prompt</c> of their own, or null for the run's.</param>
internal sealed record TrainingInput(string Path, string? Task = null, string? Prompt = null)
{
    /// <summary>Reads <c>TASK:FILE</c> or <c>FILE</c>. What exists under its whole name is a file; a single letter before the colon is a drive, not a task.</summary>
    public static TrainingInput ParseTask(string argument)
    {
        int colon = argument.IndexOf(':', StringComparison.Ordinal);
        if (colon < 2 || colon == argument.Length - 1 || System.IO.Path.Exists(argument)) return new TrainingInput(argument);
        string task = argument[..colon];
        return task.All(c => char.IsAsciiLetterOrDigit(c) || c is '_' or '-') ? new TrainingInput(argument[(colon + 1)..], task) : new TrainingInput(argument);
    }
}

/// <summary>One file of a data set, with what its name and its folder say about it.</summary>
/// <param name="Path">The file.</param>
/// <param name="Input">The argument it came from, which also groups the small files of one folder.</param>
/// <param name="InFolder">Whether <paramref name="Input"/> is a folder.</param>
/// <param name="NoInBatchNegatives">Whether its rows take no negatives from other rows of the batch.</param>
internal sealed record TrainingFileName(string Path, TrainingInput Input, bool InFolder, bool NoInBatchNegatives)
{
    private const string Suffix = "no_in_batch_neg";
    private static readonly string[] s_endings = [".jsonl", ".json", ".jsonl.gz", ".json.gz"];

    /// <summary>
    /// The files of the arguments: files in the order given; of a folder every <c>.jsonl</c>, <c>.json</c> and their <c>.gz</c> below it in ordinal order of their
    /// paths, names that start with a dot left out. As in FlagEmbedding, a name that ends in <c>no_in_batch_neg</c> (of the file without its endings, of the folder
    /// given, or of a folder between) turns in-batch negatives off.
    /// </summary>
    /// <exception cref="BgeMetalException">There is no such file or folder, a folder holds no data, or it may not be read.</exception>
    public static List<TrainingFileName> Expand(IEnumerable<TrainingInput> inputs)
    {
        List<TrainingFileName> files = [];
        foreach (TrainingInput input in inputs)
        {
            if (!Directory.Exists(input.Path)) files.Add(new TrainingFileName(input.Path, input, false, HasSuffix(Stem(input.Path))));
            else files.AddRange(Below(input));
        }

        return files;
    }

    private static List<TrainingFileName> Below(TrainingInput input)
    {
        List<string> relative = [];
        try
        {
            EnumerationOptions all = new() { RecurseSubdirectories = true, MaxRecursionDepth = 16, IgnoreInaccessible = false };
            foreach (string path in Directory.EnumerateFiles(input.Path, "*", all))
            {
                string below = System.IO.Path.GetRelativePath(input.Path, path);
                if (Stem(below) != below && !Parts(below).Any(part => part.StartsWith('.'))) relative.Add(below);
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new BgeMetalException("cannot read", e.Message, input.Path, innerException: e);
        }

        if (relative.Count == 0) throw new BgeMetalException("no training data", "the folder holds no .jsonl or .json file", input.Path);
        relative.Sort(StringComparer.Ordinal);
        bool whole = HasSuffix(System.IO.Path.TrimEndingDirectorySeparator(System.IO.Path.GetFullPath(input.Path)));
        return relative.ConvertAll(below => new TrainingFileName(System.IO.Path.Combine(input.Path, below), input, true, whole || Parts(Stem(below)).Any(HasSuffix)));
    }

    private static string[] Parts(string path) => path.Split(System.IO.Path.DirectorySeparatorChar, System.IO.Path.AltDirectorySeparatorChar);

    private static bool HasSuffix(string name) => name.EndsWith(Suffix, StringComparison.Ordinal);

    private static string Stem(string path)
    {
        foreach (string ending in s_endings)
            if (path.EndsWith(ending, StringComparison.OrdinalIgnoreCase)) return path[..^ending.Length];
        return path;
    }
}
