using System.Collections.Concurrent;
using System.Text;

namespace BgeMetal.Kernels.Runtime;

/// <summary>The kernels that a GPU has loaded, each a module of its own. Thread-safe: several kernels load side by side, each once.</summary>
internal sealed unsafe class CudaModules(CudaDevice device, KernelCache cache)
{
    private const int MaxDynamicSharedSize = 8, StaticSharedLimit = 48 * 1024;

    private readonly ConcurrentDictionary<KernelDescriptor, Lazy<nint>> _functions = new();
    private readonly ConcurrentBag<nint> _modules = [];
    private readonly DriverApi _api = device.Api;

    /// <summary>The kernel's entry, compiled and loaded at the first call.</summary>
    /// <exception cref="DeviceException">The driver refuses the text, or the kernel needs more shared memory than there is.</exception>
    public nint Function(KernelDescriptor kernel) =>
        _functions.GetOrAdd(kernel, static (k, modules) => new Lazy<nint>(() => modules.LoadFunction(k)), this).Value;

    /// <summary>Unloads everything.</summary>
    public void Unload()
    {
        foreach (nint module in _modules) _api.cuModuleUnload(module);
    }

    private nint LoadFunction(KernelDescriptor kernel)
    {
        if (kernel.SharedBytes > device.SharedMemoryPerBlock)
            throw new DeviceException($"{kernel.Name} needs {kernel.SharedBytes} bytes of shared memory, {device.Name} has {device.SharedMemoryPerBlock} for a block");
        byte[] text = Encoding.UTF8.GetBytes(cache.Get(kernel, kernel.TargetFor(device.Target)) + "\0"), name = Encoding.UTF8.GetBytes(kernel.EntryName + "\0");
        device.Bind();
        nint module = LoadModule(kernel, text), function = 0;
        _modules.Add(module);
        fixed (byte* pointer = name) _api.Check(_api.cuModuleGetFunction(&function, module, pointer), $"find {kernel.Name} in its module");
        if (kernel.SharedBytes > StaticSharedLimit)
            _api.Check(_api.cuFuncSetAttribute(function, MaxDynamicSharedSize, kernel.SharedBytes), $"give {kernel.Name} {kernel.SharedBytes} bytes of shared memory");
        return function;
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
