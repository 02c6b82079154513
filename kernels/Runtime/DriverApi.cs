using System.Runtime.InteropServices;
using System.Text.RegularExpressions;

namespace BgeMetal.Kernels.Runtime;

/// <summary>
/// The CUDA driver's functions that this project calls, bound by name from the driver's own library; there is no CUDA toolkit at run time. Every
/// call goes through <see cref="Check"/>.
/// </summary>
internal sealed unsafe partial class DriverApi
{
    /// <summary>The driver's code for memory that cannot be had.</summary>
    public const int OutOfMemory = 2;

    /// <summary>11.8: the first driver that reads PTX 7.8, in which the kernels are written.</summary>
    public const int MinimumVersion = 11080;

    /// <summary>12.0: the first driver that reads PTX 8.0, which knows what only sm_90a has.</summary>
    public const int WarpGroupVersion = 12000;

#pragma warning disable CS1591, IDE1006 // the driver's names are their own documentation
    public readonly delegate* unmanaged<uint, int> cuInit;
    public readonly delegate* unmanaged<int*, int> cuDriverGetVersion, cuDeviceGetCount;
    public readonly delegate* unmanaged<int*, int, int> cuDeviceGet;
    public readonly delegate* unmanaged<byte*, int, int, int> cuDeviceGetName;
    public readonly delegate* unmanaged<nuint*, int, int> cuDeviceTotalMem;
    public readonly delegate* unmanaged<int*, int, int, int> cuDeviceGetAttribute;
    public readonly delegate* unmanaged<nint*, int, int> cuDevicePrimaryCtxRetain;
    public readonly delegate* unmanaged<int, int> cuDevicePrimaryCtxRelease;
    public readonly delegate* unmanaged<nint, int> cuCtxSetCurrent;
    public readonly delegate* unmanaged<nuint*, nuint*, int> cuMemGetInfo;
    public readonly delegate* unmanaged<long*, nuint, int> cuMemAlloc;
    public readonly delegate* unmanaged<long, int> cuMemFree;
    public readonly delegate* unmanaged<nint*, nuint, uint, int> cuMemHostAlloc;
    public readonly delegate* unmanaged<nint, int> cuMemFreeHost;
    public readonly delegate* unmanaged<long, nint, nuint, nint, int> cuMemcpyHtoDAsync;
    public readonly delegate* unmanaged<nint, long, nuint, nint, int> cuMemcpyDtoHAsync;
    public readonly delegate* unmanaged<long, long, nuint, nint, int> cuMemcpyDtoDAsync;
    public readonly delegate* unmanaged<long, byte, nuint, nint, int> cuMemsetD8Async;
    public readonly delegate* unmanaged<nint*, uint, int> cuStreamCreate, cuEventCreate;
    public readonly delegate* unmanaged<nint, int> cuStreamDestroy, cuStreamSynchronize, cuEventDestroy, cuEventSynchronize, cuGraphDestroy, cuGraphExecDestroy;
    public readonly delegate* unmanaged<nint, int, int> cuStreamBeginCapture;
    public readonly delegate* unmanaged<nint, nint*, int> cuStreamEndCapture;
    public readonly delegate* unmanaged<nint*, nint, ulong, int> cuGraphInstantiate;
    public readonly delegate* unmanaged<nint, nint, int> cuGraphLaunch, cuEventRecord;
    public readonly delegate* unmanaged<float*, nint, nint, int> cuEventElapsedTime;
    public readonly delegate* unmanaged<nint*, nint, uint, int*, nint*, int> cuModuleLoadDataEx;
    public readonly delegate* unmanaged<nint, int> cuModuleUnload;
    public readonly delegate* unmanaged<nint*, nint, byte*, int> cuModuleGetFunction;
    public readonly delegate* unmanaged<nint, int, int, int> cuFuncSetAttribute;
    public readonly delegate* unmanaged<int*, int, nint, int> cuFuncGetAttribute;
    public readonly delegate* unmanaged<int*, nint, int, nuint, int> cuOccupancyMaxActiveBlocksPerMultiprocessor;
    public readonly delegate* unmanaged<int*, nint, LaunchConfiguration*, int> cuOccupancyMaxActiveClusters;
    public readonly delegate* unmanaged<nint, uint, uint, uint, uint, uint, uint, uint, nint, void**, void**, int> cuLaunchKernel;
    public readonly delegate* unmanaged<int, byte**, int> cuGetErrorName, cuGetErrorString;
    public readonly delegate* unmanaged<void*, int, uint, long, ulong*, ulong*, uint*, uint*, int, int, int, int, int> cuTensorMapEncodeTiled;
#pragma warning restore CS1591, IDE1006

    private const string KernelModuleVersion = "/proc/driver/nvidia/version";

    private readonly nint _library;
    private int _version;

