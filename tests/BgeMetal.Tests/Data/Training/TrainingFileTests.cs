using System.Diagnostics;
using System.Text;
using BgeMetal.Data;
using BgeMetal.Data.Training;
using BgeMetal.Testing;

namespace BgeMetal.Tests.Data.Training;

/// <summary>Runs apart from all others: one of these tests measures what the whole process holds.</summary>
[CollectionDefinition(nameof(TrainingFileTests), DisableParallelization = true)]
public sealed class TrainingFileTestsAlone;

[Collection(nameof(TrainingFileTests))]
public sealed class TrainingFileTests : IDisposable
{
    private readonly RowFiles _files = new();

    public void Dispose() => _files.Dispose();

    private static string? Text(JsonRow row) => row.Text("t");

    private static string[] Texts(TrainingFile file) => [.. Enumerable.Range(0, file.Rows).Select(i => file.Read(i, Text)!)];

    [Theory]
    [InlineData("a.jsonl")]
    [InlineData("a.json")]
    [InlineData("a.jsonl.gz")]
    public void Rows_are_read_in_any_order_with_their_line_numbers(string name)
    {
        using TrainingFile file = TrainingFile.Open(_files.WriteBytes(name, Encoding.UTF8.GetBytes("\uFEFF{\"t\":\"a\"}\r\n\n \t\r\n{\"t\":\"b\u2028b\"}\n{\"t\":\"c\"}\n\n\n{\"t\":\"d\"}")));
        Assert.Equal(4, file.Rows);
        int[] order = [3, 0, 2, 1, 3];
        Assert.Equal(["d", "a", "c", "b\u2028b", "d"], order.Select(i => file.Read(i, Text)));
        Assert.Equal([1L, 4, 5, 8], Enumerable.Range(0, 4).Select(i => file.Place(i).Line));
        Assert.Equal([1L, 4, 5, 8], Enumerable.Range(0, 4).Select(i => file.Read(i, row => row.Line)));
    }

    [Theory]
    [InlineData("")]
    [InlineData("\uFEFF")]
    [InlineData("\n\n  \n\t")]
    public void A_file_without_rows_has_none(string text)
    {
        using TrainingFile file = TrainingFile.Open(_files.WriteBytes("a.jsonl", Encoding.UTF8.GetBytes(text)));
        Assert.Equal(0, file.Rows);
    }

    [Fact]
    public void The_index_agrees_with_the_line_reader_on_random_text()
    {
        Random random = new(3);
        StringBuilder text = new();
        for (int i = 0; i < 70_000; i++)
            text.Append(random.Next(5) switch { 0 => "", 1 => " \t", _ => $"{{\"t\":\"{new string('x', random.Next(40))}{i}\"}}" }).Append(random.Next(3) == 0 ? "\r\n" : "\n");
        string path = _files.WriteBytes("a.jsonl", Encoding.UTF8.GetBytes(text.ToString()));
        List<(string?, long)> expected = [];
        using (JsonLineReader lines = JsonLineReader.Open(path))
            while (lines.TryRead(out JsonRow row)) expected.Add((row.Text("t"), row.Line));
        using TrainingFile file = TrainingFile.Open(path);
        Assert.Equal(expected, Enumerable.Range(0, file.Rows).Select(i => file.Read(i, row => (row.Text("t"), row.Line))));
    }

    [Fact]
    public void Long_rows_and_long_runs_of_blank_lines_are_read_in_steps()
    {
        string big = new('y', 3_000_000);
        using TrainingFile file = TrainingFile.Open(_files.Write("a.jsonl", $"{{\"t\":\"{big}\"}}", new string('\n', 5_000_000), "{\"t\":\"z\"}"));
        Assert.Equal([big, "z"], Texts(file));
        Assert.Equal(5_000_003, file.Place(1).Line);
    }

    [Fact]
    public void A_row_above_the_limit_is_an_error_with_its_line()
    {
        using TrainingFile file = TrainingFile.Open(_files.Write("a.jsonl", "{\"t\":\"a\"}", $"{{\"t\":\"{new string('y', 100)}\"}}"), maxLineBytes: 50);
        BgeMetalException error = Assert.Throws<BgeMetalException>(() => file.Read(1, Text));
        Assert.Equal($"bad input: the line is longer than 50 bytes ({file.Path}:2)", error.Message);
        Assert.Equal("a", file.Read(0, Text));
    }

    [Theory]
    [InlineData(10)]
    [InlineData(1 << 20)]
    public void Compressed_rows_are_the_same_in_memory_and_in_a_temporary_file(int memoryBytes)
    {
        string[] before = Directory.GetFiles(Path.GetTempPath(), "bgemetal-*.rows");
        string[] texts = [.. Enumerable.Range(0, 500).Select(i => $"row {i}")];
        using (TrainingFile file = TrainingFile.Open(_files.Write("a.jsonl.gz", texts.Select(t => $"{{\"t\":\"{t}\"}}")), memoryBytes))
            Assert.Equal(texts, Texts(file));
        using (RowBytes bytes = RowBytes.Open(Path.Combine(_files.Folder, "a.jsonl.gz"), memoryBytes))
            Assert.Equal(memoryBytes == 10, bytes.IsSpilled);
        Assert.Empty(Directory.GetFiles(Path.GetTempPath(), $"bgemetal-{Environment.ProcessId:x}-*.rows").Except(before));
    }

