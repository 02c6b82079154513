using System.Text;
using ILGPU;
using ILGPU.Backends.PTX;
using ILGPU.IR.Intrinsics;
using IrValue = ILGPU.IR.Value;

namespace BgeMetal.Kernels.Primitives;

/// <summary>Reductions over the 32 lanes of a warp; every lane receives the result. The order is a fixed butterfly: results are reproducible.</summary>
internal static class WarpReduce
{
    /// <summary>The sum of all lanes' values.</summary>
    [IntrinsicImplementation]
    public static float Sum(float value)
    {
        Span<float> lanes = stackalloc float[32];
        Gather(value, lanes);
        for (int distance = 16; distance > 0; distance >>= 1)
            for (int i = 0; i < distance; i++) lanes[i] += lanes[i + distance];
        return lanes[0];
    }

    /// <summary>The largest of all lanes' values; a NaN is ignored unless all are NaN.</summary>
    [IntrinsicImplementation]
    public static float Max(float value)
    {
        Span<float> lanes = stackalloc float[32];
        Gather(value, lanes);
        float max = lanes[0];
        foreach (float other in lanes) max = float.MaxNumber(max, other);
        return max;
    }

    private static void Gather(float value, Span<float> lanes)
    {
        ReadOnlySpan<long> mail = EmulatedWarp.Current.Exchange(BitConverter.SingleToInt32Bits(value));
        for (int i = 0; i < 32; i++) lanes[i] = BitConverter.Int32BitsToSingle((int)mail[i]);
    }

    private static class Ptx
    {
        public static void Sum(PTXBackend backend, PTXCodeGenerator generator, IrValue value) => Butterfly(new(generator, value), "add");

        public static void Max(PTXBackend backend, PTXCodeGenerator generator, IrValue value) => Butterfly(new(generator, value), "max");

        private static void Butterfly(PtxCall call, string operation)
        {
            string source = call.Operand(0), result = call.Result();
            StringBuilder text = new($"\t.reg .f32 t;\n\tmov.f32 {result}, {source};\n");
            for (int distance = 16; distance > 0; distance >>= 1)
                text.Append($"\tshfl.sync.bfly.b32 t, {result}, {distance}, 31, 0xffffffff; {operation}.f32 {result}, {result}, t;\n");
            call.Emit(text);
        }
    }
}

/// <summary>Reductions over the threads of a block, in a fixed order: first each warp, then the warps' results in turn.</summary>
internal static class BlockReduce
{
    /// <summary>
    /// The sum of all threads' values, received by every thread. <paramref name="scratch"/> is a shared address of 32 binary32 that no thread
    /// uses for anything else between the barriers inside. Every thread of the block must call it.
    /// </summary>
    public static float Sum(float value, int scratch)
    {
        float warp = WarpReduce.Sum(value);
        int warps = (Group.DimX + 31) >> 5;
        Group.Barrier();
        if ((Group.IdxX & 31) == 0) SharedBlock.Store(scratch + ((Group.IdxX >> 5) << 2), warp);
        Group.Barrier();
        float sum = 0;
        for (int i = 0; i < warps; i++) sum += SharedBlock.Load(scratch + (i << 2));
        return sum;
    }
}
