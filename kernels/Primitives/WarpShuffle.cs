using ILGPU.Backends.PTX;
using ILGPU.IR.Intrinsics;
using IrValue = ILGPU.IR.Value;

namespace BgeMetal.Kernels.Primitives;

/// <summary>Values from other lanes of the warp.</summary>
internal static class WarpShuffle
{
    /// <summary>The value of the lane whose number differs in the bits of <paramref name="distance"/>, a compile-time constant.</summary>
    [IntrinsicImplementation]
    public static uint Xor(uint value, int distance) => (uint)EmulatedWarp.Current.Exchange(value)[ILGPU.Warp.LaneIdx ^ distance];

    /// <summary>Lane 0's value, which the assembler then knows to be the same in the whole warp: a branch on it does not split the warp.</summary>
    [IntrinsicImplementation]
    public static int First(int value) => (int)EmulatedWarp.Current.Exchange(value)[0];

    /// <summary>The sum over the four lanes that hold a row of scores, in all of them.</summary>
    [IntrinsicImplementation]
    public static float QuadSum(float value)
    {
        ReadOnlySpan<long> mail = EmulatedWarp.Current.Exchange(BitConverter.SingleToInt32Bits(value));
        int lane = ILGPU.Warp.LaneIdx & ~3;
        return Value(mail[lane]) + Value(mail[lane + 1]) + (Value(mail[lane + 2]) + Value(mail[lane + 3]));
    }

    private static float Value(long bits) => BitConverter.Int32BitsToSingle((int)bits);

    private static class Ptx
    {
        public static void Xor(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            string source = call.Operand(0);
            int distance = call.Constant(1);
            call.Emit($"\tshfl.sync.bfly.b32 {call.Result()}, {source}, {distance}, 31, 0xffffffff;");
        }

        public static void First(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            string source = call.Operand(0);
            call.Emit($"\tshfl.sync.idx.b32 {call.Result()}, {source}, 0, 31, 0xffffffff;");
        }

        public static void QuadSum(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            string source = call.Operand(0), result = call.Result();
            call.Emit($"\t{{ .reg .f32 t; shfl.sync.bfly.b32 t, {source}, 1, 31, 0xffffffff; add.f32 {result}, {source}, t; "
                + $"shfl.sync.bfly.b32 t, {result}, 2, 31, 0xffffffff; add.f32 {result}, {result}, t; }}");
        }
    }
}
