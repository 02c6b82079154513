using System.Text.Json;
using BgeMetal.Kernels;
using BgeMetal.Retrieval;
using BgeMetal.Testing;
using BgeMetal.Tests.Training;
using BgeMetal.Training;
using BgeMetal.Training.Objectives;

namespace BgeMetal.Tests.Cuda;

/// <summary>Whole models trained on the emulated GPU, against PyTorch's numbers and the CPU's.</summary>
[Collection("emulated gpu")]
public sealed class CudaTrainingTests(TrainingFolder folder) : IClassFixture<TrainingFolder>
{
    [Theory]
    [InlineData("legacy_g2_inbatch", 0)]
    [InlineData("current_g2_mrl", 3)]
    public void A_contrastive_case_has_pytorchs_loss_and_gradients(string name, int subBatchSize)
    {
        string source = SharedFolder.FixtureOrSkip("contrastive", name);
        using JsonDocument inputs = Json(source, "inputs.json"), expected = Json(source, "expected.json");
        FixtureTask task = FixtureTask.Read(inputs.RootElement);
        string directory = Path.Combine(source, inputs.RootElement.GetProperty("model").GetString()!);
        using TrainableModel model = TrainableModel.Load(directory, CudaEncoderTests.Emulated(DType.Float32), _ => [], new HashSet<string>());
        using ContrastiveObjective objective = new(model, task.Options with { SubBatchSize = subBatchSize }, task.Pooling);
        double loss = objective.Backpropagate(task.Batch(inputs.RootElement), 1, seed: 1);
        Assert.Equal(expected.RootElement.GetProperty("loss").GetDouble(), loss, 1e-4);
        GradientComparison.AssertClose(new SafetensorsReference(Path.Combine(source, "expected.safetensors")), "grad.", model.Parameters);
    }

    [Fact]
    public void Fine_tuning_takes_the_cpus_course_with_the_same_dropout_and_measures_retrieval()
    {
        (List<double> expected, Dictionary<string, float[]> expectedWeights) = Train("on-cpu", new ComputeOptions { Threads = 2 });
        (List<double> actual, Dictionary<string, float[]> actualWeights) = Train("on-gpu", CudaEncoderTests.Emulated(DType.Float32));
        Assert.Equal(2, actual.Count);
        for (int step = 0; step < actual.Count; step++) Assert.Equal(expected[step], actual[step], 1e-4 * expected[step]);
        Dictionary<string, float[]> before = TrainingFolder.Tensors(folder.Model);
        double moved = Distance(before, expectedWeights), apart = Distance(actualWeights, expectedWeights);
        Assert.True(moved > 0 && apart <= 5e-3 * moved, $"weights moved {moved:g3} and are {apart:g3} apart");
        Assert.Equal(File.ReadLines(Path.Combine(folder.Out("on-cpu"), "eval_log.csv")).Count(), File.ReadLines(Path.Combine(folder.Out("on-gpu"), "eval_log.csv")).Count());
    }

    [Fact]
    public void DupMAE_takes_the_cpus_course()
    {
        string data = Path.Combine(folder.Out("dupmae-data") + ".jsonl");
        File.WriteAllLines(data, ["{\"text\":\"the quick fox\"}", "{\"text\":\"one cat\"}"]);
        (double[] expected, Dictionary<string, float[]> expectedWeights) = Train("dupmae-cpu", new ComputeOptions { Threads = 2 });
        (double[] actual, Dictionary<string, float[]> actualWeights) = Train("dupmae-gpu", CudaEncoderTests.Emulated(DType.Float32));
        Assert.Equal(2, actual.Length);
        for (int step = 0; step < actual.Length; step++) Assert.Equal(expected[step], actual[step], 1e-4 * expected[step]);
        Dictionary<string, float[]> before = TrainingFolder.Tensors(folder.Model);
        string[] shared = [.. before.Keys.Where(name => expectedWeights.ContainsKey("bert." + name))];
        double moved = Distance(shared.ToDictionary(name => name, name => before[name]), shared.ToDictionary(name => name, name => expectedWeights["bert." + name])), apart = Distance(actualWeights, expectedWeights);
        Assert.True(moved > 0 && apart <= 5e-3 * moved, $"weights moved {moved:g3} and are {apart:g3} apart");

        (double[] Losses, Dictionary<string, float[]> Weights) Train(string output, ComputeOptions compute)
        {
            TrainingOptions options = new() { OutputDirectory = folder.Out(output), MaxSteps = 2, BatchSize = 2, LearningRate = 1e-3, LoggingSteps = 1, Compute = compute };
            RetroMaeTrainer.Run(folder.Model, new PretrainOptions { TrainData = [data], Objective = PretrainObjective.DupMae, BagOfWordsWeight = 1 }, options);
            return ([.. TrainLog.Rows(Path.Combine(options.OutputDirectory, "train_log.csv")).Select(row => row.Loss)],
                TrainingFolder.Tensors(Path.Combine(options.OutputDirectory, RetroMaeTrainer.ModelFolder)));
        }
    }

