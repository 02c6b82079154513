using System.Runtime.InteropServices;
using System.Runtime.Intrinsics.X86;

namespace BgeMetal.Benchmarks.Search;

/// <summary>The two functions of OpenBLAS that a search needs, from the library that the machine has; nothing here depends on it.</summary>
internal sealed unsafe class OpenBlas
{
    private static readonly string[] s_names = ["libopenblas.so.0", "libopenblas.so", "libopenblas.dylib", "libopenblas.dll"];

    private readonly delegate* unmanaged[Cdecl]<int, int, int, int, int, int, float, float*, int, float*, int, float, float*, int, void> sgemm;

    private OpenBlas(nint library, int threads)
    {
        sgemm = (delegate* unmanaged[Cdecl]<int, int, int, int, int, int, float, float*, int, float*, int, float, float*, int, void>)NativeLibrary.GetExport(library, "cblas_sgemm");
        ((delegate* unmanaged[Cdecl]<int, void>)NativeLibrary.GetExport(library, "openblas_set_num_threads"))(threads);
        Configuration = Marshal.PtrToStringAnsi(((delegate* unmanaged[Cdecl]<nint>)NativeLibrary.GetExport(library, "openblas_get_config"))())!.Trim();
    }

    /// <summary>Version and processor kernels, as the library tells them.</summary>
    public string Configuration { get; }

    /// <summary>
    /// Loads the library. One that does not know the processor falls back to kernels of 2004; so that it competes at its best it is told which to use, unless the environment
    /// does that (OPENBLAS_CORETYPE).
    /// </summary>
    /// <param name="path">Its file; null to look where the system does.</param>
    /// <param name="threads">Threads it may use.</param>
    /// <returns>Null when there is none.</returns>
    public static OpenBlas? TryLoad(string? path, int threads)
    {
        if (OperatingSystem.IsLinux() && Avx2.IsSupported && Environment.GetEnvironmentVariable("OPENBLAS_CORETYPE") is null)
            _ = SetNativeVariable("OPENBLAS_CORETYPE", Avx512F.IsSupported ? "SkylakeX" : "Haswell", 1);
        foreach (string name in path is null ? s_names : [path])
            if (NativeLibrary.TryLoad(name, out nint library) && NativeLibrary.TryGetExport(library, "openblas_get_config", out _))
                return new OpenBlas(library, threads);
        return null;
    }

    /// <summary>The C library's environment, which .NET's own does not reach.</summary>
    [DllImport("libc", EntryPoint = "setenv")]
    private static extern int SetNativeVariable([MarshalAs(UnmanagedType.LPUTF8Str)] string name, [MarshalAs(UnmanagedType.LPUTF8Str)] string value, int overwrite);

    /// <summary>c [m, n] = a [m, k] times the transpose of b [n, k], all row-major.</summary>
    public void MultiplyTransposed(float* a, float* b, float* c, int m, int n, int k)
    {
        const int RowMajor = 101, No = 111, Yes = 112;
        sgemm(RowMajor, No, Yes, m, n, k, 1, a, k, b, k, 0, c, n);
    }
}
