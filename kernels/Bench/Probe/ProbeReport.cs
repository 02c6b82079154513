namespace BgeMetal.Kernels.Bench;

/// <summary>One thing that was measured of a machine.</summary>
/// <param name="Group">What it belongs to: device, kernels, launches, graphs, copies, limits.</param>
/// <param name="Name">What it is, with words only.</param>
/// <param name="Value">The number.</param>
/// <param name="Unit">Its unit; empty for a count.</param>
public sealed record ProbeFact(string Group, string Name, double Value, string Unit);

/// <summary>One part of a probe that failed; the others went on.</summary>
/// <param name="Part">The part, or the kernel.</param>
/// <param name="Message">What the driver, or the check, said.</param>
public sealed record ProbeFailure(string Part, string Message);

/// <summary>What loading a kernel showed. The driver's counts beside those of the committed table of assembled kernels.</summary>
public sealed record KernelLoad
{
    /// <summary>The kernel.</summary>
    public required string Kernel { get; init; }

    /// <summary>Milliseconds of compiling its PTX, or of reading it from the disk.</summary>
    public double TextMs { get; init; }

    /// <summary>Milliseconds in the driver: its compiler, or its cache.</summary>
    public double DriverMs { get; init; }

    /// <summary>Registers of a thread.</summary>
    public int Registers { get; init; }

    /// <summary>The same in the table; null where the table has no such kernel or architecture.</summary>
    public int? ExpectedRegisters { get; init; }

    /// <summary>Bytes of local memory of a thread: spills and stack, which should be none.</summary>
    public int LocalBytes { get; init; }

    /// <summary>Bytes of shared memory that every block has, and of that which is asked for at the launch.</summary>
    public int SharedBytes { get; init; }

    /// <summary>Threads of a block.</summary>
    public int Threads { get; init; }

    /// <summary>Blocks that the driver says a multiprocessor holds at once.</summary>
    public int BlocksPerMultiprocessor { get; init; }

    /// <summary>The architecture of the machine code: 90 for sm_90.</summary>
    public int Binary { get; init; }

    /// <summary>Why it did not load; empty when it did.</summary>
    public string Error { get; init; } = "";
}

/// <summary>What is known of a machine before anything is tested or measured on it at length.</summary>
public sealed record ProbeReport
{
    /// <summary>What the GPU calls itself.</summary>
    public required string Device { get; init; }

    /// <summary>Its architecture: sm_90.</summary>
    public required string Architecture { get; init; }

    /// <summary>The driver.</summary>
    public required string Driver { get; init; }

    /// <summary>Numbers in the order in which they were taken.</summary>
    public IReadOnlyList<ProbeFact> Facts { get; init; } = [];

    /// <summary>Every kernel, ordered by name.</summary>
    public IReadOnlyList<KernelLoad> Kernels { get; init; } = [];

    /// <summary>What failed.</summary>
    public IReadOnlyList<ProbeFailure> Failures { get; init; } = [];
}
