using System.Text.Json;
using BgeMetal.Data;
using BgeMetal.Retrieval;

namespace BgeMetal.Tests.Retrieval;

/// <summary>Mining against a plain search in double precision, and the promises about what is never a negative.</summary>
public sealed class HardNegativeMinerTests : IDisposable
{
    private const int Dimensions = 5;
    private readonly string _folder = Directory.CreateTempSubdirectory("bgemetal-").FullName;
    private int _embedded;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void Candidates_are_those_of_a_double_precision_search_ties_included()
    {
        List<Row> rows = Rows(60, seed: 1);
        HardNegativeOptions options = Options(rows) with { RangeStart = 3, RangeEnd = 23, NegativeNumber = 1000 };
        Mine(options);
        string[] corpus = Corpus(rows);
        List<Row> mined = Read(options.OutputFile);
        for (int i = 0; i < rows.Count; i++)
        {
            double[] query = Vector("q:" + rows[i].Query);
            string[] expected = [.. Enumerable.Range(0, corpus.Length)
                .OrderByDescending(row => Dot(query, Vector(corpus[row]))).ThenBy(row => row).Skip(3).Take(20)
                .Select(row => corpus[row]).Where(text => !rows[i].Pos.Contains(text) && text != rows[i].Query)];
            Assert.Equal(expected, mined[i].Neg.Take(expected.Length));
            Assert.Equal(corpus.Except(rows[i].Pos).Except([rows[i].Query]).Order(), mined[i].Neg.Order());
        }
    }

    [Fact]
    public void Sampled_negatives_come_from_the_range_and_depend_on_the_seed_alone()
    {
        List<Row> rows = Rows(40, seed: 2);
        HardNegativeOptions all = Options(rows) with { RangeStart = 2, RangeEnd = 22, NegativeNumber = 20 }, few = all with { NegativeNumber = 4, OutputFile = At("few.jsonl") };
        HardNegativeReport report = Mine(few);
        Mine(all);
        List<Row> every = Read(all.OutputFile), some = Read(few.OutputFile);
        Assert.Equal(160, report.Mined);
        Assert.Equal(0, report.Filled);
        for (int i = 0; i < rows.Count; i++)
        {
            Assert.Equal(4, some[i].Neg.Distinct().Count());
            Assert.Equal(some[i].Neg, every[i].Neg.Where(some[i].Neg.Contains));
        }
        string first = File.ReadAllText(few.OutputFile);
        Mine(few);
        Assert.Equal(first, File.ReadAllText(few.OutputFile));
        Mine(few with { Seed = 43 });
        Assert.NotEqual(first, File.ReadAllText(few.OutputFile));
    }

    [Fact]
    public void Every_candidate_is_drawn_equally_often()
    {
        List<Row> rows = [.. Enumerable.Range(0, 600).Select(_ => new Row("same", ["p"], [.. Enumerable.Range(0, 12).Select(i => $"n{i}")]))];
        HardNegativeOptions options = Options(rows) with { RangeStart = 0, RangeEnd = 13, NegativeNumber = 3 };
        Mine(options);
        Dictionary<string, int> counts = Read(options.OutputFile).SelectMany(row => row.Neg).CountBy(text => text).ToDictionary();
        Assert.Equal(12, counts.Count);
        Assert.All(counts.Values, count => Assert.InRange(count, 150 - 60, 150 + 60));     // 600 * 3 / 12, standard deviation 10.6
    }

