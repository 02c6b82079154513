using System.Text;
using ILGPU.Backends.PTX;
using ILGPU.IR.Intrinsics;
using IrValue = ILGPU.IR.Value;

namespace BgeMetal.Kernels.Primitives;

/// <summary>Chains of arithmetic in registers and nothing else: what a multiprocessor can do at most. Use as <c>acc = Intrinsic(acc, ..)</c>.</summary>
internal static unsafe class PeakInstructions
{
    /// <summary>Depth of one tensor-core instruction.</summary>
    public const int Depth = 16;

    /// <summary>
    /// accumulator += A B by 16 independent mma.m16n8k16, where every element of A and B is the one in both halves of <paramref name="pair"/>: 65536
    /// operations a warp.
    /// </summary>
    [IntrinsicImplementation]
    public static Accumulator64 MultiplyUniform<T>(Accumulator64 accumulator, uint pair) where T : unmanaged, IElement
    {
        float value = T.FromBits(pair & 0xFFFF), product = Depth * value * value;
        foreach (ref float sum in Accumulators.Fields(ref accumulator)) sum += product;
        return accumulator;
    }

    /// <summary>How often <see cref="MultiplyAddUniform"/> goes round the accumulators: often enough that its loop does not show.</summary>
    public const int Rounds = 4;

    /// <summary>accumulator = accumulator * x + x, four rounds of 64 independent fused multiply-adds: 512 operations a thread.</summary>
    [IntrinsicImplementation]
    public static Accumulator64 MultiplyAddUniform(Accumulator64 accumulator, float x)
    {
        for (int round = 0; round < Rounds; round++)
            foreach (ref float sum in Accumulators.Fields(ref accumulator)) sum = MathF.FusedMultiplyAdd(sum, x, x);
        return accumulator;
    }

    /// <summary>The sum of the accumulators, in order.</summary>
    [IntrinsicImplementation]
    public static float Sum<TAcc>(TAcc accumulator) where TAcc : unmanaged, IAccumulator
    {
        float total = 0;
        foreach (float sum in Accumulators.Fields(ref accumulator)) total += sum;
        return total;
    }

    private static class Ptx
    {
        public static void MultiplyUniform(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            string pair = call.Operand(1), element = call.TypeArguments[0] == typeof(BF16) ? "bf16" : "f16";
            string[] sums = call.Alias(0);
            StringBuilder text = new();
            for (int i = 0; i < sums.Length; i += 4)
            {
                string d = string.Join(',', sums[i..(i + 4)]);
                text.Append($"\tmma.sync.aligned.m16n8k16.row.col.f32.{element}.{element}.f32 {{{d}}},{{{pair},{pair},{pair},{pair}}},{{{pair},{pair}}},{{{d}}};\n");
            }
            call.Emit(text);
        }

        public static void MultiplyAddUniform(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            string x = call.Operand(1);
            string[] sums = call.Alias(0);
            StringBuilder text = new();
            for (int round = 0; round < Rounds; round++)
                foreach (string sum in sums) text.Append($"\tfma.rn.f32 {sum}, {sum}, {x}, {x};\n");
            call.Emit(text);
        }

        public static void Sum(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            string[] sums = call.Operands(0);
            string total = call.Result();
            StringBuilder text = new($"\tmov.f32 {total}, 0f00000000;\n");
            foreach (string sum in sums) text.Append($"\tadd.f32 {total}, {total}, {sum};\n");
            call.Emit(text);
        }
    }
}
