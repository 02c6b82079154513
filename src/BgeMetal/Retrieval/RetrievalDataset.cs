using BgeMetal.Data;

namespace BgeMetal.Retrieval;

/// <summary>A passage of a corpus.</summary>
/// <param name="Id">Its <c>_id</c>.</param>
/// <param name="Title">Its title; empty where there is none.</param>
/// <param name="Text">Its text; may be empty.</param>
public readonly record struct RetrievalPassage(string Id, string Title, string Text)
{
    /// <summary>What is embedded: title, one space and text, without blanks at the ends, as BEIR and FlagEmbedding join them. May be empty.</summary>
    public string FullText => TextInputReader.JoinTitle(Title, Text);
}

/// <summary>A query.</summary>
/// <param name="Id">Its <c>_id</c>.</param>
/// <param name="Text">Its text.</param>
public readonly record struct RetrievalQuery(string Id, string Text);

/// <summary>
/// A retrieval test set in BEIR's layout: <c>corpus.jsonl[.gz]</c> with rows <c>{"_id","title","text"}</c> (title optional), <c>queries.jsonl[.gz]</c> with rows
/// <c>{"_id","text"}</c>, and <c>qrels/SPLIT.tsv[.gz]</c> with query id, passage id and relevance. The whole set is held in memory.
/// <para>A judgement of a passage that is not in the corpus stays: as in trec_eval it counts as relevant and cannot be found (<see cref="UnknownPassages"/>). A judged
/// query that is not in the queries cannot be asked: it is dropped (<see cref="UnknownQueries"/>). Twice the same id is an error, and so is judging a pair twice differently.</para>
/// </summary>
public sealed class RetrievalDataset
{
    private RetrievalDataset(string directory, string split, IReadOnlyList<RetrievalPassage> corpus, IReadOnlyList<RetrievalQuery> queries, Judgements judgements)
    {
        Directory = directory;
        Split = split;
        Corpus = corpus;
        Queries = queries;
        Judgements = judgements;
    }

    /// <summary>The folder the set was read from.</summary>
    public string Directory { get; }

    /// <summary>The folder's name.</summary>
    public string Name => Path.GetFileName(Path.TrimEndingDirectorySeparator(Path.GetFullPath(Directory)));

    /// <summary>The split whose judgements were read: "test", "dev" or "train" mostly.</summary>
    public string Split { get; }

    /// <summary>All passages, in the file's order.</summary>
    public IReadOnlyList<RetrievalPassage> Corpus { get; }

    /// <summary>The queries that this split judges, in the file's order.</summary>
    public IReadOnlyList<RetrievalQuery> Queries { get; }

    /// <summary>The judgements of <see cref="Queries"/>.</summary>
    public Judgements Judgements { get; }

    /// <summary>Judgements that name a passage outside the corpus.</summary>
    public int UnknownPassages { get; private init; }

    /// <summary>Judged queries that are not in the file of queries.</summary>
    public int UnknownQueries { get; private init; }

    /// <summary>One line for each thing that is odd but no error; to be shown to the user.</summary>
    public IReadOnlyList<string> Warnings { get; private init; } = [];

    /// <summary>Reads a set.</summary>
    /// <param name="directory">The folder.</param>
    /// <param name="split">Which file of <c>qrels</c> to read.</param>
    /// <exception cref="BgeMetalException">A file is missing or a row is bad (with file and line), or no judged query is there.</exception>
    public static RetrievalDataset Load(string directory, string split = "test")
    {
        if (!System.IO.Directory.Exists(directory)) throw new BgeMetalException("cannot read the data set", "there is no such folder", directory);
        string corpusFile = Find(directory, "corpus.jsonl"), queryFile = Find(directory, "queries.jsonl"), judgementFile = FindSplit(directory, split);
        Dictionary<string, int> passageIds = new(StringComparer.Ordinal);
        List<RetrievalPassage> corpus = ReadRows(corpusFile, passageIds, row => new RetrievalPassage(Id(row), row.Text("title") ?? "", row.RequiredText("text")), p => p.Id);
        Dictionary<string, int> queryIds = new(StringComparer.Ordinal);
        List<RetrievalQuery> queries = ReadRows(queryFile, queryIds, row => new RetrievalQuery(Id(row), row.RequiredText("text")), q => q.Id);

        Judgements all = Judgements.Read(judgementFile);
        Judgements known = new();
        int unknownPassages = 0;
        foreach (RetrievalQuery query in queries)
            foreach ((string passage, int relevance) in all.Of(query.Id))
            {
                known.Add(query.Id, passage, relevance);
                if (!passageIds.ContainsKey(passage)) unknownPassages++;
            }

        int unknownQueries = all.Queries.Count - known.Queries.Count;
        if (known.Queries.Count == 0)
            throw new BgeMetalException("cannot read the data set", $"none of the {all.Queries.Count} judged queries is in {queryFile}", judgementFile);
        List<string> warnings = [];
        if (unknownQueries > 0) warnings.Add($"{judgementFile}: {unknownQueries} judged queries are not in {queryFile}; they are left out");
        if (unknownPassages > 0) warnings.Add($"{judgementFile}: {unknownPassages} judgements name passages that are not in {corpusFile}; they cannot be found");
        return new RetrievalDataset(directory, split, corpus, [.. queries.Where(q => known.Of(q.Id).Count > 0)], known)
        {
            UnknownPassages = unknownPassages,
            UnknownQueries = unknownQueries,
            Warnings = warnings,
        };
    }

    private static string Id(JsonRow row) => row.Identifier("_id") ?? throw row.Missing("_id", "a string");

    private static List<T> ReadRows<T>(string path, Dictionary<string, int> lines, Func<JsonRow, T> make, Func<T, string> idOf)
    {
        List<T> rows = [];
        using JsonLineReader reader = JsonLineReader.Open(path);
        while (reader.TryRead(out JsonRow row))
        {
            T item = make(row);
            if (!lines.TryAdd(idOf(item), (int)row.Line)) throw row.Error($"\"_id\" \"{idOf(item)}\" was already used in line {lines[idOf(item)]}");
            rows.Add(item);
        }

        return rows.Count > 0 ? rows : throw new BgeMetalException("cannot read the data set", "the file has no rows", path);
    }

    private static string Find(string directory, string name)
    {
        string path = Path.Combine(directory, name);
        if (File.Exists(path)) return path;
        return File.Exists(path + ".gz") ? path + ".gz" : throw new BgeMetalException("cannot read the data set", $"it has no {name} and no {name}.gz", directory);
    }

    private static string FindSplit(string directory, string split)
    {
        string folder = Path.Combine(directory, "qrels"), path = Path.Combine(folder, split + ".tsv");
        if (File.Exists(path)) return path;
        if (File.Exists(path + ".gz")) return path + ".gz";
        if (!System.IO.Directory.Exists(folder)) throw new BgeMetalException("cannot read the data set", "it has no folder qrels", directory);
        IEnumerable<string> there = System.IO.Directory.EnumerateFiles(folder, "*.tsv*").Select(f => Path.GetFileName(f).Split(".tsv")[0]).Order(StringComparer.Ordinal);
        throw new BgeMetalException("cannot read the data set", $"there is no split \"{split}\", only: {string.Join(", ", there)}", folder);
    }
}
