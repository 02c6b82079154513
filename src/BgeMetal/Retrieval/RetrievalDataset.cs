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
/// A retrieval test set: a folder in BEIR's layout (<c>corpus.jsonl</c> with rows <c>{"_id","title","text"}</c>, title optional, <c>queries.jsonl</c> with rows
/// <c>{"_id","text"}</c>, <c>qrels/SPLIT.tsv</c> with query id, passage id and relevance), in FlagEmbedding's (<c>corpus.jsonl</c>, <c>SPLIT_queries.jsonl</c> with rows
/// <c>{"id","text"}</c>, <c>SPLIT_qrels.jsonl</c> with rows <c>{"qid","docid","relevance"}</c>), or single files as FlagEmbedding's eval_msmarco takes them
/// (<see cref="LoadFiles"/>). <c>.gz</c> of each. The whole set is held in memory.
/// <para>A judgement of a passage that is not in the corpus stays: as in trec_eval it counts as relevant and cannot be found (<see cref="UnknownPassages"/>). A judged
/// query that is not in the queries cannot be asked: it is dropped (<see cref="UnknownQueries"/>). Twice the same id is an error, and so is judging a pair twice differently.</para>
/// </summary>
public sealed class RetrievalDataset
{
    private const string Failure = "cannot read the data set";
    private static readonly string[] s_endings = [".jsonl", ".jsonl.gz"];

    private RetrievalDataset(Place place, IReadOnlyList<RetrievalPassage> corpus, IReadOnlyList<RetrievalQuery> queries, Judgements judgements)
    {
        (Directory, Name, Split) = place;
        Corpus = corpus;
        Queries = queries;
        Judgements = judgements;
    }

    /// <summary>The folder the set was read from; of single files, the corpus's.</summary>
    public string Directory { get; }

    /// <summary>The folder's name; of single files, the name of the queries' file without its ending.</summary>
    public string Name { get; }

    /// <summary>The split whose judgements were read: "test", "dev" or "train" mostly; empty for single files.</summary>
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

    /// <summary>Whether a folder has a corpus, as both layouts call it.</summary>
    public static bool HasCorpus(string directory) => s_endings.Any(ending => File.Exists(Path.Combine(directory, "corpus" + ending)));

    /// <summary>Reads a set from a folder.</summary>
    /// <param name="directory">The folder, of either layout.</param>
    /// <param name="split">Which judgements to read.</param>
    /// <exception cref="BgeMetalException">A file is missing or a row is bad (with file and line), or no judged query is there.</exception>
    public static RetrievalDataset Load(string directory, string split = "test")
    {
        if (!System.IO.Directory.Exists(directory)) throw new BgeMetalException(Failure, "there is no such folder", directory);
        string corpus = Find(directory, "corpus");
        return Load(directory, split, RetrievalRows.Corpus(corpus, numbered: false), corpus);
    }

    /// <summary>Reads a set from single files, as FlagEmbedding's eval_msmarco takes them: rows <c>{"content"}</c> and <c>{"query","positive":[..]}</c>, or any other rows of this class.</summary>
    /// <param name="corpusFile">The passages; a row without an id goes by its line.</param>
    /// <param name="queryFile">The queries, likewise.</param>
    /// <param name="judgementFile">The judgements (see <see cref="Judgements.Read"/>). Null where every query's row has its <c>positive</c> passages: texts that are looked up in
    /// the corpus. There a text that the corpus has several times counts once.</param>
    /// <exception cref="BgeMetalException">A file is missing or a row is bad (with file and line), or no judged query is there.</exception>
    public static RetrievalDataset LoadFiles(string corpusFile, string queryFile, string? judgementFile = null)
    {
        List<RetrievalPassage> corpus = RetrievalRows.Corpus(corpusFile, numbered: true);
        List<QueryRow> queries = RetrievalRows.Queries(queryFile, numbered: true);
        string name = Path.GetFileName(queryFile);
        name = name[..(name.IndexOf('.', 1) is var dot and > 0 ? dot : name.Length)];
        Place place = new(Path.GetDirectoryName(corpusFile) ?? "", name, "");
        return judgementFile is null
            ? WithPositives(place, corpus, queries, corpusFile, queryFile)
            : WithJudgements(place, corpus, queries, (corpusFile, queryFile, judgementFile));
    }

    /// <summary>Another split of a folder; the corpus is shared.</summary>
    /// <exception cref="BgeMetalException">As of <see cref="Load(string, string)"/>.</exception>
    public RetrievalDataset OfSplit(string split) => Load(Directory, split, Corpus, Find(Directory, "corpus"));

