using System.Runtime.InteropServices;
using BgeMetal.Kernels.Runtime;

namespace BgeMetal.Kernels.Bench;

/// <summary>Which plain product an operation is, so that cuBLAS can be asked for the same.</summary>
internal enum CublasForm
{
    /// <summary>None: there is no peer.</summary>
    None,

    /// <summary>y = x W^T.</summary>
    Forward,

    /// <summary>dx = dy W.</summary>
    Input,

    /// <summary>dW += dy^T x, in binary32.</summary>
    Weight,
}

/// <summary>
/// NVIDIA's cuBLAS where the machine has it, as the peer that the products are compared with; nothing needs it. Its matrices are column-major, so that a
/// row-major matrix is its own transpose there: y^T = W x^T, dx^T = W^T dy^T, dW^T = x^T dy.
/// </summary>
internal sealed unsafe class Cublas : IDisposable
{
    private const int NotTransposed = 0, Transposed = 1, Single = 0, Half = 2, BFloat = 14, ComputeInSingle = 68, DefaultAlgorithm = -1;

    private readonly nint _library;
    private readonly nint _handle;
    private readonly delegate* unmanaged<nint, int> _destroy;
    private readonly delegate* unmanaged<nint, int, int, int, int, int, float*, long, int, int, long, int, int, float*, long, int, int, int, int, int> _multiply;

    private Cublas(nint library, nint stream)
    {
        _library = library;
        _destroy = (delegate* unmanaged<nint, int>)NativeLibrary.GetExport(library, "cublasDestroy_v2");
        _multiply = (delegate* unmanaged<nint, int, int, int, int, int, float*, long, int, int, long, int, int, float*, long, int, int, int, int, int>)
            NativeLibrary.GetExport(library, "cublasGemmEx");
        nint handle = 0;
        Check(((delegate* unmanaged<nint*, int>)NativeLibrary.GetExport(library, "cublasCreate_v2"))(&handle), "start");
        _handle = handle;
        Check(((delegate* unmanaged<nint, nint, int>)NativeLibrary.GetExport(library, "cublasSetStream_v2"))(handle, stream), "take the stream");
    }

    /// <summary>The library on a device's stream, or null where there is none; <paramref name="path"/> names another one, for tests.</summary>
    /// <exception cref="DeviceException">The library is there and does not start.</exception>
    public static Cublas? TryLoad(CudaDevice device, string? path = null)
    {
        nint library = 0;
        if (!(path is not null ? [path] : CublasSearch.Candidates()).Any(name => TryLoad(name, out library))) return null;
        device.Bind();
        try
        {
            return new Cublas(library, device.Stream);
        }
        catch (EntryPointNotFoundException)
        {
            // Something else of that name.
            NativeLibrary.Free(library);
            return null;
        }
    }

    /// <summary>The product of an operation's form at its shape: T rows, K inputs, N outputs; binary32 operands are multiplied in binary32.</summary>
    public Action Prepare(CublasForm form, CudaOperands operands, BenchShape shape, DType dtype) => dtype switch
    {
        DType.BFloat16 => Prepare<BF16>(form, operands, shape, BFloat),
        DType.Float16 => Prepare<FP16>(form, operands, shape, Half),
        _ => Prepare<FP32>(form, operands, shape, Single),
    };

    /// <inheritdoc/>
    public void Dispose()
    {
        _ = _destroy(_handle);
        NativeLibrary.Free(_library);
    }

    // The library needs another of its folder, which the loader finds only once it is loaded.
    private static bool TryLoad(string name, out nint library)
    {
        if (Path.GetDirectoryName(name) is { Length: > 0 } folder)
            NativeLibrary.TryLoad(Path.Combine(folder, Path.GetFileName(name).Replace("libcublas", "libcublasLt", StringComparison.Ordinal)), out _);
        return NativeLibrary.TryLoad(name, out library);
    }

    private Action Prepare<T>(CublasForm form, CudaOperands o, BenchShape s, int type) where T : unmanaged, IElement
    {
        int t = s["T"], k = s["K"], n = s["N"];
        switch (form)
        {
            case CublasForm.Forward:
                {
                    long x = o.Values<T>((long)t * k).Address, w = o.Values<T>((long)n * k, 0.05f).Address, y = o.Values<T>((long)t * n).Address;
                    return () => Multiply(Transposed, NotTransposed, n, t, k, w, k, x, k, type, 0, y, n, type);
                }
            case CublasForm.Input:
                {
                    long dy = o.Values<T>((long)t * n).Address, w = o.Values<T>((long)n * k, 0.05f).Address, dx = o.Values<T>((long)t * k).Address;
                    return () => Multiply(NotTransposed, NotTransposed, k, t, n, w, k, dy, n, type, 0, dx, k, type);
                }
            case CublasForm.Weight:
                {
                    long dy = o.Values<T>((long)t * n, 0.01f).Address, x = o.Values<T>((long)t * k).Address, dw = o.Values<FP32>((long)n * k).Address;
                    return () => Multiply(NotTransposed, Transposed, k, n, t, x, k, dy, n, type, 1, dw, k, Single);
                }
            default: throw new ArgumentException("there is no such product", nameof(form));
        }
    }

    private void Multiply(int transposeA, int transposeB, int m, int n, int k, long a, int lda, long b, int ldb, int type, float beta, long c, int ldc, int typeC)
    {
        float one = 1;
        Check(_multiply(_handle, transposeA, transposeB, m, n, k, &one, a, type, lda, b, type, ldb, &beta, c, typeC, ldc, ComputeInSingle, DefaultAlgorithm), "multiply");
    }

    private static void Check(int status, string action)
    {
        if (status != 0) throw new DeviceException($"cuBLAS cannot {action}: status {status}");
    }
}
