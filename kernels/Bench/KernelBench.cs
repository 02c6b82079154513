using BgeMetal.Kernels.Runtime;

namespace BgeMetal.Kernels.Bench;

/// <summary>Times the kernels of <see cref="BenchTable"/>, one result after another as they are measured.</summary>
public static class KernelBench
{
    private const int MostFailures = 3;

    /// <summary>The CPU's cases that match a filter (see <see cref="BenchCase.Matches"/>); an empty filter matches all.</summary>
    public static IReadOnlyList<BenchCase> CpuCases(string filter) => [.. BenchTable.All.SelectMany(op => op.CpuCases()).Where(item => item.Matches(filter))];

    /// <summary>The GPU's cases that match a filter.</summary>
    public static IReadOnlyList<BenchCase> CudaCases(string filter) => CudaCases(filter, []);

    /// <summary>The GPU's cases that match a filter, at the shapes given instead of the table's; an operation gets those that have all of its sizes.</summary>
    public static IReadOnlyList<BenchCase> CudaCases(string filter, IReadOnlyList<BenchShape> shapes)
    {
        ArgumentNullException.ThrowIfNull(shapes);
        return [.. BenchTable.All.SelectMany(op => shapes.Count == 0 ? op.CudaCases() : op.CudaCases(shapes)).Where(item => item.Matches(filter))];
    }

    /// <summary>
    /// Measures on the CPU. The first results are the roofline's own: copy bandwidth and the multiply-add peak of the same threads.
    /// </summary>
    /// <param name="cases">What to measure.</param>
    /// <param name="threads">At least 1.</param>
    /// <param name="seconds">Time to spend on a case; a few samples are always taken.</param>
    public static IEnumerable<BenchResult> RunOnCpu(IReadOnlyList<BenchCase> cases, int threads, double seconds)
    {
        ArgumentNullException.ThrowIfNull(cases);
        using CpuBench bench = new(threads, seconds);
        foreach (BenchResult limit in bench.Limits()) yield return limit;
        foreach (BenchCase item in cases) yield return bench.Measure(item);
    }

    /// <summary>
    /// Measures on a GPU. The first results are the roofline's own: multiply-adds, tensor cores, copy bandwidth. Where cuBLAS is installed, plain products
    /// are followed by its result. A case whose operands do not fit the memory, or that fails, is left out and reported; after three failures in a row the GPU is taken for broken.
    /// </summary>
    /// <param name="device">The GPU.</param>
    /// <param name="cases">What to measure.</param>
    /// <param name="seconds">Time to spend on a case at most; a few samples are always taken.</param>
    /// <param name="budgetSeconds">Time to spend on everything: cases get less, and the last ones are left out, where it does not suffice. 0 for no limit.</param>
    /// <param name="eachKernel">On Hopper: time products by each kernel that can compute them besides the chosen one, as backends cuda-mma, cuda-128, cuda-256 and cuda-pair.</param>
    /// <param name="report">Takes a line about what is left out, and whether there is a peer.</param>
    /// <exception cref="DeviceException">A kernel fails.</exception>
    public static IEnumerable<BenchResult> RunOnCuda(CudaDevice device, IReadOnlyList<BenchCase> cases, double seconds, double budgetSeconds, bool eachKernel, Action<string> report)
    {
        ArgumentNullException.ThrowIfNull(device);
        ArgumentNullException.ThrowIfNull(report);
        return RunOnCuda(device, cases, new CudaBenchSettings { Seconds = seconds, BudgetSeconds = budgetSeconds, EachKernel = eachKernel, RotateBytes = 2L * device.SecondLevelCacheBytes }, report);
    }

    internal static IEnumerable<BenchResult> RunOnCuda(KernelDevice device, IReadOnlyList<BenchCase> cases, CudaBenchSettings settings, Action<string> report)
    {
        TimeBudget budget = new(settings.BudgetSeconds, settings.Seconds);
        int failures = 0;
        using CudaBench bench = new(device, settings);
        report(bench.HasCublas ? "cuBLAS is there: products are measured beside it" : "no cuBLAS on this machine: products have no peer");
        foreach (BenchResult limit in bench.Limits()) yield return limit;
        foreach ((int index, BenchCase item) in cases.Index())
        {
            if (budget.IsSpent)
            {
                report($"{cases.Count - index} of {cases.Count} cases are left out, from {item} on: the time is spent");
                break;
            }
            using IEnumerator<BenchResult> results = bench.Measure(item, budget.Next(cases.Count - index)).GetEnumerator();
            while (TryNext(results, item, report, ref failures)) yield return results.Current;
        }
    }

    private static bool TryNext(IEnumerator<BenchResult> results, BenchCase item, Action<string> report, ref int failures)
    {
        try
        {
            bool hasNext = results.MoveNext();
            if (hasNext) failures = 0;
            return hasNext;
        }
        catch (DeviceException e) when (e.DriverResult == DriverApi.OutOfMemory || ++failures < MostFailures)
        {
            report($"{item} is left out: {e.Message}");
            return false;
        }
    }
}
