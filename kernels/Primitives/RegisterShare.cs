using ILGPU.Backends.PTX;
using ILGPU.IR.Intrinsics;
using IrValue = ILGPU.IR.Value;

namespace BgeMetal.Kernels.Primitives;

/// <summary>
/// setmaxnreg: registers move from the warps that only issue copies to those that hold accumulators. All warps of a group of four must call it, in one
/// branch of a single if / else, and the counts (compile-time constants, multiples of 8) must be had: what all threads get must not be more than at the start.
/// </summary>
internal static class RegisterShare
{
    /// <summary>Gives registers back until <paramref name="registers"/> a thread are left.</summary>
    [IntrinsicImplementation]
    public static void Shrink(int registers)
    {
    }

    /// <summary>Waits until there are <paramref name="registers"/> a thread.</summary>
    [IntrinsicImplementation]
    public static void Grow(int registers)
    {
    }

    private static class Ptx
    {
        public static void Shrink(PTXBackend backend, PTXCodeGenerator generator, IrValue value) => Emit(new(generator, value), "dec");

        public static void Grow(PTXBackend backend, PTXCodeGenerator generator, IrValue value) => Emit(new(generator, value), "inc");

        private static void Emit(PtxCall call, string direction) =>
            call.Emit($"\tsetmaxnreg.{direction}.sync.aligned.u32 {call.Constant(0)};");
    }
}
