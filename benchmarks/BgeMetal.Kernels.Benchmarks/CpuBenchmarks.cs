using BenchmarkDotNet.Attributes;
using BgeMetal.Kernels.Cpu;
using BgeMetal.Kernels.Simd;

namespace BgeMetal.Kernels.Benchmarks;

/// <summary>A kernel under BenchmarkDotNet, on one thread and on two.</summary>
[MemoryDiagnoser]
public abstract class CpuBenchmark : IDisposable
{
    private KernelCase? _case;
    private WorkerTeam? _team;

    [Params(1, 2)]
    public int Threads { get; set; }

    [GlobalSetup]
    public void Start()
    {
        _team = new WorkerTeam(Threads);
        _case = Create();
    }

    [GlobalCleanup]
    public void Dispose()
    {
        _case?.Dispose();
        _team?.Dispose();
        GC.SuppressFinalize(this);
    }

    [Benchmark]
    public void Run() => _case!.Run(_team!);

    private protected abstract KernelCase Create();
}

/// <summary>y = x W^T + bias at the shapes of bge-small-en (384, 1536), bge-small-zh (512, 2048) and bge-base (768, 3072).</summary>
public class GemmBenchmark : CpuBenchmark
{
    [Params(1, 16, 128, 512, 4096)]
    public int M { get; set; }

    [Params("384x384", "384x1536", "1536x384", "512x512", "512x2048", "2048x512", "768x768", "768x3072", "3072x768")]
    public string Shape { get; set; } = "";

    private protected override KernelCase Create()
    {
        int[] sizes = [.. Shape.Split('x').Select(s => int.Parse(s, System.Globalization.CultureInfo.InvariantCulture))];
        return new LinearCase(M, sizes[0], sizes[1], LinearEpilogue.None);
    }
}

/// <summary>Attention of the bge-small-en and bge-base shapes over two texts: what a thread's chunk holds.</summary>
public class AttentionBenchmark : CpuBenchmark
{
    [Params(16, 128, 512)]
    public int Length { get; set; }

    [Params(32, 64)]
    public int HeadDim { get; set; }

    private protected override KernelCase Create() => new AttentionCase(2, Length, 12, HeadDim);
}

/// <summary>LayerNorm(x + residual).</summary>
public class AddLayerNormBenchmark : CpuBenchmark
{
    [Params(384, 768)]
    public int Hidden { get; set; }

    private protected override KernelCase Create() => new LayerNormCase(256, Hidden);
}

/// <summary>GELU over a tile's worth of rows, one thread whatever the team.</summary>
public class GeluBenchmark : CpuBenchmark
{
    private protected override KernelCase Create() => new ElementwiseCase<GeluFunction>(12, 1536);
}

/// <summary>The ten nearest of 100,000 vectors of 512.</summary>
public class TopKBenchmark : CpuBenchmark
{
    [Params(1, 32, 128)]
    public int Queries { get; set; }

    private protected override KernelCase Create() => new TopKCase(Queries, 100_000, 512, 10);
}