    private DriverApi(nint library)
    {
        _library = library;
        cuInit = (delegate* unmanaged<uint, int>)Bind("cuInit");
        cuDriverGetVersion = (delegate* unmanaged<int*, int>)Bind("cuDriverGetVersion");
        cuDeviceGetCount = (delegate* unmanaged<int*, int>)Bind("cuDeviceGetCount");
        cuDeviceGet = (delegate* unmanaged<int*, int, int>)Bind("cuDeviceGet");
        cuDeviceGetName = (delegate* unmanaged<byte*, int, int, int>)Bind("cuDeviceGetName");
        cuDeviceTotalMem = (delegate* unmanaged<nuint*, int, int>)Bind("cuDeviceTotalMem_v2");
        cuDeviceGetAttribute = (delegate* unmanaged<int*, int, int, int>)Bind("cuDeviceGetAttribute");
        cuDevicePrimaryCtxRetain = (delegate* unmanaged<nint*, int, int>)Bind("cuDevicePrimaryCtxRetain");
        cuDevicePrimaryCtxRelease = (delegate* unmanaged<int, int>)Bind("cuDevicePrimaryCtxRelease_v2");
        cuCtxSetCurrent = (delegate* unmanaged<nint, int>)Bind("cuCtxSetCurrent");
        cuMemGetInfo = (delegate* unmanaged<nuint*, nuint*, int>)Bind("cuMemGetInfo_v2");
        cuMemAlloc = (delegate* unmanaged<long*, nuint, int>)Bind("cuMemAlloc_v2");
        cuMemFree = (delegate* unmanaged<long, int>)Bind("cuMemFree_v2");
        cuMemHostAlloc = (delegate* unmanaged<nint*, nuint, uint, int>)Bind("cuMemHostAlloc");
        cuMemFreeHost = (delegate* unmanaged<nint, int>)Bind("cuMemFreeHost");
        cuMemcpyHtoDAsync = (delegate* unmanaged<long, nint, nuint, nint, int>)Bind("cuMemcpyHtoDAsync_v2");
        cuMemcpyDtoHAsync = (delegate* unmanaged<nint, long, nuint, nint, int>)Bind("cuMemcpyDtoHAsync_v2");
        cuMemcpyDtoDAsync = (delegate* unmanaged<long, long, nuint, nint, int>)Bind("cuMemcpyDtoDAsync_v2");
        cuMemsetD8Async = (delegate* unmanaged<long, byte, nuint, nint, int>)Bind("cuMemsetD8Async");
        cuStreamCreate = (delegate* unmanaged<nint*, uint, int>)Bind("cuStreamCreate");
        cuStreamDestroy = (delegate* unmanaged<nint, int>)Bind("cuStreamDestroy_v2");
        cuStreamSynchronize = (delegate* unmanaged<nint, int>)Bind("cuStreamSynchronize");
        cuStreamBeginCapture = (delegate* unmanaged<nint, int, int>)Bind("cuStreamBeginCapture_v2");
        cuStreamEndCapture = (delegate* unmanaged<nint, nint*, int>)Bind("cuStreamEndCapture");
        cuGraphInstantiate = (delegate* unmanaged<nint*, nint, ulong, int>)Bind("cuGraphInstantiateWithFlags");
        cuGraphLaunch = (delegate* unmanaged<nint, nint, int>)Bind("cuGraphLaunch");
        cuGraphDestroy = (delegate* unmanaged<nint, int>)Bind("cuGraphDestroy");
        cuGraphExecDestroy = (delegate* unmanaged<nint, int>)Bind("cuGraphExecDestroy");
        cuEventCreate = (delegate* unmanaged<nint*, uint, int>)Bind("cuEventCreate");
        cuEventRecord = (delegate* unmanaged<nint, nint, int>)Bind("cuEventRecord");
        cuEventSynchronize = (delegate* unmanaged<nint, int>)Bind("cuEventSynchronize");
        cuEventElapsedTime = (delegate* unmanaged<float*, nint, nint, int>)Bind("cuEventElapsedTime");
        cuEventDestroy = (delegate* unmanaged<nint, int>)Bind("cuEventDestroy_v2");
        cuModuleLoadDataEx = (delegate* unmanaged<nint*, nint, uint, int*, nint*, int>)Bind("cuModuleLoadDataEx");
        cuModuleUnload = (delegate* unmanaged<nint, int>)Bind("cuModuleUnload");
        cuModuleGetFunction = (delegate* unmanaged<nint*, nint, byte*, int>)Bind("cuModuleGetFunction");
        cuFuncSetAttribute = (delegate* unmanaged<nint, int, int, int>)Bind("cuFuncSetAttribute");
        cuFuncGetAttribute = (delegate* unmanaged<int*, int, nint, int>)Bind("cuFuncGetAttribute");
        cuOccupancyMaxActiveBlocksPerMultiprocessor = (delegate* unmanaged<int*, nint, int, nuint, int>)Bind("cuOccupancyMaxActiveBlocksPerMultiprocessor");
        cuOccupancyMaxActiveClusters = (delegate* unmanaged<int*, nint, LaunchConfiguration*, int>)BindIfPresent("cuOccupancyMaxActiveClusters");
        cuLaunchKernel = (delegate* unmanaged<nint, uint, uint, uint, uint, uint, uint, uint, nint, void**, void**, int>)Bind("cuLaunchKernel");
        cuGetErrorName = (delegate* unmanaged<int, byte**, int>)Bind("cuGetErrorName");
        cuGetErrorString = (delegate* unmanaged<int, byte**, int>)Bind("cuGetErrorString");
        cuTensorMapEncodeTiled = (delegate* unmanaged<void*, int, uint, long, ulong*, ulong*, uint*, uint*, int, int, int, int, int>)BindIfPresent("cuTensorMapEncodeTiled");
    }