    [Fact]
    public void Other_fields_stay_and_scores_of_old_negatives_go()
    {
        File.WriteAllText(At("in.jsonl"), """{"id":7,"query":"猫 \"a\"","pos":["p"],"neg":["x","y"],"pos_scores":[1.50],"neg_scores":[1,2],"teacher_scores":[1,2,3],"meta":{"a":[1,null]}}""" + "\n");
        HardNegativeOptions options = new() { InputFile = At("in.jsonl"), OutputFile = At("out.jsonl"), RangeStart = 0, RangeEnd = 9, NegativeNumber = 2 };
        Mine(options);
        using JsonDocument row = JsonDocument.Parse(File.ReadAllText(options.OutputFile));
        Assert.Equal(["id", "query", "pos", "pos_scores", "meta", "neg"], row.RootElement.EnumerateObject().Select(field => field.Name));
        Assert.Contains("\"pos_scores\":[1.50],\"meta\":{\"a\":[1,null]}", File.ReadAllText(options.OutputFile), StringComparison.Ordinal);
        Assert.Contains("猫", File.ReadAllText(options.OutputFile), StringComparison.Ordinal);
    }

    [Fact]
    public void A_candidate_pool_replaces_the_rows_own_texts()
    {
        List<Row> rows = Rows(10, seed: 3);
        File.WriteAllLines(At("pool.jsonl"), Enumerable.Range(0, 30).Select(i => JsonSerializer.Serialize(new { text = $"pool {i % 25}" })));
        HardNegativeOptions options = Options(rows) with { CandidatePool = At("pool.jsonl"), RangeStart = 0, RangeEnd = 10, NegativeNumber = 5, AbsoluteMargin = -1000 };
        HardNegativeReport report = Mine(options);
        Assert.Equal(25, report.CorpusTexts);
        Assert.All(Read(options.OutputFile), row => Assert.All(row.Neg, text => Assert.StartsWith("pool", text, StringComparison.Ordinal)));
    }

    [Fact]
    public void Limits_hold_for_every_negative_also_for_those_drawn_at_random_above_the_range()
    {
        List<Row> rows = Rows(50, seed: 4);
        HardNegativeOptions options = Options(rows) with { RangeStart = 1, RangeEnd = 1000, NegativeNumber = 1000, AbsoluteMargin = 2, RelativeMargin = 0.3, MinScore = -9, MaxScore = 12, ReportFile = At("suspects.jsonl") };
        HardNegativeReport report = Mine(options);
        long suspects = 0;
        foreach ((Row before, Row after) in rows.Zip(Read(options.OutputFile)))
        {
            double[] query = Vector("q:" + before.Query);
            double positive = before.Pos.Min(text => Dot(query, Vector(text)));
            double Score(string text) => Dot(query, Vector(text));
            Assert.All(after.Neg, text => Assert.True(Score(text) <= positive - 2 && Score(text) <= positive - 0.3 * Math.Abs(positive) && Score(text) <= 12 && Score(text) >= -9));
            string[] corpus = Corpus(rows);
            string[] ranked = [.. corpus.Select((text, i) => (text, i)).OrderByDescending(item => Score(item.text)).ThenBy(item => item.i).Select(item => item.text)];
            suspects += ranked.Skip(1).Count(text => Score(text) >= positive && !before.Pos.Contains(text) && text != before.Query);
        }
        Assert.True(suspects > 0 && report.OutOfLimits > suspects);
        Assert.Equal(suspects, report.SuspectedFalseNegatives);
        Assert.Equal(suspects, File.ReadLines(At("suspects.jsonl")).Sum(line => JsonDocument.Parse(line).RootElement.GetProperty("suspects").GetArrayLength()));
    }

    [Fact]
    public void Near_duplicates_of_positives_and_of_one_another_are_left_out()
    {
        List<Row> rows = Rows(30, seed: 5);
        HardNegativeOptions options = Options(rows) with { RangeStart = 0, RangeEnd = 1000, NegativeNumber = 1000, NearDuplicate = 0.9 };
        Assert.True(Mine(options).NearDuplicates > 0);
        foreach (Row row in Read(options.OutputFile))
        {
            string[] texts = [.. row.Neg];
            for (int i = 0; i < texts.Length; i++)
                Assert.All(row.Pos.Concat(texts[..i]), other => Assert.True(Cosine(Vector(texts[i]), Vector(other)) < 0.9));
        }
    }

