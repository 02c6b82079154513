using System.Runtime.CompilerServices;
using BgeMetal.Kernels.Cuda;
using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;

namespace BgeMetal.Kernels.Bench;

/// <summary>
/// The operands of one call on a GPU, freed together. Contents are random: a pattern of random numbers is copied to the device and repeated there, because
/// zeros would let the GPU run at a higher clock than real data does.
/// </summary>
internal sealed class CudaOperands(KernelDevice device, Workspace workspace, RandomPatterns patterns) : IDisposable
{
    private readonly List<DeviceMemory> _memory = [];

    /// <summary>Where it all lies.</summary>
    public KernelDevice Device { get; } = device;

    /// <summary>Room for intermediate sums, shared by all cases.</summary>
    public Workspace Workspace { get; } = workspace;

    /// <summary>All of the memory, in the order in which it was asked for.</summary>
    public IReadOnlyList<DeviceMemory> Memory => _memory;

    /// <summary>Bytes taken so far.</summary>
    public long SizeBytes { get; private set; }

    /// <summary>[rows, columns] of values in [-scale, scale).</summary>
    public DeviceMatrix<T> Matrix<T>(long rows, int columns, float scale = 1) where T : unmanaged, IElement => new(Values<T>(rows * columns, scale), columns);

    /// <summary>Values in [-scale, scale).</summary>
    public DevicePointer<T> Values<T>(long count, float scale = 1) where T : unmanaged, IElement => Fill<T>(count, -scale, scale);

    /// <summary>Values in [0, 1).</summary>
    public DevicePointer<T> Positive<T>(long count) where T : unmanaged, IElement => Fill<T>(count, 0, 1);

    /// <summary>first + i * step modulo <paramref name="modulus"/>.</summary>
    public DevicePointer<int> Integers(int count, int step, int modulus = int.MaxValue)
    {
        int[] values = new int[count];
        for (int i = 0; i < count; i++) values[i] = (int)((long)i * step % modulus);
        return Upload<int>(values);
    }

    /// <summary>A copy of host values.</summary>
    public DevicePointer<T> Upload<T>(ReadOnlySpan<T> values) where T : unmanaged
    {
        DevicePointer<T> pointer = Reserve<T>(values.Length);
        Device.Upload(values, pointer);
        return pointer;
    }

    /// <summary>Uninitialised memory.</summary>
    public DevicePointer<T> Reserve<T>(long count) where T : unmanaged
    {
        DeviceMemory memory = Device.Allocate(count * Unsafe.SizeOf<T>());
        _memory.Add(memory);
        SizeBytes += memory.SizeBytes;
        return memory.Slice<T>(0, count);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (DeviceMemory memory in _memory) memory.Dispose();
    }

    private DevicePointer<T> Fill<T>(long count, float low, float high) where T : unmanaged, IElement
    {
        DevicePointer<T> pointer = Reserve<T>(count);
        long bytes = count << T.SizeShift, pattern = Math.Min(count, patterns.Length) << T.SizeShift;
        Device.Upload(patterns.Of<T>(low, high)[..(int)pattern], pointer.Cast<byte>());
        for (long done = pattern; done < bytes; done *= 2) Device.Copy(pointer.Address, pointer.Address + done, Math.Min(done, bytes - done));
        return pointer;
    }
}

/// <summary>A call that is written once, generic over the element type.</summary>
internal interface ICudaCall
{
    /// <summary>Makes the operands and returns the call, which only enqueues.</summary>
    static abstract Action Prepare<T>(CudaOperands operands, BenchShape shape) where T : unmanaged, IElement;
}

/// <summary>Turns the run-time type into the compile-time one, once for each case.</summary>
internal static class CudaCalls
{
    /// <summary>The call for a type.</summary>
    public static Action Prepare<TCall>(CudaOperands operands, BenchShape shape, DType dtype) where TCall : struct, ICudaCall => dtype switch
    {
        DType.Float32 => TCall.Prepare<FP32>(operands, shape),
        DType.BFloat16 => TCall.Prepare<BF16>(operands, shape),
        DType.Float16 => TCall.Prepare<FP16>(operands, shape),
        _ => throw new ArgumentException($"activations are never {dtype}", nameof(dtype)),
    };
}