    /// <summary>Whether kernels with tensor maps and warp-group products can be loaded and launched, on a GPU that has them.</summary>
    public bool KnowsWarpGroups => _version >= WarpGroupVersion && cuTensorMapEncodeTiled != null;

    /// <summary>Loads and initialises the driver; <paramref name="path"/> names another library than the system's, for tests.</summary>
    /// <exception cref="DeviceException">There is no driver, it cannot start, or it is older than <see cref="MinimumVersion"/>.</exception>
    public static DriverApi Load(string? path = null)
    {
        string[] names = path is not null ? [path] : OperatingSystem.IsWindows() ? ["nvcuda.dll"] : ["libcuda.so.1", "libcuda.so"];
        nint library = 0;
        if (!names.Any(name => NativeLibrary.TryLoad(name, out library)))
            throw new DeviceException($"no CUDA driver: {string.Join(" and ", names)} cannot be loaded on this machine");
        DriverApi api = new(library);
        api.Check(api.cuInit(0), "start the CUDA driver");
        int version = 0;
        api.Check(api.cuDriverGetVersion(&version), "ask the CUDA driver for its version");
        api._version = version;
        return version >= MinimumVersion ? api : throw new DeviceException(
            $"the CUDA driver is too old: it supports CUDA {Dotted(version)}, at least {Dotted(MinimumVersion)} is needed");
    }

    /// <summary>Turns a failed call into an exception that says what was tried and what the driver answered.</summary>
    /// <exception cref="DeviceException"><paramref name="result"/> is not success.</exception>
    public void Check(int result, string action)
    {
        if (result != 0) throw new DeviceException($"cannot {action}: {Describe(result)}") { DriverResult = result };
    }

    /// <summary>The driver's name and description of a result.</summary>
    public string Describe(int result)
    {
        byte* name = null, text = null;
        if (cuGetErrorName(result, &name) != 0 || name == null) return $"CUDA driver error {result}";
        string description = cuGetErrorString(result, &text) == 0 && text != null ? $" ({Marshal.PtrToStringUTF8((nint)text)})" : "";
        return Marshal.PtrToStringUTF8((nint)name) + description;
    }

    /// <summary>The driver in words: "CUDA 12.8, 570.86.15".</summary>
    public string Describe()
    {
        string module = File.Exists(KernelModuleVersion) ? ModuleVersion().Match(File.ReadAllText(KernelModuleVersion)).Value : "";
        return module.Length == 0 ? $"CUDA {Dotted(_version)}" : $"CUDA {Dotted(_version)}, {module}";
    }

    private nint Bind(string name) => NativeLibrary.TryGetExport(_library, name, out nint address)
        ? address : throw new DeviceException($"the CUDA driver lacks {name}: it is too old or not a CUDA driver");

    private nint BindIfPresent(string name) => NativeLibrary.TryGetExport(_library, name, out nint address) ? address : 0;

    [GeneratedRegex(@"\b\d{3}\.\d+(\.\d+)?\b")]
    private static partial Regex ModuleVersion();

    private static string Dotted(int version) => $"{version / 1000}.{version % 1000 / 10}";
}

/// <summary>The driver's CUlaunchConfig, without attributes.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct LaunchConfiguration
{
    /// <summary>Blocks of the grid and threads of a block.</summary>
    public uint GridX, GridY, GridZ, BlockX, BlockY, BlockZ;

    /// <summary>Bytes of dynamic shared memory.</summary>
    public uint SharedBytes;

    /// <summary>A CUstream.</summary>
    public nint Stream;

    /// <summary>Attributes and their number: none.</summary>
    public void* Attributes;

    /// <summary>The number of attributes.</summary>
    public uint AttributeCount;
}