    [Fact]
    public void Truncated_gzip_missing_files_and_folders_are_errors()
    {
        byte[] whole = File.ReadAllBytes(_files.Write("a.jsonl.gz", Enumerable.Repeat("{\"t\":\"abc\"}", 1000)));
        string cut = Path.Combine(_files.Folder, "cut.jsonl.gz");
        File.WriteAllBytes(cut, whole[..^20]);
        Assert.Contains("the gzip data is broken or cut off", Assert.Throws<BgeMetalException>(() => TrainingFile.Open(cut)).Message, StringComparison.Ordinal);
        Assert.Contains("the gzip data is broken or cut off", Assert.Throws<BgeMetalException>(() => TrainingFile.Open(cut, memoryBytes: 10)).Message, StringComparison.Ordinal);
        Assert.Contains("there is no such file", Assert.Throws<BgeMetalException>(() => TrainingFile.Open(cut + "x")).Message, StringComparison.Ordinal);
        Assert.Contains("this is a directory", Assert.Throws<BgeMetalException>(() => TrainingFile.Open(_files.Folder)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_file_that_shrinks_while_open_is_an_error()
    {
        string path = _files.Write("a.jsonl", "{\"t\":\"a\"}", "{\"t\":\"b\"}");
        using TrainingFile file = TrainingFile.Open(path);
        using (FileStream stream = new(path, FileMode.Open, FileAccess.Write, FileShare.ReadWrite)) stream.SetLength(12);
        Assert.Contains("shorter", Assert.Throws<BgeMetalException>(() => file.Read(1, Text)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Checking_takes_bad_rows_out_and_reports_the_first()
    {
        IEnumerable<string> lines = Enumerable.Range(0, 2000).Select(i => i % 3 == 1 ? "{\"t\":5}" : $"{{\"t\":\"{i}\"}}");
        using TrainingFile file = TrainingFile.Open(_files.Write("a.jsonl", lines));
        Assert.Contains("a.jsonl:2)", Assert.Throws<BgeMetalException>(() => file.Check(Text, null)).Message, StringComparison.Ordinal);
        ulong whole = file.Fingerprint;
        InvalidLines skipped = new();
        file.Check(Text, skipped);
        Assert.Equal(667, skipped.Count);
        Assert.Equal(2, skipped.First!.Line);
        Assert.Equal(Enumerable.Range(0, 2000).Where(i => i % 3 != 1).Select(i => $"{i}"), Texts(file));
        Assert.Equal(1999, file.Place(file.Rows - 1).Line);
        Assert.NotEqual(whole, file.Fingerprint);
    }

    [Fact]
    public void The_fingerprint_tells_changed_layouts_apart()
    {
        string[] texts = ["{\"t\":\"a\"}\n{\"t\":\"bb\"}\n", "{\"t\":\"aa\"}\n{\"t\":\"b\"}\n", "{\"t\":\"a\"}\n{\"t\":\"bb\"}", "{\"t\":\"a\"}\n{\"t\":\"bb\"}\n{}\n"];
        HashSet<ulong> seen = [];
        foreach (string text in texts)
            using (TrainingFile file = TrainingFile.Open(_files.WriteBytes("a.jsonl", Encoding.UTF8.GetBytes(text)))) Assert.True(seen.Add(file.Fingerprint));
        using TrainingFile again = TrainingFile.Open(_files.WriteBytes("a.jsonl", Encoding.UTF8.GetBytes(texts[0])));
        Assert.Contains(again.Fingerprint, seen);
    }

    [Fact]
    public void A_large_file_stays_out_of_memory()
    {
        const int Rows = 200_000;
        string path = Path.Combine(_files.Folder, "large.jsonl");
        using (FileStream stream = new(path, FileMode.Create, FileAccess.Write, FileShare.None, 1 << 20))
        {
            byte[] line = Encoding.UTF8.GetBytes($"{{\"n\":1000000,\"t\":\"{new string('x', 980)}\"}}\n");
            for (int i = 0; i < Rows; i++)
            {
                for (int digit = 0, n = i; digit < 6; digit++, n /= 10) line[11 - digit] = (byte)('0' + n % 10);
                stream.Write(line);
            }
        }

        long before = GC.GetTotalMemory(forceFullCollection: true);
        Stopwatch watch = Stopwatch.StartNew();
        using TrainingFile file = TrainingFile.Open(path);
        TimeSpan indexed = watch.Elapsed;
        Assert.True(file.Length > 190_000_000);
        for (int i = 0; i < Rows; i += 97) Assert.Equal(1_000_000 + i, file.Read(i, row => row.Integer("n", 0)!.Value));
        long grown = GC.GetTotalMemory(forceFullCollection: true) - before;
        Assert.InRange(grown, long.MinValue, 16 << 20);
        TestContext.Current.SendDiagnosticMessage($"indexed {file.Length:N0} bytes in {indexed.TotalMilliseconds:F0} ms; {grown:N0} bytes held");
    }

    [Fact]
    public void The_published_examples_are_read_whole()
    {
        string folder = SharedFolder.DataOrSkip("flagembedding", "finetune", "embedder");
        using TrainingDataSet<TrainingRow> data = RowFiles.Open(new ContrastiveOptions(), null, folder);
        Assert.Equal(8, data.Sources.Count);
        Assert.Equal(80, data.Rows);
        Assert.Equal(4, data.Sources.Count(s => s.Name.NoInBatchNegatives));
        Assert.All(Enumerable.Range(0, data.Rows), i => Assert.NotNull(data.Read(i).Prompt));
    }
}
