using System.Globalization;
using System.IO.Compression;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text.Json;
using BgeMetal.Testing;
using BgeMetal.Text;

namespace BgeMetal.Tests.Text;

/// <summary>The reference implementation's output, row by row, and digests of whole data sets.</summary>
public sealed class TokenizerFixtureTests
{
    [Fact]
    public void Every_fixture_row_is_identical()
    {
        string[] files = Directory.GetFiles(SharedFolder.FixtureOrSkip("tokenizer"), "*.jsonl");
        Assert.NotEmpty(files);
        List<string> wrong = [];
        foreach (string file in files)
        {
            ModelTokenizer tokenizer = SharedTokenizers.LoadOrSkip(Path.GetFileNameWithoutExtension(file));
            foreach (string line in System.IO.File.ReadLines(file))
            {
                using JsonDocument row = JsonDocument.Parse(line);
                Compare(tokenizer, row.RootElement, wrong);
            }
        }
        Assert.True(wrong.Count == 0, $"{wrong.Count} differences:\n{string.Join('\n', wrong.Take(20))}");
    }

    [Theory]
    [InlineData("bert-base-uncased", "bert-base-uncased", "vocab.txt")]
    [InlineData("bert-base-uncased", "bge-large-en", "tokenizer.json")]
    [InlineData("bert-base-chinese", "bert-base-chinese", "vocab.txt", "tokenizer_config.json")]
    [InlineData("xlm-roberta", "xlm-roberta", "sentencepiece.bpe.model")]
    [InlineData("xlm-roberta", "xlm-roberta", "sentencepiece.bpe.model", "tokenizer_config.json")]
    public void The_other_files_of_a_family_give_the_same_rows(string fixture, string folder, params string[] files)
    {
        ModelTokenizer tokenizer = SharedTokenizers.LoadOnlyOrSkip(folder, files);
        List<string> wrong = [];
        foreach (string line in System.IO.File.ReadLines(SharedFolder.FixtureOrSkip("tokenizer", fixture + ".jsonl")))
        {
            using JsonDocument row = JsonDocument.Parse(line);
            Compare(tokenizer, row.RootElement, wrong);
        }
        Assert.True(wrong.Count == 0, $"{wrong.Count} differences:\n{string.Join('\n', wrong.Take(20))}");
    }

    [Fact]
    public void Every_passage_of_the_data_sets_has_the_reference_digest()
    {
        string[] files = Directory.GetFiles(SharedFolder.FixtureOrSkip("tokenizer", "corpus"), "*.tsv");
        Assert.NotEmpty(files);
        List<string> wrong = [];
        foreach (string file in files)
        {
            string[] name = Path.GetFileNameWithoutExtension(file).Split('.');
            ModelTokenizer tokenizer = SharedTokenizers.LoadOrSkip(name[0]);
            Dictionary<string, string> texts = ReadCorpus(SharedFolder.DataOrSkip("retrieval", name[1]));
            TokenBuffer buffer = new(1024);
            foreach (string line in System.IO.File.ReadLines(file))
            {
                string[] row = line.Split('\t');
                buffer.Clear();
                tokenizer.EncodeTo(texts[row[0]], 0, ref buffer);
                string digest = Convert.ToHexStringLower(SHA256.HashData(MemoryMarshal.AsBytes(buffer.Ids)))[..16];
                if (buffer.Count != int.Parse(row[1], CultureInfo.InvariantCulture) || digest != row[2]) wrong.Add($"{Path.GetFileName(file)} {row[0]}");
            }
        }
        Assert.True(wrong.Count == 0, $"{wrong.Count} passages differ: {string.Join(", ", wrong.Take(20))}");
    }

    internal static Dictionary<string, string> ReadCorpus(string folder)
    {
        string file = Directory.GetFiles(folder, "corpus.jsonl*").Single();
        using Stream raw = System.IO.File.OpenRead(file);
        using Stream stream = file.EndsWith(".gz", StringComparison.Ordinal) ? new GZipStream(raw, CompressionMode.Decompress) : raw;
        using StreamReader reader = new(stream);
        Dictionary<string, string> texts = [];
        while (reader.ReadLine() is { } line)
        {
            using JsonDocument row = JsonDocument.Parse(line);
            string title = row.RootElement.TryGetProperty("title", out JsonElement t) ? t.GetString()! : "", text = row.RootElement.GetProperty("text").GetString()!;
            texts.Add(row.RootElement.GetProperty("_id").GetString()!, title.Length > 0 ? title + "\n" + text : text);
        }
        return texts;
    }

    private static void Compare(ModelTokenizer tokenizer, JsonElement row, List<string> wrong)
    {
        string text = row.GetProperty("text").GetString()!;
        string? pair = row.GetProperty("pair").GetString();
        bool special = row.GetProperty("add_special_tokens").GetBoolean();
        int? maxLength = row.GetProperty("max_length").ValueKind == JsonValueKind.Null ? null : row.GetProperty("max_length").GetInt32();
        TruncationStrategy strategy = row.GetProperty("truncation").GetString() switch
        {
            null or "longest_first" => TruncationStrategy.LongestFirst,
            "only_first" => TruncationStrategy.OnlyFirst,
            "only_second" => TruncationStrategy.OnlySecond,
            string other => throw new InvalidDataException(other),
        };
        int[] ids = Integers(row, "ids"), types = Integers(row, "type_ids"), mask = Integers(row, "special_tokens_mask");
        string id = row.GetProperty("id").GetString()!;
        TokenizedText fast = tokenizer.Encode(text, pair, special, maxLength, strategy);
        TokenizedText slow = tokenizer.EncodeWithOffsets(text, pair, special, maxLength, strategy);
        foreach ((string path, TokenizedText got) in ((string, TokenizedText)[])[("fast", fast), ("offsets", slow)])
        {
            if (!ids.SequenceEqual(got.InputIds)) wrong.Add($"{id} {path} ids: {string.Join(' ', got.InputIds)} not {string.Join(' ', ids)}");
            if (!types.SequenceEqual(got.TokenTypeIds)) wrong.Add($"{id} {path} types");
            if (!mask.SequenceEqual(got.SpecialTokensMask)) wrong.Add($"{id} {path} mask");
        }
        string[] tokens = [.. row.GetProperty("tokens").EnumerateArray().Select(t => t.GetString()!)];
        if (!tokens.SequenceEqual(slow.Tokens!)) wrong.Add($"{id} tokens: {string.Join(' ', slow.Tokens!)} not {string.Join(' ', tokens)}");
        (int, int)[] offsets = [.. row.GetProperty("offsets").EnumerateArray().Select(o => (o[0].GetInt32(), o[1].GetInt32()))];
        if (!offsets.SequenceEqual(slow.Offsets!)) wrong.Add($"{id} offsets: {string.Join(' ', slow.Offsets!)} not {string.Join(' ', offsets)}");
        if (pair is null && special && strategy != TruncationStrategy.OnlySecond)
        {
            TokenBuffer buffer = default;
            tokenizer.EncodeTo(text, maxLength ?? 0, ref buffer);
            if (!buffer.Ids.SequenceEqual(ids)) wrong.Add($"{id} EncodeTo");
        }
    }

    private static int[] Integers(JsonElement row, string name) => [.. row.GetProperty(name).EnumerateArray().Select(v => v.GetInt32())];
}
