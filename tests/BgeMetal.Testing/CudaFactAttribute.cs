using System.Runtime.CompilerServices;
using BgeMetal.Kernels.Runtime;

namespace BgeMetal.Testing;

/// <summary>A test that needs a GPU; skipped where the driver finds none.</summary>
[AttributeUsage(AttributeTargets.Method)]
public sealed class CudaFactAttribute : FactAttribute
{
    /// <summary>Marks the test.</summary>
    public CudaFactAttribute([CallerFilePath] string? sourceFilePath = null, [CallerLineNumber] int sourceLineNumber = -1)
        : base(sourceFilePath, sourceLineNumber)
    {
        Skip = CudaPresence.Reason;
        SkipType = typeof(CudaPresence);
        SkipUnless = nameof(CudaPresence.IsAvailable);
    }
}

/// <summary>Whether this machine has a GPU that the kernels can run on.</summary>
public static class CudaPresence
{
    /// <summary>Why tests are skipped.</summary>
    public const string Reason = "no CUDA GPU on this machine";

    /// <summary>True when the driver loads and finds a GPU.</summary>
    public static bool IsAvailable { get; } = CudaDevice.List().Count > 0;
}
