using System.IO.Compression;
using System.Text.Json;
using BenchmarkDotNet.Attributes;
using BenchmarkDotNet.Columns;
using BenchmarkDotNet.Configs;
using BenchmarkDotNet.Reports;
using BenchmarkDotNet.Running;
using BgeMetal.Text;

namespace BgeMetal.Benchmarks;

/// <summary>
/// Tokens a second of one thread: ids only, special tokens included. With the shared data beside the checkout the text is a retrieval corpus and the
/// vocabulary a published one; without it, text made of random words and a vocabulary learnt from it (WordPiece only).
/// </summary>
[Config(typeof(TokensPerSecond))]
[MemoryDiagnoser]
public class TokenizerBenchmarks
{
    private ModelTokenizer _tokenizer = null!;
    private List<string> _texts = [];
    private TokenBuffer _buffer = new(1 << 16);

    /// <summary>Tokenizer and corpus.</summary>
    [Params("bert-en", "bert-zh", "xlm-roberta-en", "xlm-roberta-zh", "generated")]
    public string Case { get; set; } = "";

    [GlobalSetup]
    public void Load()
    {
        (_tokenizer, _texts) = Read(Case);
        Console.WriteLine($"// tokens a pass: {Encode()}");
    }

    [Benchmark]
    public long Encode()
    {
        long tokens = 0;
        foreach (string text in _texts)
        {
            _buffer.Clear();
            _tokenizer.EncodeTo(text, 0, ref _buffer);
            tokens += _buffer.Count;
        }
        return tokens;
    }

    /// <summary>Loads a case; cases whose data is missing fall back to generated text.</summary>
    internal static (ModelTokenizer Tokenizer, List<string> Texts) Read(string name)
    {
        (string folder, string set) = name switch
        {
            "bert-en" => ("bert-base-uncased", "squad-en"),
            "bert-zh" => ("bert-base-chinese", "cmrc-zh"),
            "xlm-roberta-en" => ("xlm-roberta", "squad-en"),
            "xlm-roberta-zh" => ("xlm-roberta", "cmrc-zh"),
            _ => ("", ""),
        };
        if (folder.Length == 0 || FindData() is not { } data) return Generate();
        List<string> texts = [];
        string file = Directory.GetFiles(Path.Combine(data, "retrieval", set), "corpus.jsonl*").Single();
        using StreamReader reader = new(file.EndsWith(".gz", StringComparison.Ordinal) ? new GZipStream(File.OpenRead(file), CompressionMode.Decompress) : File.OpenRead(file));
        while (reader.ReadLine() is { } line)
        {
            using JsonDocument row = JsonDocument.Parse(line);
            texts.Add(row.RootElement.GetProperty("text").GetString()!);
        }
        return (ModelTokenizer.Load(Path.Combine(data, "tokenizers", folder)), texts);
    }

    private static (ModelTokenizer, List<string>) Generate()
    {
        Random random = new(42);
        string[] words = [.. Enumerable.Range(0, 5000).Select(_ => new string([.. Enumerable.Range(0, random.Next(2, 11)).Select(_ => (char)('a' + random.Next(26)))]))];
        List<string> texts = [.. Enumerable.Range(0, 500).Select(_ => string.Join(' ', Enumerable.Range(0, 120).Select(_ => words[(int)(5000 * Math.Pow(random.NextDouble(), 3))])) + ".")];
        WordPieceTrainer trainer = new(new WordPieceTrainerOptions { VocabularySize = 3000 });
        trainer.AddRange(texts);
        string folder = Directory.CreateTempSubdirectory("bgemetal-").FullName;
        trainer.Save(folder, trainer.Train());
        ModelTokenizer tokenizer = ModelTokenizer.Load(folder);
        Directory.Delete(folder, recursive: true);
        return (tokenizer, texts);
    }

    private static string? FindData()
    {
        if (Environment.GetEnvironmentVariable("BGEMETAL_DATA") is { Length: > 0 } path) return path;
        for (DirectoryInfo? folder = new(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
            if (Path.Combine(folder.FullName, "..", "shared", "data") is var data && File.Exists(Path.Combine(folder.FullName, "BgeMetal.sln")))
                return Directory.Exists(data) ? data : null;
        return null;
    }

    private sealed class TokensPerSecond : ManualConfig
    {
        public TokensPerSecond() => AddColumn(new TokensColumn());
    }

    /// <summary>Millions of tokens a second, from the median time of a pass.</summary>
    private sealed class TokensColumn : IColumn
    {
        private readonly Dictionary<string, long> _tokens = [];

        public string Id => nameof(TokensColumn);
        public string ColumnName => "M tokens/s";
        public bool AlwaysShow => true;
        public ColumnCategory Category => ColumnCategory.Custom;
        public int PriorityInCategory => 0;
        public bool IsNumeric => true;
        public UnitType UnitType => UnitType.Dimensionless;
        public string Legend => "Millions of tokens a second of one thread";
        public bool IsAvailable(Summary summary) => true;
        public bool IsDefault(Summary summary, BenchmarkCase benchmarkCase) => false;
        public string GetValue(Summary summary, BenchmarkCase benchmarkCase, SummaryStyle style) => GetValue(summary, benchmarkCase);

        public string GetValue(Summary summary, BenchmarkCase benchmarkCase)
        {
            if (summary[benchmarkCase]?.ResultStatistics is not { } statistics) return "-";
            string name = (string)benchmarkCase.Parameters["Case"];
            if (!_tokens.TryGetValue(name, out long tokens))
            {
                TokenizerBenchmarks run = new();
                (run._tokenizer, run._texts) = Read(name);
                _tokens[name] = tokens = run.Encode();
            }
            return (tokens / statistics.Median * 1e3).ToString("F2", System.Globalization.CultureInfo.InvariantCulture);
        }
    }
}