    private static RetrievalDataset Load(string directory, string split, IReadOnlyList<RetrievalPassage> corpus, string corpusFile)
    {
        bool ofFlagEmbedding = s_endings.Any(ending => File.Exists(Path.Combine(directory, split + "_qrels" + ending)));
        string judgementFile = ofFlagEmbedding ? Find(directory, split + "_qrels") : FindSplit(directory, split);
        string queryFile = Find(directory, ofFlagEmbedding ? split + "_queries" : "queries");
        string name = Path.GetFileName(Path.TrimEndingDirectorySeparator(Path.GetFullPath(directory)));
        return WithJudgements(new Place(directory, name, split), corpus, RetrievalRows.Queries(queryFile, numbered: false), (corpusFile, queryFile, judgementFile));
    }

    private static RetrievalDataset WithJudgements(Place place, IReadOnlyList<RetrievalPassage> corpus, List<QueryRow> queries, (string Corpus, string Queries, string Judgements) files)
    {
        HashSet<string> passages = new(corpus.Select(passage => passage.Id), StringComparer.Ordinal);
        Judgements all = Judgements.Read(files.Judgements), known = new();
        int unknownPassages = 0;
        foreach (QueryRow row in queries)
            foreach ((string passage, int relevance) in all.Of(row.Query.Id))
            {
                known.Add(row.Query.Id, passage, relevance);
                if (!passages.Contains(passage)) unknownPassages++;
            }

        int unknownQueries = all.Queries.Count - known.Queries.Count;
        if (known.Queries.Count == 0) throw new BgeMetalException(Failure, $"none of the {all.Queries.Count} judged queries is in {files.Queries}", files.Judgements);
        List<string> warnings = [];
        if (unknownQueries > 0) warnings.Add($"{files.Judgements}: {unknownQueries} judged queries are not in {files.Queries}; they are left out");
        if (unknownPassages > 0) warnings.Add($"{files.Judgements}: {unknownPassages} judgements name passages that are not in {files.Corpus}; they cannot be found");
        return new RetrievalDataset(place, corpus, Judged(queries, known), known) { UnknownPassages = unknownPassages, UnknownQueries = unknownQueries, Warnings = warnings };
    }

    private static RetrievalDataset WithPositives(Place place, List<RetrievalPassage> corpus, List<QueryRow> queries, string corpusFile, string queryFile)
    {
        Dictionary<string, string> idOf = new(StringComparer.Ordinal);
        List<RetrievalPassage> different = [.. corpus.Where(passage => idOf.TryAdd(passage.Text, passage.Id))];
        Judgements known = new();
        int unknown = 0;
        foreach (QueryRow row in queries)
        {
            string[] positives = row.Positives
                ?? throw new BgeMetalException("bad input", "\"positive\" is missing: the list of the passages that answer the query was expected, or a file of judgements (--qrels)", queryFile, row.Line);
            foreach (string text in positives.Distinct(StringComparer.Ordinal))
                known.Add(row.Query.Id, idOf.TryGetValue(text, out string? id) ? id : $"{row.Query.Id} positive {++unknown}", 1);
        }

        if (known.Count == 0) throw new BgeMetalException(Failure, "no query has a positive passage", queryFile);
        List<string> warnings = [];
        if (unknown > 0) warnings.Add($"{queryFile}: {unknown} positive passages are not in {corpusFile}; they cannot be found");
        if (different.Count < corpus.Count) warnings.Add($"{corpusFile}: {corpus.Count - different.Count} passages repeat an earlier one; each text counts once");
        return new RetrievalDataset(place, different, Judged(queries, known), known) { UnknownPassages = unknown, Warnings = warnings };
    }

    private static List<RetrievalQuery> Judged(List<QueryRow> queries, Judgements known) => [.. queries.Select(row => row.Query).Where(query => known.Of(query.Id).Count > 0)];

    private static string Find(string directory, string name) => s_endings.Select(ending => Path.Combine(directory, name + ending)).FirstOrDefault(File.Exists)
        ?? throw new BgeMetalException(Failure, $"it has no {name}.jsonl and no {name}.jsonl.gz", directory);

    private static string FindSplit(string directory, string split)
    {
        string folder = Path.Combine(directory, "qrels"), path = Path.Combine(folder, split + ".tsv");
        if (File.Exists(path)) return path;
        if (File.Exists(path + ".gz")) return path + ".gz";
        string[] others = [.. System.IO.Directory.EnumerateFiles(directory, "*_qrels.jsonl*").Select(f => Path.GetFileName(f).Split("_qrels.jsonl")[0]).Order(StringComparer.Ordinal)];
        if (others.Length == 0 && !System.IO.Directory.Exists(folder)) throw new BgeMetalException(Failure, $"it has no folder qrels and no {split}_qrels.jsonl", directory);
        if (others.Length == 0) others = [.. System.IO.Directory.EnumerateFiles(folder, "*.tsv*").Select(f => Path.GetFileName(f).Split(".tsv")[0]).Order(StringComparer.Ordinal)];
        throw new BgeMetalException(Failure, $"there is no split \"{split}\", only: {string.Join(", ", others)}", System.IO.Directory.Exists(folder) ? folder : directory);
    }

    /// <summary>Where a set comes from and what it is called.</summary>
    private readonly record struct Place(string Directory, string Name, string Split);
}
