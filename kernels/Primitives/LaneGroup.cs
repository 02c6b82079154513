using System.Text;
using ILGPU;
using ILGPU.Backends.PTX;
using ILGPU.IR.Intrinsics;
using IrValue = ILGPU.IR.Value;

namespace BgeMetal.Kernels.Primitives;

/// <summary>
/// Reductions over neighbouring lanes: groups of <c>lanes</c> (a power of two, a compile-time constant) within a warp, each for itself; every lane receives
/// its group's result. All 32 lanes must call. The order is a fixed butterfly.
/// </summary>
internal static class LaneGroup
{
    /// <summary>The sum of the group's values.</summary>
    [IntrinsicImplementation]
    public static float Sum(float value, int lanes) => Butterfly(value, lanes, (x, y) => x + y);

    /// <summary>The largest of the group's values; a NaN is ignored unless all are NaN.</summary>
    [IntrinsicImplementation]
    public static float Max(float value, int lanes) => Butterfly(value, lanes, float.MaxNumber);

    private static float Butterfly(float value, int lanes, Func<float, float, float> combine)
    {
        ReadOnlySpan<long> mail = EmulatedWarp.Current.Exchange(BitConverter.SingleToInt32Bits(value));
        Span<float> values = stackalloc float[lanes];
        int first = Warp.LaneIdx & -lanes;
        for (int i = 0; i < lanes; i++) values[i] = BitConverter.Int32BitsToSingle((int)mail[first + i]);
        for (int distance = lanes / 2; distance > 0; distance >>= 1)
            for (int i = 0; i < distance; i++) values[i] = combine(values[i], values[i + distance]);
        return values[0];
    }

    private static class Ptx
    {
        public static void Sum(PTXBackend backend, PTXCodeGenerator generator, IrValue value) => Butterfly(new(generator, value), "add");

        public static void Max(PTXBackend backend, PTXCodeGenerator generator, IrValue value) => Butterfly(new(generator, value), "max");

        private static void Butterfly(PtxCall call, string operation)
        {
            string source = call.Operand(0), result = call.Result();
            StringBuilder text = new($"\t.reg .f32 t;\n\tmov.f32 {result}, {source};\n");
            for (int distance = call.Constant(1) / 2; distance > 0; distance >>= 1)
                text.Append($"\tshfl.sync.bfly.b32 t, {result}, {distance}, 31, 0xffffffff; {operation}.f32 {result}, {result}, t;\n");
            call.Emit(text);
        }
    }
}
