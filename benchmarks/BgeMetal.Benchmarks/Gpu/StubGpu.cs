using System.Diagnostics;
using System.Runtime.InteropServices;
using BgeMetal.Benchmarks.Timing;
using BgeMetal.Kernels;
using BgeMetal.Kernels.Runtime;
using BgeMetal.Tensors;

namespace BgeMetal.Benchmarks.Gpu;

/// <summary>What a driver was asked for.</summary>
/// <param name="Launches">Kernels.</param>
/// <param name="Copies">Copies and fills, in any direction.</param>
/// <param name="Bytes">Bytes copied.</param>
/// <param name="Waits">Times the host waited.</param>
/// <param name="Replays">Graphs.</param>
internal readonly record struct DriverCalls(long Launches, long Copies, long Bytes, long Waits, long Replays);

/// <summary>
/// The tests' driver without a GPU (stub_driver.c), built to look like a Hopper GPU of 132 multiprocessors and to count instead of keeping a log: what is left of a
/// step is the host's own work. Kernels do not run and copies are copies in host memory.
/// </summary>
internal sealed unsafe class StubGpu : IDisposable
{
    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("bgemetal-stub-");
    private readonly nint _library;

    /// <summary>Builds the driver with gcc.</summary>
    /// <exception cref="BgeMetalException">There is no gcc, or it fails.</exception>
    public StubGpu()
    {
        Path = System.IO.Path.Combine(_folder.FullName, "libstubcuda.so");
        string source = System.IO.Path.Combine(ResultFile.RepositoryRoot, "tests", "BgeMetal.Kernels.Tests", "Cuda", "stub_driver.c");
        try
        {
            using Process compiler = Process.Start("gcc", ["-shared", "-fPIC", "-O2", "-w", "-DSTUB_QUIET", "-DSTUB_MEMORY=1000000000000", "-DSTUB_MULTIPROCESSORS=132", "-o", Path, source]);
            compiler.WaitForExit();
            if (compiler.ExitCode != 0) throw new BgeMetalException("the stub driver", $"gcc cannot build {source}");
        }
        catch (System.ComponentModel.Win32Exception e)
        {
            throw new BgeMetalException("the stub driver", $"gcc is needed: {e.Message}");
        }
        _library = NativeLibrary.Load(Path);
    }

    /// <summary>The library.</summary>
    public string Path { get; }

    /// <summary>Opens the GPU; kernels come from the user's cache.</summary>
    public Device Open(DType dtype) => Device.Cuda(CudaDevice.Open(DriverApi.Load(Path), 0, new KernelCache(KernelCache.DefaultFolder())), dtype, threads: 1);

    /// <summary>What was asked for since the last call.</summary>
    public DriverCalls Take()
    {
        DriverCalls calls = default;
        ((delegate* unmanaged<void*, void>)NativeLibrary.GetExport(_library, "stub_counts"))(&calls);
        return calls;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        NativeLibrary.Free(_library);
        _folder.Delete(recursive: true);
    }
}
