using System.CommandLine;
using BgeMetal.Cli.Parsing;
using BgeMetal.Retrieval;

namespace BgeMetal.Cli.Evaluation;

/// <summary>A data set and what it is called in tables and file names.</summary>
internal sealed record NamedDataset(string Label, RetrievalDataset Data);

/// <summary>The options that say what to evaluate on: folders with their splits, or single files as FlagEmbedding's eval_msmarco takes them.</summary>
internal sealed class EvaluationDataOptionSet
{
    private readonly CliOption<string[]> _folders = Opt.Texts("--data", "DIR", "Folders in BEIR's layout (corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv) or FlagEmbedding's (corpus.jsonl, SPLIT_queries.jsonl, SPLIT_qrels.jsonl), .gz of each", "dataset-dir", "eval-data");
    private readonly CliOption<string[]> _names = Opt.Texts("--dataset-names", "NAME", "Folders within --data; all that are there when --data has no corpus of its own");
    private readonly CliOption<string[]> _splits = Opt.Texts("--split", "NAME", "Which judgements: test by default", "splits");
    private readonly CliOption<string?> _corpus = Opt.Text("--corpus-data", "FILE", "Instead of --data: passages {\"content\"} or {\"id\",\"title\",\"text\"}, or MS MARCO's collection.tsv");
    private readonly CliOption<string?> _queries = Opt.Text("--query-data", "FILE", "With it: queries {\"query\",\"positive\":[..]} or {\"id\",\"text\"}, or MS MARCO's queries.tsv");
    private readonly CliOption<string?> _qrels = Opt.Text("--qrels", "FILE", "With it: judgements {\"qid\",\"docid\",\"relevance\"}, BEIR's or TREC's fields; the queries' positives by default");

    public void AddTo(Command command)
    {
        foreach (Option option in (Option[])[_folders, _names, _splits, _corpus, _queries, _qrels]) command.Add(option);
    }

    /// <summary>Whether there is something to evaluate on.</summary>
    public bool IsGiven(ParseResult parsed) => parsed.GetValue(_folders)!.Length > 0 || HasFiles(parsed);

    /// <summary>Whether that is single files.</summary>
    public bool HasFiles(ParseResult parsed) => parsed.GetValue(_corpus) is not null || parsed.GetValue(_queries) is not null;

    /// <summary>Reads the data sets; splits of a folder share the corpus and follow one another.</summary>
    /// <exception cref="UsageException">The options contradict one another, or nothing is named.</exception>
    public IReadOnlyList<NamedDataset> Read(ParseResult parsed)
    {
        string[] folders = parsed.GetValue(_folders)!;
        if (!HasFiles(parsed))
        {
            if (folders.Length == 0) throw new UsageException("there is nothing to evaluate on: give --data DIR, or --corpus-data FILE with --query-data FILE");
            if (parsed.GetValue(_qrels) is not null) throw new UsageException("--qrels needs --corpus-data and --query-data");
            return Distinct(ReadFolders([.. folders.SelectMany(folder => Expanded(folder, parsed.GetValue(_names)!))], parsed.GetValue(_splits)!));
        }
        if (folders.Length > 0) throw InputOption.Contradiction(_folders, _corpus);
        if (parsed.GetValue(_corpus) is not { } corpus || parsed.GetValue(_queries) is not { } queries) throw new UsageException("--corpus-data and --query-data are given together");
        RetrievalDataset data = RetrievalDataset.LoadFiles(corpus, queries, parsed.GetValue(_qrels));
        return [new NamedDataset(data.Name, data)];
    }

    private static IEnumerable<string> Expanded(string folder, string[] names)
    {
        if (names.Length > 0) return names.Select(name => Path.Combine(folder, name));
        if (!Directory.Exists(folder) || RetrievalDataset.HasCorpus(folder)) return [folder];
        string[] inside = [.. Directory.GetDirectories(folder).Where(RetrievalDataset.HasCorpus).Order(StringComparer.Ordinal)];
        return inside.Length > 0 ? inside : [folder];
    }

    private static List<NamedDataset> ReadFolders(string[] folders, string[] splits)
    {
        List<NamedDataset> all = [];
        foreach (string folder in folders)
        {
            RetrievalDataset? first = null;
            foreach (string split in splits.Length > 0 ? splits : ["test"])
            {
                RetrievalDataset data = first is null ? RetrievalDataset.Load(folder, split) : first.OfSplit(split);
                first ??= data;
                all.Add(new NamedDataset(splits.Length > 1 ? $"{data.Name}-{split}" : data.Name, data));
            }
        }
        return all;
    }

    /// <summary>Numbers the second and later of equal labels, which name files.</summary>
    private static List<NamedDataset> Distinct(List<NamedDataset> all)
    {
        HashSet<string> used = new(StringComparer.Ordinal);
        return [.. all.Select(set =>
        {
            string label = set.Label;
            for (int i = 2; !used.Add(label); i++) label = $"{set.Label}-{i}";
            return set with { Label = label };
        })];
    }
}
