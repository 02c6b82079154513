using BgeMetal.Kernels.Cpu;
using BgeMetal.Kernels.Simd;

namespace BgeMetal.Kernels.Tests.Cpu;

/// <summary>Tests of CPU kernels switch the process-wide vector width, so they do not run beside anything else.</summary>
[CollectionDefinition(Name, DisableParallelization = true)]
public sealed class CpuKernels
{
    public const string Name = "CPU kernels";

    /// <summary>Every vector width of this machine.</summary>
    public static TheoryData<VectorWidth> Widths =>
        [.. new[] { VectorWidth.Bits128, VectorWidth.Bits256, VectorWidth.Bits512 }.Where(w => w <= VectorUnit.Widest)];

    /// <summary>Runs the action at each width of this machine, named for messages.</summary>
    internal static void AtEachWidth(Action<string> action)
    {
        foreach (VectorWidth width in new[] { VectorWidth.Bits128, VectorWidth.Bits256, VectorWidth.Bits512 })
        {
            if (width > VectorUnit.Widest) continue;
            using WidthScope _ = new(width);
            action(width.ToString());
        }
    }

    /// <summary>The bytes of managed memory that a call allocates on this thread once it is warm.</summary>
    internal static long ManagedBytes(Action action)
    {
        for (int i = 0; i < 3; i++) action();
        long before = GC.GetAllocatedBytesForCurrentThread();
        action();
        return GC.GetAllocatedBytesForCurrentThread() - before;
    }

    /// <summary>Runs the action with teams of 1, 2 and 3 threads and checks that what it returns has the same bits each time.</summary>
    internal static void AssertSameForAnyTeam(Func<WorkerTeam, float[]> run)
    {
        float[] alone = run(WorkerTeam.Single);
        foreach (int threads in new[] { 2, 3 })
        {
            using WorkerTeam team = new(threads);
            Testing.Tolerance.AssertBitEqual(run(team), alone, $"1 and {threads} threads");
        }
    }

    /// <summary>Offsets of packed sequences.</summary>
    internal static int[] Offsets(params int[] lengths)
    {
        int[] offsets = new int[lengths.Length + 1];
        for (int i = 0; i < lengths.Length; i++) offsets[i + 1] = offsets[i] + lengths[i];
        return offsets;
    }
}

/// <summary>Uses a vector width until disposed.</summary>
internal readonly struct WidthScope : IDisposable
{
    private readonly VectorWidth _before;

    public WidthScope(VectorWidth width)
    {
        _before = VectorUnit.Width;
        VectorUnit.Use(width);
    }

    public void Dispose() => VectorUnit.Use(_before);
}
