using System.Runtime.CompilerServices;
using System.Text;
using ILGPU;
using ILGPU.Backends.PTX;
using ILGPU.IR.Intrinsics;
using IrValue = ILGPU.IR.Value;

namespace BgeMetal.Kernels.Primitives;

/// <summary>
/// Attention's matrix products by four warps together (wgmma), 64 rows a group, on half-precision <see cref="HeadTile"/>s of heads of 32 or 64 columns that start at
/// multiples of <see cref="TensorCopy.Alignment"/>: their order of chunks is the hardware's 64-byte or 128-byte swizzle. Every element of a tile is read once for 64 rows,
/// where <see cref="HeadMma"/> reads it once for 16. Accumulators lie as <see cref="HeadMma"/>'s do, warp w of the group holding rows 16 w to 16 w + 15. Products run by themselves until
/// <see cref="WarpGroupMma.Wait"/>: until then nobody may touch their accumulators, weights or tiles. What threads wrote to a tile, cp.async included, must have gone through
/// <see cref="WarpGroupMma.Publish"/> and a block barrier.
/// </summary>
internal static unsafe class WarpGroupHead
{
    /// <summary>
    /// Issues scores = rows * tile^T: the inner products of the group's 64 rows at <paramref name="rows"/> with the 2 TScores.Length rows at <paramref name="tile"/>. What was in
    /// <paramref name="scores"/> is lost. Use as <c>scores = Multiply(scores, ..)</c>.
    /// </summary>
    [IntrinsicImplementation]
    public static TScores Multiply<TScores, T, THead>(TScores scores, int rows, int tile)
        where TScores : unmanaged, IAccumulator where T : unmanaged, IElement where THead : struct, IHead
    {
        EmulatedWarp.CheckAligned(rows, TensorCopy.Alignment);
        EmulatedWarp.CheckAligned(tile, TensorCopy.Alignment);
        Span<float> sums = Accumulators.Fields(ref scores);
        Span<float> a = stackalloc float[THead.Columns];
        int lane = Warp.LaneIdx, row = ((Group.IdxX >> 5) & 3) * 16 + (lane >> 2);
        for (int half = 0; half < 2; half++)
        {
            for (int k = 0; k < a.Length; k++) a[k] = Element<T, THead>(rows, row + 8 * half, k);
            for (int j = 0; j < sums.Length / 4; j++)
                for (int e = 0; e < 2; e++)
                {
                    float sum = 0;
                    for (int k = 0; k < a.Length; k++) sum = MathF.FusedMultiplyAdd(a[k], Element<T, THead>(tile, 8 * j + 2 * (lane & 3) + e, k), sum);
                    sums[4 * j + 2 * half + e] = sum;
                }
        }
        return scores;
    }

    /// <summary>Rounds scores to T and packs them as the first operand of <see cref="Accumulate"/>: a register for two neighbouring columns.</summary>
    [IntrinsicImplementation]
    public static TFragments Pack<TFragments, TScores, T>(TScores scores)
        where TFragments : unmanaged, IAccumulator where TScores : unmanaged, IAccumulator where T : unmanaged, IElement
    {
        Unsafe.SkipInit(out TFragments result);
        Span<float> s = Accumulators.Fields(ref scores);
        Span<int> words = Accumulators.Words(ref result);
        for (int i = 0; i < words.Length; i++) words[i] = (int)(T.ToBits(s[2 * i]) | T.ToBits(s[2 * i + 1]) << 16);
        return result;
    }

    /// <summary>
    /// Issues sum += weights * tile: row i of the tile is weighted with column i of the weights, of which there are 4 TFragments.Length.
    /// Use as <c>sum = Accumulate(sum, ..)</c>.
    /// </summary>
    [IntrinsicImplementation]
    public static TSum Accumulate<TSum, TFragments, T, THead>(TSum sum, TFragments weights, int tile)
        where TSum : unmanaged, IAccumulator where TFragments : unmanaged, IAccumulator where T : unmanaged, IElement where THead : struct, IHead
    {
        EmulatedWarp.CheckAligned(tile, TensorCopy.Alignment);
        Span<float> sums = Accumulators.Fields(ref sum);
        Span<int> words = Accumulators.Words(ref weights);
        ReadOnlySpan<long> mail = EmulatedWarp.Current.Exchange(words, 0);
        int lane = Warp.LaneIdx;
        for (int k = 0; k < 4 * words.Length; k++)
        {
            int word = ((4 * (k >> 4) + ((k >> 3) & 1) * 2) << 5) + (lane & ~3) + ((k & 7) >> 1);
            float upper = Half<T>(mail[word], k & 1), lower = Half<T>(mail[word + 32], k & 1);
            for (int i = 0; i < sums.Length; i++)
                if ((i & 2) == 0)
                {
                    float b = Element<T, THead>(tile, k, 8 * (i >> 2) + 2 * (lane & 3) + (i & 1));
                    sums[i] = MathF.FusedMultiplyAdd(upper, b, sums[i]);
                    sums[i + 2] = MathF.FusedMultiplyAdd(lower, b, sums[i + 2]);
                }
        }
        return sum;
    }

