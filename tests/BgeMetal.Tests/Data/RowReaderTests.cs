using BgeMetal.Data;

namespace BgeMetal.Tests.Data;

public sealed class RowReaderTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("bgemetal-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private string Write(string text, string name = "rows.jsonl")
    {
        string path = Path.Combine(_folder, name);
        File.WriteAllText(path, text);
        return path;
    }

    [Fact]
    public void Rerank_rows_take_one_passage_several_or_a_joined_pair()
    {
        RerankInput[] rows = [.. RerankInputReader.Read(Write("""
            {"query": "q", "passage": "p"}
            {"id": 3, "query": "q2", "passages": ["a", "", "c"]}
            {"query": "none", "passages": []}
            {"input_ids": [0, 5, 2, 2, 6, 2]}
            """, "rows.txt"))];
        Assert.Equal(["q", "q2", "none", null], rows.Select(r => r.Query));
        Assert.Equal([1, 3, 0, 0], rows.Select(r => r.Passages.Count));
        Assert.Equal(["a", "", "c"], rows[1].Passages);
        Assert.Equal("3", rows[1].Id);
        Assert.Equal([0, 5, 2, 2, 6, 2], rows[3].InputIds!);
    }

    [Theory]
    [InlineData("{\"query\": \"q\"}", "\"passage\" is missing: a string (or \"passages\", a list of strings) was expected")]
    [InlineData("{\"passage\": \"p\"}", "\"query\" is missing: a string (or \"input_ids\", a joined pair) was expected")]
    [InlineData("{\"query\": 1, \"passage\": \"p\"}", "\"query\" must be a string, found a number")]
    [InlineData("{\"query\": \"q\", \"passages\": \"p\"}", "\"passages\" must be a list of strings, found a string")]
    [InlineData("{\"query\": \"q\", \"passages\": [\"p\", null]}", "\"passages\"[1] must be a string, found null")]
    [InlineData("{\"query\": \"q\", \"passage\": \"p\", \"passages\": [\"p\"]}", "\"passage\" and \"passages\" are both there")]
    public void A_bad_rerank_row_says_what_was_expected(string content, string message)
    {
        string path = Write("\n" + content);
        BgeMetalException e = Assert.Throws<BgeMetalException>(() => RerankInputReader.Read(path).ToArray());
        Assert.Contains(message, e.Message, StringComparison.Ordinal);
        Assert.EndsWith($"({path}:2)", e.Message, StringComparison.Ordinal);
        InvalidLines skipped = new();
        Assert.Empty(RerankInputReader.Read(path, skipped));
        Assert.Equal(1, skipped.Count);
    }

    [Fact]
    public void Tokenize_rows_have_defaults_and_treat_null_as_absent()
    {
        TokenizeInput[] rows = [.. TokenizeInputReader.Read(Write("""
            {"text": "a"}
            {"id": "x", "text": "a", "pair": "b", "add_special_tokens": false, "max_length": 8, "truncation": "only_first", "ids": [1]}
            {"id": null, "text": "", "pair": null, "add_special_tokens": null, "max_length": null, "truncation": null}
            """))];
        Assert.Equal(rows[0] with { Text = "", Line = 3 }, rows[2]);
        Assert.True(rows[0].AddSpecialTokens);
        Assert.Equal(("x", "a", "b", false, 8, "only_first"), (rows[1].Id, rows[1].Text, rows[1].Pair, rows[1].AddSpecialTokens, rows[1].MaxLength!.Value, rows[1].Truncation));
        Assert.Equal(["p", "q"], TokenizeInputReader.Read(Write("p\nq\n", "t.txt")).Select(r => r.Text));
    }

    [Theory]
    [InlineData("{\"pair\": \"b\"}", "\"text\" is missing: a string was expected")]
    [InlineData("{\"text\": \"a\", \"add_special_tokens\": 1}", "\"add_special_tokens\" must be true or false, found a number")]
    [InlineData("{\"text\": \"a\", \"max_length\": \"8\"}", "\"max_length\" must be a whole number, found a string")]
    [InlineData("{\"text\": \"a\", \"max_length\": 0}", "\"max_length\" must be a whole number from 1 to 2147483647, found 0")]
    [InlineData("{\"text\": \"a\", \"max_length\": 1e99}", "found 1e99")]
    [InlineData("{\"text\": \"a\", \"truncation\": \"first\"}", "\"truncation\" must be one of longest_first, only_first, only_second, do_not_truncate, found \"first\"")]
    public void A_bad_tokenize_row_says_what_was_expected(string content, string message)
    {
        BgeMetalException e = Assert.Throws<BgeMetalException>(() => TokenizeInputReader.Read(Write(content)).ToArray());
        Assert.Contains(message, e.Message, StringComparison.Ordinal);
    }
}
