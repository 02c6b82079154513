using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;
using ILGPU;

namespace BgeMetal.Kernels.Cuda;

/// <summary>Conversion between element types, rounding to nearest even.</summary>
public static class Cast
{
    /// <summary>target[i] = source[i]; both must start at multiples of 16 bytes.</summary>
    /// <exception cref="ArgumentException">An address is not a multiple of 16.</exception>
    public static void Convert<TFrom, TTo>(KernelDevice device, DevicePointer<TFrom> source, DevicePointer<TTo> target, long count)
        where TFrom : unmanaged, IElement where TTo : unmanaged, IElement
    {
        ArgumentNullException.ThrowIfNull(device);
        if (((source.Address | target.Address) & 15) != 0) throw new ArgumentException("both addresses must be multiples of 16", nameof(source));
        device.Launch(CastKernels.Convert<TFrom, TTo>, new GridSize(checked((int)((count + 2047) / 2048))),
            new CastArguments<TFrom, TTo> { Source = source, Target = target, Count = count });
    }
}

/// <summary>Arguments of the conversion kernel.</summary>
internal struct CastArguments<TFrom, TTo> where TFrom : unmanaged, IElement where TTo : unmanaged, IElement
{
    /// <summary>Where from.</summary>
    public DevicePointer<TFrom> Source;

    /// <summary>Where to.</summary>
    public DevicePointer<TTo> Target;

    /// <summary>Elements.</summary>
    public long Count;
}

/// <summary>Eight elements a thread.</summary>
internal static class CastKernels
{
    [CudaKernel("Cast", KernelDirection.Update, 256, typeof(FP32), Elements = ElementTypes.Low)]
    [CudaKernel("Cast", KernelDirection.Update, 256, typeof(BF16), Elements = ElementTypes.Single)]
    [CudaKernel("Cast", KernelDirection.Update, 256, typeof(FP16), Elements = ElementTypes.Single)]
    public static void Convert<TFrom, TTo>(CastArguments<TFrom, TTo> arguments) where TFrom : unmanaged, IElement where TTo : unmanaged, IElement
    {
        long index = ((long)Grid.IdxX * 256 + Group.IdxX) * 8;
        if (index + 8 <= arguments.Count)
            arguments.Target.Store8(index, arguments.Source.Load8(index));
        else
            for (long i = index; i < arguments.Count; i++) arguments.Target.Store(i, arguments.Source.Load(i));
    }
}
