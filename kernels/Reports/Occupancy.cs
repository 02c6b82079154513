namespace BgeMetal.Kernels.Reports;

/// <summary>What a multiprocessor of an architecture has to share out (CUDA C++ Programming Guide, "Compute Capabilities").</summary>
/// <param name="Threads">Resident threads.</param>
/// <param name="Blocks">Resident blocks.</param>
/// <param name="SharedBytes">Shared memory, of which each block takes 1 KB more than it asks for.</param>
public readonly record struct MultiprocessorLimits(int Threads, int Blocks, int SharedBytes)
{
    /// <summary>The architectures that the limits are known of.</summary>
    public static IReadOnlyList<string> Architectures { get; } = ["sm_80", "sm_86", "sm_89", "sm_90"];

    /// <summary>The limits of sm_80 (A100), sm_86 (A10), sm_89 (L40S) or sm_90 (H100).</summary>
    /// <exception cref="ArgumentException">The architecture is another one.</exception>
    public static MultiprocessorLimits Of(string architecture) => architecture switch
    {
        "sm_80" => new(2048, 32, 164 << 10),
        "sm_86" => new(1536, 16, 100 << 10),
        "sm_89" => new(1536, 24, 100 << 10),
        "sm_90" => new(2048, 32, 228 << 10),
        _ => throw new ArgumentException($"'{architecture}' is not one of {string.Join(", ", Architectures)}", nameof(architecture)),
    };
}

/// <summary>How many blocks of a kernel a multiprocessor holds at once, by calculation.</summary>
/// <param name="Blocks">Resident blocks; 0 when not even one fits.</param>
/// <param name="Warps">Resident warps.</param>
/// <param name="Percent">Resident warps of those that the hardware could hold.</param>
/// <param name="Limit">What runs out first: registers, shared memory, threads or blocks.</param>
public readonly record struct Occupancy(int Blocks, int Warps, double Percent, string Limit)
{
    private const int Partitions = 4, PartitionRegisters = 65536 / Partitions, RegisterUnit = 256, SharedUnit = 128, SystemSharedBytes = 1024, MostRegisters = 255;

    /// <summary>
    /// The occupancy of a kernel: each of the four partitions of a multiprocessor gives its warps registers in units of 256; shared memory comes in units
    /// of 128 bytes, 1 KB more for each block.
    /// </summary>
    /// <exception cref="ArgumentOutOfRangeException">The threads are not in 1..1024 or the registers not in 1..255.</exception>
    public static Occupancy Of(string architecture, int threads, int registers, int sharedBytes)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(threads, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(threads, 1024);
        ArgumentOutOfRangeException.ThrowIfLessThan(registers, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(registers, MostRegisters);
        MultiprocessorLimits limits = MultiprocessorLimits.Of(architecture);
        int warps = (threads + 31) / 32, warpRegisters = (registers * 32 + RegisterUnit - 1) / RegisterUnit * RegisterUnit;
        int shared = (sharedBytes + SystemSharedBytes + SharedUnit - 1) / SharedUnit * SharedUnit;
        (string Name, int Blocks)[] bounds =
        [
            ("threads", limits.Threads / (warps * 32)),
            ("registers", PartitionRegisters / warpRegisters * Partitions / warps),
            ("shared memory", limits.SharedBytes / shared),
            ("blocks", limits.Blocks),
        ];
        (string name, int blocks) = bounds.MinBy(bound => bound.Blocks);
        return new(blocks, blocks * warps, 100.0 * blocks * warps * 32 / limits.Threads, name);
    }
}
