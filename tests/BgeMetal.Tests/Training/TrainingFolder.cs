using BgeMetal.Checkpoints;
using BgeMetal.Retrieval;
using BgeMetal.Testing;
using BgeMetal.Tests.Models;
using BgeMetal.Training;

namespace BgeMetal.Tests.Training;

/// <summary>A small fresh model with dropout, a few training rows, and short ways to train on them.</summary>
public sealed class TrainingFolder : IDisposable
{
    private static readonly string[] Subjects = ["cat", "fox", "river", "mat", "hills", "quick", "brown", "over"];
    private readonly TinyModel _model = new();

    public TrainingFolder()
    {
        Rows = Path.Combine(_model.Root, "rows.jsonl");
        File.WriteAllLines(Rows, Enumerable.Range(0, 24).Select(i =>
            $$"""{"query":"the {{Subject(i)}} sat on {{Subject(i / 8)}}","pos":["one {{Subject(i)}} and the {{Subject(i + 1)}} sat over two hills","{{Subject(i)}} river"],"neg":["three {{Subject(i + 3)}}","the quick {{Subject(i + 5)}} and one brown mat on the river"]}"""));
    }

    internal string Model => _model.Directory;

    internal string Rows { get; }

    internal FinetuneOptions Task => new() { TrainData = [Rows], TrainGroupSize = 3, Pooling = PoolingMode.Cls, QueryInstruction = "find: " };

    public void Dispose() => _model.Dispose();

    internal string Out(string name) => Path.Combine(_model.Root, name);

    internal TrainingOptions Options(string output, int threads = 2) => new()
    {
        OutputDirectory = Out(output),
        BatchSize = 4,
        MaxSteps = 9,
        LearningRate = 1e-3,
        WarmupRatio = 0.2,
        WeightDecay = 0.01,
        LoggingSteps = 2,
        Compute = new ComputeOptions { Threads = threads },
    };

    internal TrainingSummary Train(TrainingOptions options, FinetuneOptions? task = null, Action<TrainingProgress>? progress = null, CancellationToken cancellation = default) =>
        EmbedderTrainer.Run(Model, task ?? Task, options, progress, cancellation);

    /// <summary>The bytes of the saved weights.</summary>
    internal byte[] Weights(string output) => File.ReadAllBytes(Path.Combine(Out(output), "model.safetensors"));

    internal static Dictionary<string, float[]> Tensors(string folder)
    {
        SafetensorsReference file = new(Path.Combine(folder, "model.safetensors"));
        return file.Names.ToDictionary(name => name, name => file[name]);
    }

    private static string Subject(int i) => Subjects[i % Subjects.Length];
}
