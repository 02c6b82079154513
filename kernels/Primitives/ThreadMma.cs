using System.Text;
using ILGPU.Backends.PTX;
using ILGPU.IR.Intrinsics;
using IrValue = ILGPU.IR.Value;

namespace BgeMetal.Kernels.Primitives;

/// <summary>
/// A thread's 8 x 8 share of a matrix product in binary32 fused multiply-adds: the exact form, without tensor cores. Rows r and columns c of the
/// share are 0..3 and 64..67 of the tile, counted from the thread's own corner.
/// </summary>
internal static unsafe class ThreadMma
{
    /// <summary>
    /// accumulator += A B over <paramref name="depth"/> steps. A and B lie in shared memory as [depth][pitch]; the addresses are the thread's corner in
    /// step 0, multiples of 16 bytes. Depth and pitch are compile-time constants. Use as <c>acc = Multiply(acc, ..)</c>.
    /// </summary>
    [IntrinsicImplementation]
    public static Accumulator64 Multiply(Accumulator64 accumulator, int addressA, int addressB, int depth, int pitch)
    {
        Span<float> sums = Accumulators.Fields(ref accumulator);
        for (int d = 0; d < depth; d++)
        {
            float* a = (float*)SharedBlock.Pointer(addressA + d * pitch * 4, 16), b = (float*)SharedBlock.Pointer(addressB + d * pitch * 4, 16);
            for (int r = 0; r < 8; r++)
                for (int c = 0; c < 8; c++)
                    sums[r * 8 + c] = MathF.FusedMultiplyAdd(a[Offset(r)], b[Offset(c)], sums[r * 8 + c]);
        }
        return accumulator;
    }

    /// <summary>Writes the accumulators to a row-major binary32 tile in shared memory, from the thread's corner on; the stride is a compile-time constant.</summary>
    [IntrinsicImplementation]
    public static void Stage(Accumulator64 accumulator, int address, int stride)
    {
        Span<float> sums = Accumulators.Fields(ref accumulator);
        for (int i = 0; i < 64; i++) *(float*)SharedBlock.Pointer(address + (Offset(i / 8) * stride + Offset(i % 8)) * 4, 4) = sums[i];
    }

    private static int Offset(int index) => (index & 3) + ((index >> 2) << 6);

    private static class Ptx
    {
        public static void Multiply(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            string a = call.Operand(1), b = call.Operand(2);
            int depth = call.Constant(3), pitch = call.Constant(4);
            string[] sums = call.Alias(0);
            StringBuilder text = new("\t.reg .f32 a<8>, b<8>;\n");
            for (int d = 0; d < depth; d++)
            {
                foreach ((string name, string address) in new[] { ("a", a), ("b", b) })
                    for (int half = 0; half < 2; half++)
                        text.Append($"\tld.shared.v4.f32 {{{name}{4 * half},{name}{4 * half + 1},{name}{4 * half + 2},{name}{4 * half + 3}}}, ")
                            .Append($"[{address}+{d * pitch * 4 + half * 256}];\n");
                for (int i = 0; i < 64; i++) text.Append($"\tfma.rn.f32 {sums[i]}, a{i / 8}, b{i % 8}, {sums[i]};\n");
            }
            call.Emit(text);
        }

        public static void Stage(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            string[] s = call.Operands(0);
            string address = call.Operand(1);
            int stride = call.Constant(2);
            StringBuilder text = new();
            for (int i = 0; i < 64; i += 4)
                text.Append($"\tst.shared.v4.f32 [{address}+{(Offset(i / 8) * stride + Offset(i % 8)) * 4}], {{{s[i]},{s[i + 1]},{s[i + 2]},{s[i + 3]}}};\n");
            call.Emit(text);
        }
    }
}
