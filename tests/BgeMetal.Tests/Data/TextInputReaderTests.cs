using System.IO.Compression;
using System.Text;
using BgeMetal.Data;
using BgeMetal.Testing;

namespace BgeMetal.Tests.Data;

public sealed class TextInputReaderTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("bgemetal-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private string Write(string name, string text) => WriteBytes(name, Encoding.UTF8.GetBytes(text));

    private string WriteBytes(string name, byte[] bytes)
    {
        string path = Path.Combine(_folder, name);
        using Stream file = File.Create(path);
        using Stream stream = name.EndsWith(".gz", StringComparison.Ordinal) ? new GZipStream(file, CompressionLevel.Fastest) : file;
        stream.Write(bytes);
        return path;
    }

    private static TextInput[] Read(string text, string source = "x.jsonl", InvalidLines? skipped = null, int maxLine = LineReader.MaxLineBytes)
    {
        using LineReader lines = new(new MemoryStream(Encoding.UTF8.GetBytes(text)), source, maxLine);
        return [.. TextInputReader.Read(lines, skipped)];
    }

    [Fact]
    public void A_text_file_gives_one_text_a_line_and_keeps_empty_lines()
    {
        TextInput[] rows = [.. TextInputReader.Read(Write("a.txt", "one\r\n\n {\"text\": 3}\nlast"))];
        Assert.Equal(["one", "", " {\"text\": 3}", "last"], rows.Select(r => r.Text));
        Assert.Equal([1L, 2, 3, 4], rows.Select(r => r.Line));
        Assert.All(rows, r => Assert.Null(r.Id));
    }

    [Fact]
    public void Only_line_feeds_end_a_line()
    {
        Assert.Equal(["a\u2028b\u2029c\u0085d\fe\vf\rg", "h"], Read("a\u2028b\u2029c\u0085d\fe\vf\rg\nh\n", "x.txt").Select(r => r.Text));
        Assert.Equal("a\u2028b", Assert.Single(Read("{\"text\":\"a\u2028b\"}\n")).Text);
    }

    [Fact]
    public void A_byte_order_mark_is_not_part_of_the_text()
    {
        Assert.Equal(["x", "\uFEFFy"], Read("\uFEFFx\n\uFEFFy", "a.txt").Select(r => r.Text));
        Assert.Equal("x", Assert.Single(Read("\uFEFF{\"text\":\"x\"}")).Text);
        Assert.Equal("x", Assert.Single(Read("\uFEFF\n  {\"text\":\"x\"}", "-")).Text);
        Assert.Empty(Read("\uFEFF", "a.txt"));
        Assert.Empty(Read("", "a.txt"));
    }

    [Fact]
    public void Json_rows_carry_ids_texts_and_token_ids()
    {
        TextInput[] rows = Read("""
            {"text": "plain"}
            {"id": "a", "text": "\u4e2d\ud83d\ude00"}

            {"id": 7, "text": null, "input_ids": [101, 5, 102], "token_type_ids": [0, 0, 0]}
            {"id": 1e3, "text": "", "other": {"deep": [1]}}
            {"_id": "d1", "title": "Title", "text": "body "}
            {"_id": "d2", "title": "", "text": " body"}
            {"_id": "d3", "text": ""}
            {"id": "n", "title": "not joined without _id", "text": "body"}
            """);
        Assert.Equal([null, "a", "7", "1e3", "d1", "d2", "d3", "n"], rows.Select(r => r.Id));
        Assert.Equal(["plain", "中😀", null, "", "Title body", "body", "", "body"], rows.Select(r => r.Text));
        Assert.Equal([101, 5, 102], rows[2].InputIds!);
        Assert.Equal([1L, 2, 4, 5, 6, 7, 8, 9], rows.Select(r => r.Line));
    }

    [Theory]
    [InlineData("a.jsonl.gz", "{\"text\":\"x\"}\n", "x")]
    [InlineData("a.txt.gz", "x\n", "x")]
    [InlineData("a.ndjson", "{\"text\":\"x\"}", "x")]
    [InlineData("a.data", " \n{\"text\":\"x\"}", "x")]
    [InlineData("a.data", "x", "x")]
    [InlineData("a.json", "{\"text\":\"x\"}", "x")]
    public void The_form_follows_from_the_name_or_else_from_the_first_brace(string name, string content, string expected) =>
        Assert.Equal(expected, Assert.Single(TextInputReader.Read(Write(name, content))).Text);

    [Fact]
    public void Gzip_members_one_after_another_read_as_one_file()
    {
        byte[] a = File.ReadAllBytes(Write("a.txt.gz", "one\ntw")), b = File.ReadAllBytes(Write("b.txt.gz", "o\n"));
        string both = Path.Combine(_folder, "c.txt.gz");
        File.WriteAllBytes(both, [.. a, .. b]);
        Assert.Equal(["one", "two"], TextInputReader.Read(both).Select(r => r.Text));
    }

    [Theory]
    [InlineData("{\"text\": \"a\"}\n{\"text\": \n", 2, "not valid JSON at byte")]
    [InlineData("{\"text\": 5}", 1, "\"text\" must be a string (or \"input_ids\", a list of token ids), found null", true)]
    [InlineData("{\"text\": 5}", 1, "\"text\" must be a string, found a number")]
    [InlineData("{\"text\": [\"a\"]}", 1, "\"text\" must be a string, found a list")]
    [InlineData("{\"text\": null}", 1, "\"text\" must be a string (or \"input_ids\", a list of token ids), found null")]
    [InlineData("{\"txt\": \"a\"}", 1, "\"text\" is missing: a string (or \"input_ids\", a list of token ids) was expected")]
    [InlineData("{\"text\": \"a\", \"id\": true}", 1, "\"id\" must be a string or a number, found a boolean")]
    [InlineData("\n\n\"a\"", 3, "a JSON object was expected, found a string")]
    [InlineData("[{\"text\": \"a\"},", 1, "one JSON object a line was expected, found the start of an array")]
    [InlineData("[1]", 1, "a JSON object was expected, found a list")]
    [InlineData("{\"text\": \"a\"} {\"text\": \"b\"}", 1, "not valid JSON at byte 15")]
    [InlineData("{\"text\": \"\\ud800\"}", 1, "\"text\" holds half of a surrogate pair")]
    [InlineData("{\"\\udc00text\": 1, \"text\": 2}", 1, "")]
    [InlineData("{\"input_ids\": []}", 1, "\"input_ids\" is empty")]
    [InlineData("{\"input_ids\": \"1 2\"}", 1, "\"input_ids\" must be a list of token ids, found a string")]
    [InlineData("{\"input_ids\": [1, 2.5]}", 1, "\"input_ids\"[1] must be a token id from 0 to 2147483647, found 2.5")]
    [InlineData("{\"input_ids\": [-1]}", 1, "\"input_ids\"[0] must be a token id from 0 to 2147483647, found -1")]
    [InlineData("{\"input_ids\": [99999999999]}", 1, "found 99999999999")]
    [InlineData("{\"input_ids\": [[1]]}", 1, "\"input_ids\"[0] must be a token id, found a list")]
    [InlineData("{\"input_ids\": [null]}", 1, "\"input_ids\"[0] must be a token id, found null")]
    [InlineData("{'text': 'a'}", 1, "not valid JSON at byte 2")]
    [InlineData("{\"text\": NaN}", 1, "not valid JSON")]
    public void A_bad_row_says_where_and_what_was_expected(string content, long line, string message, bool asNull = false)
    {
        BgeMetalException e = Assert.Throws<BgeMetalException>(() => Read(asNull ? content.Replace("5", "null", StringComparison.Ordinal) : content, "data/x.jsonl"));
        Assert.Contains(message, e.Message, StringComparison.Ordinal);
        Assert.EndsWith($"(data/x.jsonl:{line})", e.Message, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', e.Message);
    }

    [Fact]
    public void Nesting_without_end_is_an_error_and_not_a_stack_overflow()
    {
        BgeMetalException e = Assert.Throws<BgeMetalException>(() => Read("{\"text\":" + new string('[', 100_000), "x.jsonl"));
        Assert.Contains("not valid JSON", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Invalid_utf8_is_an_error_with_its_line_and_byte()
    {
        string path = WriteBytes("a.txt", [(byte)'o', (byte)'k', (byte)'\n', (byte)'c', (byte)'a', (byte)'f', 0xE9, (byte)'\n']);
        BgeMetalException e = Assert.Throws<BgeMetalException>(() => TextInputReader.Read(path).ToArray());
        Assert.Equal($"bad input: not valid UTF-8 at byte 4 of the line (0xE9) ({path}:2)", e.Message);
        BgeMetalException utf16 = Assert.Throws<BgeMetalException>(() => TextInputReader.Read(WriteBytes("b.jsonl", [0xFF, 0xFE, (byte)'{', 0, (byte)'\n', 0])).ToArray());
        Assert.Contains("UTF-16", utf16.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_line_without_end_is_refused_and_can_be_skipped()
    {
        string text = "ok\n" + new string('x', 300_000) + "\nafter\n" + new string('y', 101) + "\n" + new string('z', 200_000);
        BgeMetalException e = Assert.Throws<BgeMetalException>(() => Read(text, "x.txt", maxLine: 100));
        Assert.Equal("bad input: the line is longer than 100 bytes (x.txt:2)", e.Message);
        InvalidLines skipped = new();
        TextInput[] rows = Read(text, "x.txt", skipped, maxLine: 100);
        Assert.Equal(["ok", "after"], rows.Select(r => r.Text));
        Assert.Equal([1L, 3], rows.Select(r => r.Line));
        Assert.Equal(3, skipped.Count);
    }

    [Fact]
    public void Skipped_rows_are_counted_and_the_first_is_kept()
    {
        InvalidLines skipped = new();
        TextInput[] rows = Read("{\"text\":\"a\"}\n{\"text\":1}\nnot json\n{\"text\":\"b\"}\n{}", "x.jsonl", skipped);
        Assert.Equal(["a", "b"], rows.Select(r => r.Text));
        Assert.Equal(3, skipped.Count);
        Assert.Equal(2, skipped.First!.Line);
    }

    [Theory]
    [InlineData("none.jsonl", "there is no such file")]
    [InlineData("", "this is a directory, a file was expected")]
    public void What_cannot_be_opened_is_named(string name, string message)
    {
        string path = Path.Combine(_folder, name);
        BgeMetalException e = Assert.Throws<BgeMetalException>(() => TextInputReader.Read(path, new InvalidLines()).ToArray());
        Assert.Equal($"cannot read: {message} ({path})", e.Message);
    }

    [Fact]
    public void Broken_gzip_data_is_an_error_even_when_bad_rows_are_skipped()
    {
        string plain = Path.Combine(_folder, "plain.jsonl.gz");
        File.WriteAllText(plain, "{\"text\":\"not compressed\"}\n");
        byte[] whole = File.ReadAllBytes(Write("whole.txt.gz", string.Concat(Enumerable.Range(0, 5000).Select(i => $"line {i} {i * 7919}\n"))));
        List<string> paths = [plain];
        foreach (int length in (int[])[1, 9, 10, 11, 2000, whole.Length - 9, whole.Length - 8, whole.Length - 5, whole.Length - 1])
        {
            paths.Add(Path.Combine(_folder, $"cut-{length}.txt.gz"));
            File.WriteAllBytes(paths[^1], whole[..length]);
        }

        byte[] damaged = [.. whole];
        damaged[whole.Length / 2] ^= 0x10;
        paths.Add(Path.Combine(_folder, "damaged.txt.gz"));
        File.WriteAllBytes(paths[^1], damaged);
        foreach (string path in paths)
        {
            BgeMetalException e = Assert.Throws<BgeMetalException>(() => TextInputReader.Read(path, new InvalidLines()).ToArray());
            Assert.Contains("gzip data is broken or cut off", e.Message, StringComparison.Ordinal);
            Assert.Contains(path, e.Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void Lines_longer_than_the_buffer_survive_its_growth()
    {
        string[] texts = [.. Enumerable.Range(0, 40).Select(i => new string((char)('a' + (i % 26)), i * 9973))];
        Assert.Equal(texts, Read(string.Join('\n', texts) + "\n", "x.txt").Select(r => r.Text));
    }

    [Theory]
    [InlineData("bert-base-uncased.jsonl", 270)]
    [InlineData("bert-base-chinese.jsonl", 270)]
    [InlineData("bert-base-chinese.cased.jsonl", 202)]
    [InlineData("xlm-roberta.jsonl", 265)]
    [InlineData("xlm-roberta.metaspace.jsonl", 208)]
    public void The_tokenizer_rows_are_readable(string name, int count)
    {
        TokenizeInput[] rows = [.. TokenizeInputReader.Read(SharedFolder.FixtureOrSkip("tokenizer", name))];
        Assert.Equal(count, rows.Length);
        Assert.Contains(rows, r => r.Pair is not null && r.MaxLength is > 0 && r.Truncation == "only_second");
        Assert.Contains(rows, r => !r.AddSpecialTokens);
        Assert.All(rows, r => Assert.NotNull(r.Id));
    }
}
