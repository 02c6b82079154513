using BgeMetal.Data;
using BgeMetal.Data.Training;

namespace BgeMetal.Tests.Data.Training;

public sealed class TrainingDataSetTests : IDisposable
{
    private readonly RowFiles _files = new();

    public void Dispose() => _files.Dispose();

    private TrainingDataSet<int> Open(TrainingDataOptions options, params IEnumerable<string> names) =>
        TrainingDataSet<int>.Open(names.Select(name => new TrainingInput(Path.Combine(_files.Folder, name))), row => row.Integer("n", 0) ?? throw row.Missing("n", "a number"), options);

    private static IEnumerable<string> Numbers(int from, int count) => Enumerable.Range(from, count).Select(n => $"{{\"n\":{n}}}");

    private static int[] All(TrainingDataSet<int> data) => [.. Enumerable.Range(0, data.Rows).Select(data.Read)];

    [Fact]
    public void Files_and_folders_are_joined_in_order()
    {
        _files.Write("z.jsonl", Numbers(0, 3));
        _files.Write("f/b.json", Numbers(20, 1));
        _files.Write("f/a.jsonl.gz", Numbers(10, 2));
        _files.Write("f/sub/c.jsonl", Numbers(30, 1));
        _files.Write("f/empty.jsonl", "", " ");
        _files.Write("f/notes.txt", "not data");
        _files.Write("f/.hidden.jsonl", Numbers(90, 1));
        _files.Write("f/.cache/x.jsonl", Numbers(91, 1));
        using TrainingDataSet<int> data = Open(new TrainingDataOptions(), "z.jsonl", "f");
        Assert.Equal([0, 1, 2, 10, 11, 20, 30], All(data));
        Assert.Equal("c.jsonl:1", data.Place(6).ToString().Split(Path.DirectorySeparatorChar)[^1]);
        Assert.Equal([0, 3, 5, 6], data.Sources.Select(s => s.FirstRow));
    }

    [Fact]
    public void A_cap_chooses_rows_by_the_seed_and_keeps_their_order()
    {
        _files.Write("a.jsonl", Numbers(0, 1000));
        _files.Write("b.jsonl", Numbers(5000, 5));
        int[] Chosen(int seed)
        {
            using TrainingDataSet<int> data = Open(new TrainingDataOptions { MaxRowsPerFile = 50, Seed = seed }, "a.jsonl", "b.jsonl");
            return All(data);
        }

        int[] one = Chosen(1);
        Assert.Equal(55, one.Length);
        Assert.Equal(one.Order().Distinct(), one);
        Assert.Equal([5000, 5001, 5002, 5003, 5004], one[50..]);
        Assert.Equal(one, Chosen(1));
        Assert.NotEqual(one, Chosen(2));
        Assert.InRange(Enumerable.Range(0, 20).SelectMany(seed => Chosen(seed)[..50]).Average(), 450, 550);
    }

    [Fact]
    public void Bad_rows_stop_the_opening_or_are_left_out()
    {
        _files.Write("a.jsonl", "{\"n\":1}", "broken", "{\"n\":2}");
        _files.Write("b.jsonl", "{\"m\":1}", "{\"n\":3}");
        Assert.EndsWith("a.jsonl:2)", Assert.Throws<BgeMetalException>(() => Open(new TrainingDataOptions(), "a.jsonl", "b.jsonl")).Message, StringComparison.Ordinal);
        using (TrainingDataSet<int> lazy = Open(new TrainingDataOptions { CheckBytes = 0 }, "a.jsonl", "b.jsonl"))
        {
            Assert.Equal(5, lazy.Rows);
            Assert.EndsWith("b.jsonl:1)", Assert.Throws<BgeMetalException>(() => lazy.Read(3)).Message, StringComparison.Ordinal);
        }

        InvalidLines skipped = new();
        using TrainingDataSet<int> data = Open(new TrainingDataOptions { Skipped = skipped, CheckBytes = 0 }, "a.jsonl", "b.jsonl");
        Assert.Equal([1, 2, 3], All(data));
        Assert.Equal(2, skipped.Count);
        Assert.Equal(2, data.Place(2).Line);
    }

    [Theory]
    [InlineData("missing.jsonl", "there is no such file")]
    [InlineData("texts", "the folder holds no .jsonl or .json file")]
    [InlineData("empty.jsonl", "the files have no rows")]
    public void Nothing_to_train_on_is_an_error(string name, string reason)
    {
        _files.Write("texts/a.txt", "x");
        _files.Write("empty.jsonl");
        Assert.Contains(reason, Assert.Throws<BgeMetalException>(() => Open(new TrainingDataOptions(), name)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Only_bad_rows_are_an_error_even_when_they_are_skipped()
    {
        _files.Write("a.jsonl", "x", "y");
        Assert.Contains("every row is malformed", Assert.Throws<BgeMetalException>(() => Open(new TrainingDataOptions { Skipped = new InvalidLines() }, "a.jsonl")).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Names_say_whether_batches_share_negatives()
    {
        foreach (string name in new[] { "a.jsonl", "b_no_in_batch_neg.jsonl", "c-no_in_batch_neg.json.gz", "d-no_in_batch_neg/x.jsonl", "e/no_in_batch_neg/y.jsonl", "e/z.jsonl", "no_in_batch_neg_f.jsonl" }) _files.Write(name, Numbers(0, 1));
        using TrainingDataSet<int> data = Open(new TrainingDataOptions(), "a.jsonl", "b_no_in_batch_neg.jsonl", "c-no_in_batch_neg.json.gz", "d-no_in_batch_neg/", "d-no_in_batch_neg/x.jsonl", "e", "no_in_batch_neg_f.jsonl");
        Assert.Equal([false, true, true, true, false, true, false, false], data.Sources.Select(s => s.Name.NoInBatchNegatives));
    }

    [Fact]
    public void The_fingerprint_changes_with_the_files()
    {
        _files.Write("a.jsonl", Numbers(0, 3));
        _files.Write("b.jsonl", Numbers(0, 4));
        ulong Of(params IEnumerable<string> names)
        {
            using TrainingDataSet<int> data = Open(new TrainingDataOptions(), names);
            return data.Fingerprint;
        }

        Assert.Equal(Of("a.jsonl", "b.jsonl"), Of("a.jsonl", "b.jsonl"));
        Assert.Distinct([Of("a.jsonl", "b.jsonl"), Of("b.jsonl", "a.jsonl"), Of("a.jsonl"), Of("b.jsonl")]);
    }

    [Fact]
    public void Tasks_are_read_from_the_argument()
    {
        Assert.Equal(new TrainingInput("x.json", "qa"), TrainingInput.ParseTask("qa:x.json"));
        Assert.Equal(new TrainingInput("C:\\x.json"), TrainingInput.ParseTask("C:\\x.json"));
        Assert.Equal(new TrainingInput("x.json"), TrainingInput.ParseTask("x.json"));
        Assert.Equal(new TrainingInput("a/b:c"), TrainingInput.ParseTask("a/b:c"));
        Assert.Equal(new TrainingInput("qa:"), TrainingInput.ParseTask("qa:"));
        string odd = _files.Write("qa:odd.jsonl", Numbers(0, 1));
        Assert.Equal(new TrainingInput(odd), TrainingInput.ParseTask(odd));
    }
}
