using BenchmarkDotNet.Attributes;
using BgeMetal.Benchmarks.Engines;
using BgeMetal.Benchmarks.Models;
using BgeMetal.Benchmarks.Onnx;

namespace BgeMetal.Benchmarks;

/// <summary>
/// The workloads of <c>end-to-end</c> under BenchmarkDotNet: for its statistics and its allocation column. It runs one contestant after the other, so on a machine that does
/// other work the paired harness gives the fairer ratio.
/// </summary>
[MemoryDiagnoser]
public class EncoderBenchmarks
{
    private ModelFolder? folder;
    private OnnxEngine? peer;
    private BgeMetalEngine? own;
    private Workload? workload;
    private float[][] output = [];

    [ParamsSource(nameof(Models))]
    public string Model { get; set; } = "";

    [Params("fixed-32x128", "mixed-sorted", "mixed-arrival", "one-16", "one-256")]
    public string Texts { get; set; } = "";

    public static IEnumerable<string> Models => EncoderShape.Known.Select(shape => shape.Name);

    [GlobalSetup]
    public void Load()
    {
        EncoderShape shape = EncoderShape.Named(Model);
        workload = Workload.All(shape.VocabularySize, 42).Single(one => one.Name == Texts);
        output = [.. workload.TokenIds.Select(_ => new float[shape.HiddenSize])];
        folder = new(EncoderWeights.Random(shape, 42), [OnnxForm.Plain]);
        int threads = workload.SingleText ? 1 : Environment.ProcessorCount;
        peer = new(folder.OnnxModel(OnnxForm.Plain), OnnxForm.Plain, threads, spinning: true, workload.Arrival ? PaddedBatching.Arrival : PaddedBatching.Sorted);
        own = new(folder.Path, threads);
    }

    [GlobalCleanup]
    public void Unload()
    {
        peer?.Dispose();
        own?.Dispose();
        folder?.Dispose();
    }

    [Benchmark(Baseline = true)]
    public void OnnxRuntime() => peer!.Embed(workload!.TokenIds, output);

    [Benchmark]
    public void BgeMetal() => own!.Embed(workload!.TokenIds, output);
}
