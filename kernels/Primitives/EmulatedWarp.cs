using System.Reflection;
using System.Runtime.CompilerServices;
using ILGPU;
using ILGPU.Runtime.CPU;

namespace BgeMetal.Kernels.Primitives;

/// <summary>
/// What the lanes of one warp share when a kernel runs on ILGPU's CPU accelerator, where each lane is a thread: a mailbox with two halves that
/// are used in turn, so that one barrier an exchange is enough. Never part of a GPU kernel.
/// </summary>
internal sealed class EmulatedWarp
{
    private const int Slots = 65;
    private static readonly ConditionalWeakTable<object, EmulatedWarp> s_warps = [];
    private static readonly Func<object> s_context = typeof(CPUAccelerator).Assembly
        .GetType("ILGPU.Runtime.CPU.CPURuntimeWarpContext", throwOnError: true)!
        .GetProperty("Current", BindingFlags.Static | BindingFlags.Public)!.GetMethod!.CreateDelegate<Func<object>>();

    [ThreadStatic] private static EmulatedWarp? t_current;
    [ThreadStatic] private static object? t_context;

    private readonly long[][] _mail = [new long[32 * Slots], new long[32 * Slots]];
    private readonly int[] _turn = new int[32];

    /// <summary>The warp of the calling lane.</summary>
    public static EmulatedWarp Current
    {
        get
        {
            object context = s_context();
            if (!ReferenceEquals(context, t_context))
            {
                t_current = s_warps.GetValue(context, _ => new EmulatedWarp());
                t_context = context;
            }
            return t_current!;
        }
    }

    /// <summary>
    /// Publishes this lane's values and returns everybody's once all lanes have arrived: value s of lane l at [s * 32 + l]. The span is valid
    /// until this lane's next exchange.
    /// </summary>
    public ReadOnlySpan<long> Exchange(long first, long second = 0)
    {
        int lane = Warp.LaneIdx;
        long[] mail = _mail[_turn[lane]++ & 1];
        mail[lane] = first;
        mail[32 + lane] = second;
        Warp.Barrier();
        return mail;
    }

    /// <summary>The same for many values: value i of lane l at [i * 32 + l], and after them <paramref name="last"/>.</summary>
    public ReadOnlySpan<long> Exchange(ReadOnlySpan<int> values, int last)
    {
        int lane = Warp.LaneIdx;
        long[] mail = _mail[_turn[lane]++ & 1];
        for (int i = 0; i < values.Length; i++) mail[i * 32 + lane] = values[i];
        mail[values.Length * 32 + lane] = last;
        Warp.Barrier();
        return mail;
    }

    /// <summary>Fails as the device would on a misaligned access.</summary>
    /// <exception cref="DataMisalignedException">The address is not a multiple of <paramref name="bytes"/>.</exception>
    public static void CheckAligned(long address, int bytes)
    {
        if ((address & (bytes - 1)) != 0) throw new DataMisalignedException($"address 0x{address:x} is not a multiple of {bytes}");
    }
}