    [Fact]
    public void A_resumed_run_in_fp16_ends_in_the_same_bits_and_its_loss_scale_goes_on()
    {
        List<TrainingProgress> steps = [], resumed = [];
        TrainingOptions options = Options("fp16", CudaEncoderTests.Emulated(DType.Float16)) with { SaveSteps = 1 };
        folder.Train(options, Task, steps.Add);
        byte[] weights = folder.Weights("fp16");
        using (JsonDocument state = Json(Path.Combine(folder.Out("fp16"), "checkpoint-1"), "trainer_state.json"))
        {
            Assert.Equal(steps[0].LossScale, state.RootElement.GetProperty("loss_scale").GetDouble());
            Assert.Equal(steps[0].IsSkipped ? 0 : 1, state.RootElement.GetProperty("updates").GetInt32());
        }
        folder.Train(options with { ResumeFrom = Path.Combine(folder.Out("fp16"), "checkpoint-1") }, Task, resumed.Add);
        Assert.Equal(weights, folder.Weights("fp16"));
        Assert.Equal(steps[1..], resumed);
    }

    private static FinetuneOptions Small(FinetuneOptions task) => task with { TrainGroupSize = 2, PassageMaxLength = 8, QueryMaxLength = 8 };

    private FinetuneOptions Task => Small(folder.Task);

    private TrainingOptions Options(string output, ComputeOptions compute) => folder.Options(output) with { BatchSize = 2, MaxSteps = 2, LoggingSteps = 1, Compute = compute };

    private (List<double> Losses, Dictionary<string, float[]> Weights) Train(string output, ComputeOptions compute)
    {
        List<double> losses = [];
        TrainingOptions options = Options(output, compute) with { Evaluation = new EvaluationOptions { DataDirectory = RetrievalSet() } };
        folder.Train(options, Task, step => losses.Add(step.Loss));
        return (losses, TrainingFolder.Tensors(folder.Out(output)));
    }

    /// <summary>Two passages and a query.</summary>
    private string RetrievalSet()
    {
        string data = folder.Out("beir");
        Directory.CreateDirectory(Path.Combine(data, "qrels"));
        File.WriteAllLines(Path.Combine(data, "corpus.jsonl"), ["{\"_id\":\"a\",\"title\":\"\",\"text\":\"the cat\"}", "{\"_id\":\"b\",\"title\":\"\",\"text\":\"one fox\"}"]);
        File.WriteAllLines(Path.Combine(data, "queries.jsonl"), ["{\"_id\":\"q\",\"text\":\"cat\"}"]);
        File.WriteAllLines(Path.Combine(data, "qrels", "test.tsv"), ["query-id\tcorpus-id\tscore", "q\ta\t1"]);
        return data;
    }

    private static double Distance(Dictionary<string, float[]> a, Dictionary<string, float[]> b) =>
        Math.Sqrt(a.Sum(entry => entry.Value.Zip(b[entry.Key], (x, y) => ((double)x - y) * ((double)x - y)).Sum()));

    private static JsonDocument Json(string folder, string file) => JsonDocument.Parse(File.ReadAllBytes(Path.Combine(folder, file)));
}
