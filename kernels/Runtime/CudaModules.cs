using System.Collections.Concurrent;
using System.Diagnostics;
using System.Text;

namespace BgeMetal.Kernels.Runtime;

/// <summary>A kernel that a GPU has loaded.</summary>
/// <param name="Function">Its entry, a CUfunction.</param>
/// <param name="TextMs">Milliseconds of compiling its PTX, or of reading it from the disk.</param>
/// <param name="DriverMs">Milliseconds in which the driver made machine code of it, or found that in its own cache.</param>
internal readonly record struct LoadedFunction(nint Function, double TextMs, double DriverMs);

/// <summary>The kernels that a GPU has loaded, each a module of its own. Thread-safe: several kernels load side by side, each once.</summary>
internal sealed unsafe class CudaModules(CudaDevice device, KernelCache cache)
{
    private const int MaxDynamicSharedSize = 8, PreferredSharedCarveout = 9, StaticSharedLimit = 48 * 1024;

    private readonly ConcurrentDictionary<KernelDescriptor, Lazy<LoadedFunction>> _functions = new();
    private readonly ConcurrentBag<nint> _modules = [];
    private readonly DriverApi _api = device.Api;

    /// <summary>The kernel's entry, compiled and loaded at the first call.</summary>
    /// <exception cref="DeviceException">The driver refuses the text, or the kernel needs more shared memory than there is.</exception>
    public nint Function(KernelDescriptor kernel) => Load(kernel).Function;

    /// <summary>The same with the time that the first call took.</summary>
    /// <exception cref="DeviceException">The driver refuses the text, or the kernel needs more shared memory than there is.</exception>
    public LoadedFunction Load(KernelDescriptor kernel) =>
        _functions.GetOrAdd(kernel, static (k, modules) => new Lazy<LoadedFunction>(() => modules.LoadFunction(k)), this).Value;

    /// <summary>Unloads everything.</summary>
    public void Unload()
    {
        foreach (nint module in _modules) _api.cuModuleUnload(module);
    }

    private LoadedFunction LoadFunction(KernelDescriptor kernel)
    {
        if (kernel.SharedBytes > device.SharedMemoryPerBlock)
            throw new DeviceException($"{kernel.Name} needs {kernel.SharedBytes} bytes of shared memory, {device.Name} has {device.SharedMemoryPerBlock} for a block");
        long begin = Stopwatch.GetTimestamp();
        byte[] text = Encoding.UTF8.GetBytes(cache.Get(kernel, kernel.TargetFor(device.Target)) + "\0"), name = Encoding.UTF8.GetBytes(kernel.EntryName + "\0");
        double textMs = Stopwatch.GetElapsedTime(begin).TotalMilliseconds;
        device.Bind();
        begin = Stopwatch.GetTimestamp();
        nint module = LoadModule(kernel, text), function = 0;
        _modules.Add(module);
        // Where modules are loaded lazily, the driver's default, the machine code gets onto the GPU here and not at the first launch, which may be one that is captured.
        fixed (byte* pointer = name) _api.Check(_api.cuModuleGetFunction(&function, module, pointer), $"find {kernel.Name} in its module");
        double driverMs = Stopwatch.GetElapsedTime(begin).TotalMilliseconds;
        if (kernel.SharedBytes > StaticSharedLimit)
        {
            _api.Check(_api.cuFuncSetAttribute(function, MaxDynamicSharedSize, kernel.SharedBytes), $"give {kernel.Name} {kernel.SharedBytes} bytes of shared memory");
            // Per cent of the memory that the first-level cache shares: left to itself, the driver may leave room for one block where several are meant to fit.
            _api.Check(_api.cuFuncSetAttribute(function, PreferredSharedCarveout, 100), $"prefer shared memory for {kernel.Name}");
        }
        return new LoadedFunction(function, textMs, driverMs);
    }

    private nint LoadModule(KernelDescriptor kernel, byte[] text)
    {
        const int errorLogBuffer = 5, errorLogSize = 6, logBytes = 8192;
        byte[] log = new byte[logBytes];
        nint module = 0;
        fixed (byte* source = text, logPointer = log)
        {
            int* options = stackalloc int[] { errorLogBuffer, errorLogSize };
            nint* values = stackalloc nint[] { (nint)logPointer, logBytes };
            int result = _api.cuModuleLoadDataEx(&module, (nint)source, 2, options, values);
            if (result == 0) return module;
            string reason = Encoding.UTF8.GetString(log).TrimEnd('\0').ReplaceLineEndings(" ").Trim();
            throw new DeviceException($"cannot load {kernel.Name}: {_api.Describe(result)} {reason}".TrimEnd()) { DriverResult = result };
        }
    }
}
