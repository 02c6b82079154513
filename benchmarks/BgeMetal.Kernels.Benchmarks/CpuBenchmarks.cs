using BenchmarkDotNet.Attributes;
using BgeMetal.Kernels.Bench;
using BgeMetal.Kernels.Cpu;

namespace BgeMetal.Kernels.Benchmarks;

/// <summary>Every CPU case of the bench table under BenchmarkDotNet, on one thread and on two: slower than `bgemetal kernels bench`, with its statistics and its allocation counts.</summary>
[MemoryDiagnoser]
public class CpuBenchmarks : IDisposable
{
    private CpuOperands? _operands;
    private WorkerTeam? _team;
    private Action<WorkerTeam>? _call;

    /// <summary>The cases by name; `--filter` of BenchmarkDotNet does not see them, the environment variable BGEMETAL_BENCH does.</summary>
    public static IEnumerable<string> Cases => KernelBench.CpuCases(Environment.GetEnvironmentVariable("BGEMETAL_BENCH") ?? "").Select(item => item.ToString());

    [Params(1, 2)]
    public int Threads { get; set; }

    [ParamsSource(nameof(Cases))]
    public string Case { get; set; } = "";

    [GlobalSetup]
    public void Start()
    {
        BenchCase item = KernelBench.CpuCases("").Single(item => item.ToString() == Case);
        _team = new WorkerTeam(Threads);
        _operands = new CpuOperands { Team = _team };
        _call = item.Op.Cpu!(_operands, item.Shape);
    }

    [Benchmark]
    public void Run() => _call!(_team!);

    [GlobalCleanup]
    public void Dispose()
    {
        _operands?.Dispose();
        _team?.Dispose();
        GC.SuppressFinalize(this);
    }
}
