using System.Diagnostics;
using System.Runtime.InteropServices;
using BgeMetal.Kernels.Runtime;

namespace BgeMetal.Kernels.Tests.Cuda;

/// <summary>The library built from stub_driver.c; one at a time, because its state is global.</summary>
public sealed unsafe class StubDriver : IDisposable
{
    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("bgemetal-stub-");
    private readonly nint _library;

    public StubDriver()
    {
        Path = System.IO.Path.Combine(_folder.FullName, "libstubcuda.so");
        try
        {
            ProcessStartInfo start = new("gcc", ["-shared", "-fPIC", "-O1", "-w", "-o", Path, System.IO.Path.Combine(AppContext.BaseDirectory, "Cuda", "stub_driver.c")])
            {
                RedirectStandardError = true,
            };
            using Process compiler = Process.Start(start)!;
            string errors = compiler.StandardError.ReadToEnd();
            compiler.WaitForExit();
            Built = compiler.ExitCode == 0;
            Reason = Built ? "" : $"gcc cannot build the stub driver: {errors}";
        }
        catch (System.ComponentModel.Win32Exception e)
        {
            Reason = $"no gcc to build the stub driver with: {e.Message}";
        }
        if (Built) _library = NativeLibrary.Load(Path);
    }

    public string Path { get; }

    public bool Built { get; }

    public string Reason { get; } = "";

    /// <summary>What the driver was asked to do since <see cref="Reset"/>, one call a line.</summary>
    public string[] Log => Marshal.PtrToStringUTF8(((delegate* unmanaged<nint>)Export("stub_log"))())!.Split('\n', StringSplitOptions.RemoveEmptyEntries);

    /// <summary>Empties the log and sets what the driver pretends to be; skips the calling test where the stub could not be built.</summary>
    public void Reset(int version = 12040, int devices = 2, int major = 9, ulong freeBytes = 1_000_000, int loadResult = 0)
    {
        Assert.SkipUnless(Built, Reason);
        ((delegate* unmanaged<int, int, int, ulong, int, void>)Export("stub_reset"))(version, devices, major, freeBytes, loadResult);
    }

    /// <summary>Sets how many clusters the driver says run at once; it stays so until it is set again.</summary>
    public void SetClusters(int count) => ((delegate* unmanaged<int, void>)Export("stub_clusters"))(count);

    /// <summary>Opens a device of the stub; nothing is read from or written to the user's cache.</summary>
    public CudaDevice Open(int index = 0) => CudaDevice.Open(DriverApi.Load(Path), index, new KernelCache(null));

    /// <summary>The bytes of the next launch's argument.</summary>
    public byte[] ArgumentOf(int size, Action launch)
    {
        ((delegate* unmanaged<int, void>)Export("stub_expect_argument"))(size);
        launch();
        return new ReadOnlySpan<byte>((void*)((delegate* unmanaged<nint>)Export("stub_argument"))(), size).ToArray();
    }

    public void Dispose()
    {
        if (_library != 0) NativeLibrary.Free(_library);
        _folder.Delete(recursive: true);
    }

    private nint Export(string name) => NativeLibrary.GetExport(_library, name);
}

[CollectionDefinition("stub driver")]
public sealed class StubDriverGroup : ICollectionFixture<StubDriver>;