    [Fact]
    public void The_reranker_refuses_what_it_finds_as_relevant_as_a_positive()
    {
        List<Row> rows = Rows(30, seed: 6);
        HardNegativeOptions options = Options(rows) with { RangeStart = 0, RangeEnd = 1000, NegativeNumber = 6, RerankerMaxScore = 0.8 };
        static float Relevance(string query, string passage) => (float)Vector(query + passage)[0];
        HardNegativeReport report = new HardNegativeMiner(options, Embed, Dimensions, 1, (query, passages) => [.. passages.Select(passage => Relevance(query, passage))], null).Run("m", TestContext.Current.CancellationToken);
        Assert.True(report.Vetoed > 0 && report.Mined > 0);
        Assert.Equal(0, report.Filled);
        foreach (Row row in Read(options.OutputFile))
            Assert.All(row.Neg, text => Assert.True(Relevance(row.Query, text) < row.Pos.Min(positive => Relevance(row.Query, positive)) && Relevance(row.Query, text) <= 1.38));
    }

    [Fact]
    public void A_killed_run_goes_on_and_gives_the_same_file()
    {
        List<Row> rows = Rows(2500, seed: 7);
        HardNegativeOptions options = Options(rows) with { RangeStart = 2, RangeEnd = 30, NegativeNumber = 4 };
        Mine(options);
        string expected = File.ReadAllText(options.OutputFile);
        int all = _embedded;
        File.Delete(options.OutputFile);
        int calls = 0;
        float[] Breaking(IReadOnlyList<TextInput> texts, string? instruction) => instruction is not null && ++calls == 2 ? throw new IOException("the plug is pulled") : Embed(texts, instruction);
        Assert.Throws<IOException>(() => new HardNegativeMiner(options, Breaking, Dimensions, 1, null, null).Run("m", TestContext.Current.CancellationToken));
        Assert.False(File.Exists(options.OutputFile));
        _embedded = 0;
        HardNegativeReport report = Mine(options);
        Assert.Equal(expected, File.ReadAllText(options.OutputFile));
        Assert.Equal(2500 - 1024, _embedded);
        Assert.True(all > _embedded);
        Assert.Equal(2500, report.Rows);
        Assert.False(Directory.Exists(options.OutputFile + ".work"));
    }

    [Fact]
    public void A_run_killed_while_it_embeds_the_corpus_keeps_the_finished_part_of_it()
    {
        const int Shard = 1 << 14;
        List<Row> rows = Rows(20, seed: 9);
        HardNegativeOptions options = Options(rows) with { CandidatePool = At("pool.txt"), RangeStart = 0, RangeEnd = 30, NegativeNumber = 4 };
        File.WriteAllLines(At("pool.txt"), Enumerable.Range(0, Shard + 1000).Select(i => $"pool {i}"));
        Mine(options);
        string expected = File.ReadAllText(options.OutputFile);
        File.Delete(options.OutputFile);
        int texts = 0;
        float[] Breaking(IReadOnlyList<TextInput> some, string? instruction) => (texts += some.Count) > Shard ? throw new IOException("the plug is pulled") : Embed(some, instruction);
        Assert.Throws<IOException>(() => new HardNegativeMiner(options, Breaking, Dimensions, 1, null, null).Run("m", TestContext.Current.CancellationToken));
        Assert.False(File.Exists(options.OutputFile));
        _embedded = 0;
        Mine(options);
        Assert.Equal(1000 + rows.Count, _embedded);
        Assert.Equal(expected, File.ReadAllText(options.OutputFile));
    }

