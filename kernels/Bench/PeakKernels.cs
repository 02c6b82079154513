using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;
using ILGPU;

namespace BgeMetal.Kernels.Bench;

/// <summary>Arguments of the peak kernels.</summary>
internal struct PeakArguments
{
    /// <summary>One sum for each thread, so that nothing is left out as unused.</summary>
    public DevicePointer<FP32> Result;

    /// <summary>How often the chain is run.</summary>
    public int Iterations;

    /// <summary>The operand: a binary32's bits, or an element's in both halves.</summary>
    public uint Operand;

    /// <summary>The bits of the operand that differ from element to element, where a kernel has more than one.</summary>
    public uint Noise;
}

/// <summary>
/// The roofs over a GPU's arithmetic: multiply-adds on registers alone, mma.sync on registers alone, and on Hopper, whose tensor cores mma.sync cannot
/// fill, wgmma on operands that lie in shared memory and are never changed.
/// </summary>
internal static class PeakKernels
{
    /// <summary>Threads of a block; for wgmma two groups of four warps, which take turns.</summary>
    public const int Threads = 256;

    /// <summary>Operations of one iteration of a block.</summary>
    public const double MultiplyAddFlops = 512.0 * Threads, TensorFlops = 65536.0 * Threads / 32, WarpGroupFlops = 2.0 * Rows * Columns * IWarpGroupTile.BlockK;

    /// <summary>The bits that noise may change so that elements stay between 1/2 and 1 in size: sign and fraction.</summary>
    public const uint NoiseBF16 = 0x807F807F, NoiseFP16 = 0x83FF83FF;

    /// <summary>Rows of A that a block multiplies and columns of B, 64 deep.</summary>
    private const int Rows = 128, Columns = 256, SharedBytes = (Rows + Columns) * IWarpGroupTile.BlockK * 2;

    [CudaKernel("Peak", KernelDirection.Update, Threads, Elements = ElementTypes.None)]
    public static void MultiplyAdd(PeakArguments arguments)
    {
        Accumulator64 sums = Accumulators.Zero<Accumulator64>();
        float x = Interop.IntAsFloat(arguments.Operand);
        for (int i = 0; i < arguments.Iterations; i++) sums = PeakInstructions.MultiplyAddUniform(sums, x);
        arguments.Result.Store((long)Grid.IdxX * Threads + Group.IdxX, PeakInstructions.Sum(sums));
    }

    [CudaKernel("Peak", KernelDirection.Update, Threads, Elements = ElementTypes.Low, TensorCores = true)]
    public static void TensorCores<T>(PeakArguments arguments) where T : unmanaged, IElement
    {
        Accumulator64 sums = Accumulators.Zero<Accumulator64>();
        for (int i = 0; i < arguments.Iterations; i++) sums = PeakInstructions.MultiplyUniform<T>(sums, arguments.Operand);
        arguments.Result.Store((long)Grid.IdxX * Threads + Group.IdxX, PeakInstructions.Sum(sums));
    }

    /// <summary>
    /// m64n256k16, the largest: 128 cycles, in which 10 KB of operands are read, 80 bytes a cycle of the 128 that shared memory gives. Operands differ from element to
    /// element, because equal bits would save power, and so give a clock that real products do not have.
    /// </summary>
    [CudaKernel("Peak", KernelDirection.Update, Threads, Elements = ElementTypes.Low, SharedBytes = SharedBytes, TensorCores = true, Architecture = CudaKernelAttribute.Hopper)]
    public static void WarpGroups<T>(PeakArguments arguments) where T : unmanaged, IElement
    {
        int shared = SharedBlock.OpenAligned();
        for (int word = Group.IdxX; word < SharedBytes / 4; word += Threads)
            SharedBlock.Store(shared + word * 4, Interop.IntAsFloat(arguments.Operand ^ (Scatter((uint)word) & arguments.Noise)));
        WarpGroupMma.Publish();
        Group.Barrier();
        int a = shared + (Group.IdxX >> 7) * IWarpGroupTile.BoxBytes, b = shared + Rows * IWarpGroupTile.BlockK * 2;
        Accumulator128 sums = Accumulators.Zero<Accumulator128>();
        for (int i = 0; i < arguments.Iterations; i++)
        {
            sums = WarpGroupMma.Multiply<Accumulator128, T, Nt>(sums, a, b);
            // The next product is under way before the one before it is asked for.
            WarpGroupMma.Wait(1);
        }
        WarpGroupMma.Wait(0);
        arguments.Result.Store((long)Grid.IdxX * Threads + Group.IdxX, PeakInstructions.Sum(sums));
    }

    /// <summary>Two elements' worth of bits that look random: a multiplicative hash.</summary>
    public static uint Scatter(uint word)
    {
        word *= 0x9E3779B9;
        word ^= word >> 15;
        word *= 0x85EBCA6B;
        return word ^ word >> 13;
    }
}