    private static float Element<T, THead>(int tile, int row, int column) where T : unmanaged, IElement where THead : struct, IHead =>
        T.FromBits(*(ushort*)SharedBlock.Pointer(tile + HeadTile.Place<T, THead>(row, column >> 3) + (column & 7) * 2, 2));

    private static float Half<T>(long word, int half) where T : unmanaged, IElement => T.FromBits((uint)(word >> (16 * half)) & 0xFFFF);

    private static class Ptx
    {
        private const int InstructionDepth = 16;

        public static void Multiply(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            string rows = call.Operand(1), tile = call.Operand(2), element = Element(call, 1);
            int columns = Columns(call, 2), step = WarpGroupDescriptor.Step(2 * columns, depthContiguous: true);
            string[] sums = call.Alias(0);
            StringBuilder text = new("\t.reg .b64 da, db;\n\t.reg .b32 t;\n\t.reg .pred p;\n");
            WarpGroupDescriptor.Append(text, "da", rows, 2 * columns, 0);
            WarpGroupDescriptor.Append(text, "db", tile, 2 * columns, 0);
            text.Append("\tsetp.ne.b32 p, 0, 0;\n\twgmma.fence.sync.aligned;\n");
            for (int k = 0; k < columns; k += InstructionDepth)
            {
                // The first product replaces what was there.
                if (k == InstructionDepth) text.Append("\tsetp.eq.b32 p, 0, 0;\n");
                if (k > 0) text.Append($"\tadd.s64 da, da, {step};\n\tadd.s64 db, db, {step};\n");
                text.Append($"\twgmma.mma_async.sync.aligned.m64n{sums.Length * 2}k16.f32.{element}.{element} {{{string.Join(',', sums)}}}, da, db, p, 1, 1, 0, 0;\n");
            }
            text.Append("\twgmma.commit_group.sync.aligned;\n");
            call.Emit(text);
        }

        public static void Pack(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            string[] s = call.Operands(0), result = call.Results();
            StringBuilder text = new();
            // The first source becomes the upper half: the column to the right.
            for (int i = 0; i < result.Length; i++) text.Append($"\tcvt.rn.{Element(call, 2)}x2.f32 {result[i]}, {s[2 * i + 1]}, {s[2 * i]};\n");
            call.Emit(text);
        }

        public static void Accumulate(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            string[] weights = call.Operands(1);
            string tile = call.Operand(2), element = Element(call, 2);
            int columns = Columns(call, 3);
            string[] sums = call.Alias(0);
            StringBuilder text = new("\t.reg .b64 db;\n\t.reg .b32 t;\n\t.reg .pred p;\n\tsetp.eq.b32 p, 0, 0;\n");
            // A box is as wide as the head.
            WarpGroupDescriptor.Append(text, "db", tile, 2 * columns, 0);
            text.Append("\twgmma.fence.sync.aligned;\n");
            for (int i = 0; i < weights.Length; i += 4)
            {
                if (i > 0) text.Append($"\tadd.s64 db, db, {WarpGroupDescriptor.Step(2 * columns, depthContiguous: false)};\n");
                text.Append($"\twgmma.mma_async.sync.aligned.m64n{sums.Length * 2}k16.f32.{element}.{element} ")
                    .Append($"{{{string.Join(',', sums)}}}, {{{string.Join(',', weights[i..(i + 4)])}}}, db, p, 1, 1, 1;\n");
            }
            text.Append("\twgmma.commit_group.sync.aligned;\n");
            call.Emit(text);
        }

        private static string Element(PtxCall call, int index) => call.TypeArguments[index] == typeof(BF16) ? "bf16" : "f16";

        private static int Columns(PtxCall call, int index) => (int)call.TypeArguments[index].GetProperty(nameof(IHead.Columns))!.GetValue(null)!;
    }
}
