using BgeMetal.Data;
using BgeMetal.Data.Training;
using BgeMetal.Testing;
using BgeMetal.Text;

namespace BgeMetal.Tests.Data.Training;

public sealed class ContrastiveBatchesTests : IDisposable
{
    private readonly RowFiles _files = new();

    public void Dispose() => _files.Dispose();

    private ModelTokenizer Tokenizer()
    {
        _files.Write("model/vocab.txt", "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "find", "a", "cat", "dog", "fish", ":", "!");
        _files.Write("model/tokenizer_config.json", "{\"do_lower_case\": true}");
        return ModelTokenizer.Load(Path.Combine(_files.Folder, "model"));
    }

    private static int[] Ids(TokenSequence sequence) => sequence.Ids.ToArray();

    [Fact]
    public void One_positive_and_exactly_enough_negatives_without_shuffling_are_the_file()
    {
        string path = _files.Write("a.jsonl", RowFiles.TokenRows(5, 3, extra: ",\"pos_scores\":[4],\"neg_scores\":[1,2,3]"));
        ContrastiveOptions options = new() { BatchSize = 2, GroupSize = 4, Shuffle = false, KnowledgeDistillation = true };
        using TrainingDataSet<TrainingRow> data = RowFiles.Open(options, null, path);
        ContrastiveBatches batches = new(data, options, null);
        Assert.Equal(3, batches.PerEpoch);
        Assert.Equal("10000 10001 | 20000 30000 30001 30002 20001 30100 30101 30102 | 4 1 2 3 4 1 2 3", RowFiles.Show(batches.Build(0)));
        Assert.Equal("10004 | 20004 30400 30401 30402 | 4 1 2 3", RowFiles.Show(batches.Build(2)));
        ContrastiveBatch later = batches.Build(4);
        Assert.Equal((1, 1), (later.Epoch, later.Index));
        Assert.Equal(RowFiles.Show(batches.Build(1)), RowFiles.Show(later));
        Assert.Equal([new RowPlace(path, 3), new RowPlace(path, 4)], later.Places);
        Assert.Equal([2, 3], later.Rows.ToArray());
        Assert.Equal(2 + 8, later.Tokens);
    }

    [Fact]
    public void Scores_follow_their_texts_when_negatives_are_drawn()
    {
        string scores = $",\"pos_scores\":[99],\"neg_scores\":[{string.Join(',', Enumerable.Range(0, 20))}]";
        ContrastiveOptions options = new() { BatchSize = 4, GroupSize = 6, KnowledgeDistillation = true };
        using TrainingDataSet<TrainingRow> data = RowFiles.Open(options, null, _files.Write("a.jsonl", RowFiles.TokenRows(8, 20, extra: scores)));
        ContrastiveBatches batches = new(data, options, null);
        for (int b = 0; b < 6; b++)
        {
            ContrastiveBatch batch = batches.Build(b);
            for (int i = 0; i < batch.Passages.Count; i++)
                Assert.Equal(i % 6 == 0 ? 99 : batch.Passages[i].Ids.Span[0] % 100, batch.TeacherScores![i]);
        }
    }

    [Fact]
    public void A_run_resumed_at_any_batch_and_on_any_number_of_threads_is_the_same_run()
    {
        string[] paths = [_files.Write("a.jsonl", RowFiles.TokenRows(23, 9)), _files.Write("b.jsonl", RowFiles.TokenRows(11, 2, from: 50)), _files.Write("c.jsonl", RowFiles.TokenRows(4, 6, from: 80))];
        foreach (bool same in new[] { false, true })
        {
            ContrastiveOptions options = new() { BatchSize = 3, GroupSize = 4, Seed = 5, SameDatasetWithinBatch = same };
            string[] whole = Run(paths, options, 0, 1);
            Assert.Equal(60, whole.Length);
            Assert.Distinct(whole);
            foreach ((int from, int threads) in new[] { (0, 4), (1, 1), (13, 2), (29, 3), (59, 1) }) Assert.Equal(whole[from..], Run(paths, options, from, threads));
        }
    }

    private static string[] Run(string[] paths, ContrastiveOptions options, int from, int threads)
    {
        using TrainingDataSet<TrainingRow> data = RowFiles.Open(options, null, paths);
        ContrastiveBatches batches = new(data, options, null);
        using BatchPrefetcher<ContrastiveBatch> prefetcher = new(batches.Build, from, 60, capacity: 4, threads);
        List<string> seen = [];
        while (prefetcher.TryTake(out ContrastiveBatch batch)) seen.Add(RowFiles.Show(batch));
        return [.. seen];
    }

    [Fact]
    public void Every_row_is_used_once_an_epoch()
    {
        ContrastiveOptions options = new() { BatchSize = 8, GroupSize = 2 };
        using TrainingDataSet<TrainingRow> data = RowFiles.Open(options, null, _files.Write("a.jsonl", RowFiles.TokenRows(100, 5)));
        ContrastiveBatches batches = new(data, options, null);
        for (int epoch = 0; epoch < 3; epoch++)
            Assert.Equal(Enumerable.Range(10000, 100), Enumerable.Range(0, 13).SelectMany(b => batches.Build(epoch, b).Queries.Select(q => q.Ids.Span[0])).Order());
    }

    [Fact]
    public void Texts_are_joined_with_their_instructions_and_cut()
    {
        string path = _files.Write("a.jsonl",
            """{"query":"cat","pos":["dog"],"neg":["fish fish fish fish fish"]}""",
            """{"query":"cat","pos":["dog"],"neg":["fish"],"prompt":"a"}""",
            """{"query":{"input_ids":[9,9,9]},"pos":[{"input_ids":[8]}],"neg":["fish"]}""");
        ContrastiveOptions options = new()
        {
            BatchSize = 3,
            GroupSize = 2,
            Shuffle = false,
            QueryMaxLength = 8,
            PassageMaxLength = 5,
            VocabularySize = 12,
            QueryInstruction = "find",
            QueryFormat = InstructionFormat.Parse("{}: {}"),
            PassageInstruction = "a ",
        };
        using TrainingDataSet<TrainingRow> data = RowFiles.Open(options, null, path);
        ContrastiveBatch batch = new ContrastiveBatches(data, options, Tokenizer()).Build(0);
        Assert.Equal([[2, 5, 10, 7, 3], [2, 6, 10, 7, 3], [9, 9, 9]], batch.Queries.Select(Ids));
        Assert.Equal([[2, 6, 8, 3], [2, 6, 9, 9, 3], [2, 6, 8, 3], [2, 6, 9, 3], [8], [2, 6, 9, 3]], batch.Passages.Select(Ids));
    }

    [Fact]
    public void A_prompt_of_the_file_stands_between_the_rows_and_the_runs()
    {
        string path = _files.Write("a.jsonl", """{"query":"cat","pos":["dog"],"neg":["fish"]}""", """{"query":"cat","pos":["dog"],"neg":["fish"],"prompt":"find "}""");
        ContrastiveOptions options = new() { BatchSize = 2, Shuffle = false, QueryInstruction = "! " };
        using TrainingDataSet<TrainingRow> data = TrainingDataSet<TrainingRow>.Open([new TrainingInput(path, Prompt: "a ")], options.Rules(true).Read, new TrainingDataOptions());
        Assert.Equal([[2, 6, 7, 3], [2, 5, 7, 3]], new ContrastiveBatches(data, options, Tokenizer()).Build(0).Queries.Select(Ids));
    }

    [Fact]
    public void Batches_of_one_data_set_follow_the_rows_types()
    {
        string normal = _files.Write("normal.jsonl", RowFiles.TokenRows(8, 9, extra: ",\"type\":\"normal\""));
        string one = _files.Write("one.jsonl", RowFiles.TokenRows(8, 9, extra: ",\"type\":\"only_1neg\""));
        string classes = _files.Write("classes_no_in_batch_neg.jsonl", RowFiles.TokenRows(8, 2, extra: ",\"type\":\"symmetric_class\""));
        string sized = _files.Write("sized.jsonl", RowFiles.TokenRows(8, 9, extra: ",\"batch_size\":8,\"train_group_size\":3"));
        ContrastiveOptions options = new() { BatchSize = 4, GroupSize = 5, SameDatasetWithinBatch = true, Shuffle = false };
        using TrainingDataSet<TrainingRow> data = RowFiles.Open(options, null, normal, one, classes, sized);
        ContrastiveBatches batches = new(data, options, null);
        Assert.Equal(2 + 2 + 4 + 1, batches.PerEpoch);
        ContrastiveBatch[] epoch = [.. Enumerable.Range(0, 9).Select(b => batches.Build(b))];
        Assert.Equal([5, 5, 2, 2, 3, 3, 3, 3, 3], epoch.Select(b => b.GroupSize));
        Assert.Equal([4, 4, 4, 4, 2, 2, 2, 2, 8], epoch.Select(b => b.Queries.Count));
        Assert.Equal([.. Enumerable.Repeat(false, 4), .. Enumerable.Repeat(true, 4), false], epoch.Select(b => b.NoInBatchNegatives));
        Assert.All(epoch, b => Assert.Equal(b.Queries.Count * b.GroupSize, b.Passages.Count));
    }

    [Fact]
    public void Symmetric_texts_take_the_query_instruction_on_both_sides()
    {
        string path = _files.Write("a.jsonl", """{"query":"cat","pos":["dog"],"neg":["fish"],"type":"symmetric_sts","prompt":"find "}""");
        ContrastiveOptions options = new() { BatchSize = 1, SameDatasetWithinBatch = true, PassageInstruction = "a " };
        using TrainingDataSet<TrainingRow> data = RowFiles.Open(options, null, path);
        Assert.Equal([[2, 5, 8, 3], [2, 5, 9, 3]], new ContrastiveBatches(data, options, Tokenizer()).Build(0).Passages.Select(Ids));
        ContrastiveOptions mixed = options with { SameDatasetWithinBatch = false };
        Assert.Equal([[2, 6, 8, 3], [2, 6, 9, 3]], new ContrastiveBatches(data, mixed, Tokenizer()).Build(0).Passages.Select(Ids));
    }

    [Theory]
    [InlineData(0, 0, "4 4 3 3 2 1 1")]
    [InlineData(3, 0, "4 4 3 3 3")]
    [InlineData(3, 7, "4 4 3 3")]
    [InlineData(7, 0, "4 4 4 4 1")]
    public void Small_files_of_a_folder_are_merged_and_too_small_ones_left_out(int small, int drop, string expected)
    {
        _files.Write("f/a.jsonl", RowFiles.TokenRows(8, 1));
        _files.Write("f/b.jsonl", RowFiles.TokenRows(3, 1, from: 20));
        _files.Write("f/c.jsonl", RowFiles.TokenRows(2, 1, from: 30));
        _files.Write("f/d.jsonl", RowFiles.TokenRows(1, 1, from: 40));
        _files.Write("f/e.jsonl", RowFiles.TokenRows(3, 1, from: 50));
        string alone = _files.Write("alone.jsonl", RowFiles.TokenRows(1, 1, from: 60));
        ContrastiveOptions options = new() { BatchSize = 4, SameDatasetWithinBatch = true, SmallThreshold = small, DropThreshold = drop };
        using TrainingDataSet<TrainingRow> data = RowFiles.Open(options, null, Path.Combine(_files.Folder, "f"), alone);
        ContrastiveBatches batches = new(data, options, null);
        string sizes = string.Join(' ', Enumerable.Range(0, batches.PerEpoch).Select(b => batches.Build(b).Queries.Count).OrderDescending());
        Assert.Equal(expected, sizes);
    }

    [Fact]
    public void Types_that_differ_within_a_batch_are_an_error_of_the_row()
    {
        string path = _files.Write("a.jsonl", [.. RowFiles.TokenRows(2, 1, extra: ",\"type\":\"normal\""), .. RowFiles.TokenRows(1, 1)]);
        ContrastiveOptions options = new() { BatchSize = 3, SameDatasetWithinBatch = true, Shuffle = false };
        using TrainingDataSet<TrainingRow> data = RowFiles.Open(options, null, path);
        BgeMetalException error = Assert.Throws<BgeMetalException>(() => new ContrastiveBatches(data, options, null).Build(0));
        Assert.Contains("the type is missing, but \"normal\"", error.Message, StringComparison.Ordinal);
        Assert.EndsWith("a.jsonl:3)", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Batches_without_scores_go_without_and_half_scored_ones_are_an_error()
    {
        string plain = _files.Write("a.jsonl", RowFiles.TokenRows(2, 1));
        string half = _files.Write("b.jsonl", [.. RowFiles.TokenRows(1, 1, extra: ",\"teacher_scores\":[2,1]"), .. RowFiles.TokenRows(1, 1)]);
        ContrastiveOptions options = new() { BatchSize = 2, SameDatasetWithinBatch = true, Shuffle = false, KnowledgeDistillation = true };
        using TrainingDataSet<TrainingRow> data = RowFiles.Open(options, null, plain, half);
        ContrastiveBatches batches = new(data, options, null);
        Assert.Null(batches.Build(0).TeacherScores);
        Assert.EndsWith("b.jsonl:2)", Assert.Throws<BgeMetalException>(() => batches.Build(1)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void An_epoch_without_a_full_batch_is_an_error()
    {
        ContrastiveOptions options = new() { BatchSize = 6, DropLast = true };
        using TrainingDataSet<TrainingRow> data = RowFiles.Open(options, null, _files.Write("a.jsonl", RowFiles.TokenRows(5, 1)));
        Assert.Contains("the 5 rows do not fill one batch of 6", Assert.Throws<BgeMetalException>(() => new ContrastiveBatches(data, options, null)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void The_published_example_folders_give_batches()
    {
        string root = SharedFolder.DataOrSkip("flagembedding", "finetune", "embedder");
        ContrastiveOptions options = new() { BatchSize = 4, GroupSize = 8, SameDatasetWithinBatch = true, KnowledgeDistillation = true };
        using TrainingDataSet<TrainingRow> data = RowFiles.Open(options, null, Directory.GetDirectories(root).Order(StringComparer.Ordinal));
        ContrastiveBatches batches = new(data, options, Tokenizer());
        ContrastiveBatch[] epoch = [.. Enumerable.Range(0, batches.PerEpoch).Select(b => batches.Build(b))];
        Assert.Equal(80, epoch.Sum(b => b.Queries.Count));
        Assert.Equal(40, epoch.Where(b => b.NoInBatchNegatives).Sum(b => b.Queries.Count));
        Assert.Equal(30, epoch.Where(b => b.TeacherScores is not null).Sum(b => b.Queries.Count));
        Assert.All(epoch.Where(b => b.Places[0].File.EndsWith("nli.jsonl", StringComparison.Ordinal)), b => Assert.Equal(2, b.GroupSize));
    }

    [Fact]
    public void Pre_training_texts_come_in_batches_too()
    {
        string path = _files.Write("a.jsonl", """{"text":"cat dog fish cat"}""", """{"input_ids":[1,2]}""", """{"text":"dog"}""");
        using TrainingDataSet<TextRow> data = TrainingDataSet<TextRow>.Open([new TrainingInput(path)], new TextRowRules(5, 12).Read, new TrainingDataOptions());
        TextBatches batches = new(data, new TextBatchOptions { BatchSize = 2, MaxLength = 5, Shuffle = false }, Tokenizer());
        Assert.Equal(2, batches.PerEpoch);
        Assert.Equal([[2, 7, 8, 9, 3], [1, 2]], batches.Build(2).Texts.Select(Ids));
        Assert.Equal([[2, 8, 3]], batches.Build(1).Texts.Select(Ids));
        Assert.Equal((1, 0, 7), (batches.Build(2).Epoch, batches.Build(2).Index, batches.Build(2).Tokens));
    }
}