    [Fact]
    public void A_work_folder_of_another_run_is_not_used()
    {
        List<Row> rows = Rows(30, seed: 8);
        HardNegativeOptions options = Options(rows) with { RangeStart = 0, RangeEnd = 10, NegativeNumber = 3 };
        float[] Breaking(IReadOnlyList<TextInput> texts, string? instruction) => instruction is null ? Embed(texts, instruction) : throw new IOException("the plug is pulled");
        Assert.Throws<IOException>(() => new HardNegativeMiner(options, Breaking, Dimensions, 1, null, null).Run("another model", TestContext.Current.CancellationToken));
        _embedded = 0;
        Mine(options);
        Assert.Equal(Corpus(rows).Length + 30, _embedded);
    }

    [Fact]
    public void A_malformed_row_names_its_line_or_is_counted()
    {
        File.WriteAllText(At("in.jsonl"), """{"query":"q","pos":["a"],"neg":["b","c"]}""" + "\n{\"query\":\"q\"}\n");
        HardNegativeOptions options = new() { InputFile = At("in.jsonl"), OutputFile = At("out.jsonl"), RangeStart = 0, RangeEnd = 5, NegativeNumber = 2 };
        Assert.Equal(2, Assert.Throws<BgeMetalException>(() => Mine(options)).Line);
        InvalidLines skipped = new();
        new HardNegativeMiner(options, Embed, Dimensions, 1, null, skipped).Run("m", TestContext.Current.CancellationToken);
        Assert.Equal(1, skipped.Count);
        Assert.Single(Read(options.OutputFile));
    }

    private HardNegativeReport Mine(HardNegativeOptions options) => new HardNegativeMiner(options, Embed, Dimensions, 1, null, null).Run("m", TestContext.Current.CancellationToken);

    private float[] Embed(IReadOnlyList<TextInput> texts, string? instruction)
    {
        _embedded += texts.Count;
        return [.. texts.SelectMany(text => Vector((instruction is null ? "" : instruction) + text.Text)).Select(value => (float)value)];
    }

    /// <summary>Small whole numbers: inner products are exact in every precision, and many are equal.</summary>
    private static double[] Vector(string text)
    {
        byte[] hash = System.Security.Cryptography.SHA256.HashData(System.Text.Encoding.UTF8.GetBytes(text));
        return [.. hash.Take(Dimensions).Select(value => (double)(value % 7 - 3))];
    }

    private static double Dot(double[] x, double[] y) => x.Zip(y).Sum(pair => pair.First * pair.Second);

    private static double Cosine(double[] x, double[] y) => Dot(x, x) * Dot(y, y) == 0 ? 0 : Dot(x, y) / Math.Sqrt(Dot(x, x) * Dot(y, y));

    private HardNegativeOptions Options(List<Row> rows)
    {
        File.WriteAllLines(At("in.jsonl"), rows.Select(row => JsonSerializer.Serialize(new { query = row.Query, pos = row.Pos, neg = row.Neg })));
        return new HardNegativeOptions { InputFile = At("in.jsonl"), OutputFile = At("out.jsonl"), QueryInstruction = "q:" };
    }

    /// <summary>Rows whose texts repeat now and then, one of which is the query itself.</summary>
    private static List<Row> Rows(int count, int seed)
    {
        Random random = new(seed);
        return [.. Enumerable.Range(0, count).Select(i => new Row($"text {random.Next(count)}", [$"text {random.Next(count)}", .. random.Next(2) == 0 ? new[] { $"answer {i}" } : []],
            [$"text {random.Next(count)}", $"other {random.Next(3)}"]))];
    }

    private static string[] Corpus(List<Row> rows) => [.. rows.SelectMany(row => row.Pos.Concat(row.Neg)).Distinct()];

    private static List<Row> Read(string path) => [.. File.ReadLines(path).Select(line => JsonSerializer.Deserialize<Row>(line, s_json)!)];

    private static readonly JsonSerializerOptions s_json = new() { PropertyNameCaseInsensitive = true };

    private string At(string name) => Path.Combine(_folder, name);

    private sealed record Row(string Query, string[] Pos, string[] Neg);
}
