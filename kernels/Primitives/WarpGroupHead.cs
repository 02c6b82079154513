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

    /// <summary>The same with rows that stay in registers, sixteen a warp as <see cref="HeadMma.LoadRows"/> leaves them: shared memory is read for the tile alone.</summary>
    [IntrinsicImplementation]
    public static TScores MultiplyRows<TScores, TFragments, T, THead>(TScores scores, TFragments rows, int tile)
        where TScores : unmanaged, IAccumulator where TFragments : unmanaged, IAccumulator where T : unmanaged, IElement where THead : struct, IHead
    {
        EmulatedWarp.CheckAligned(tile, TensorCopy.Alignment);
        Span<float> sums = Accumulators.Fields(ref scores);
        ReadOnlySpan<long> mail = EmulatedWarp.Current.Exchange(Accumulators.Words(ref rows), 0);
        int lane = Warp.LaneIdx;
        for (int i = 0; i < sums.Length; i++)
        {
            float sum = 0;
            for (int k = 0; k < THead.Columns; k++)
                sum = MathF.FusedMultiplyAdd(Weight<T>(mail, lane, i >> 1 & 1, k), Element<T, THead>(tile, 8 * (i >> 2) + 2 * (lane & 3) + (i & 1), k), sum);
            sums[i] = sum;
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
            float upper = Weight<T>(mail, lane, 0, k), lower = Weight<T>(mail, lane, 1, k);
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

    /// <summary>
    /// Issues sum += weights * tile with 64 x 64 weights in a tile of 64 columns, as <see cref="Store"/> leaves them: row i of <paramref name="tile"/> is weighted with their column i.
    /// Use as <c>sum = AccumulateStored(sum, ..)</c>.
    /// </summary>
    [IntrinsicImplementation]
    public static TSum AccumulateStored<TSum, T, THead>(TSum sum, int weights, int tile)
        where TSum : unmanaged, IAccumulator where T : unmanaged, IElement where THead : struct, IHead => Add<TSum, T, THead>(sum, weights, tile, transposed: false);

    /// <summary>The same with the weights transposed: row i of <paramref name="tile"/> is weighted with their row i.</summary>
    [IntrinsicImplementation]
    public static TSum AccumulateTransposed<TSum, T, THead>(TSum sum, int weights, int tile)
        where TSum : unmanaged, IAccumulator where T : unmanaged, IElement where THead : struct, IHead => Add<TSum, T, THead>(sum, weights, tile, transposed: true);

    /// <summary>
    /// Writes what <see cref="Pack"/> made to a tile of THead.Columns columns, or to as many columns of it as there are; <paramref name="address"/> is the place of the warp's first row
    /// and column plus <see cref="HeadTile.LaneOfStores"/>.
    /// </summary>
    [IntrinsicImplementation]
    public static void Store<TFragments, T, THead>(TFragments packed, int address)
        where TFragments : unmanaged, IAccumulator where T : unmanaged, IElement where THead : struct, IHead
    {
        Span<int> words = Accumulators.Words(ref packed);
        for (int i = 0; i < words.Length; i++) *(int*)SharedBlock.Pointer((address ^ (i >> 1) << 4) + (i & 1) * 8 * HeadTile.RowBytes<T, THead>(), 4) = words[i];
    }

    private static float Element<T, THead>(int tile, int row, int column) where T : unmanaged, IElement where THead : struct, IHead =>
        T.FromBits(*(ushort*)SharedBlock.Pointer(tile + HeadTile.Place<T, THead>(row, column >> 3) + (column & 7) * 2, 2));

    private static TSum Add<TSum, T, THead>(TSum sum, int weights, int tile, bool transposed) where TSum : unmanaged, IAccumulator where T : unmanaged, IElement where THead : struct, IHead
    {
        EmulatedWarp.CheckAligned(weights, TensorCopy.Alignment);
        EmulatedWarp.CheckAligned(tile, TensorCopy.Alignment);
        Span<float> sums = Accumulators.Fields(ref sum);
        int lane = Warp.LaneIdx, row = ((Group.IdxX >> 5) & 3) * 16 + (lane >> 2);
        for (int i = 0; i < sums.Length; i++)
        {
            int at = row + (i >> 1 & 1) * 8;
            for (int k = 0; k < 64; k++)
                sums[i] = MathF.FusedMultiplyAdd(transposed ? Element<T, Head64>(weights, k, at) : Element<T, Head64>(weights, at, k),
                    Element<T, THead>(tile, k, 8 * (i >> 2) + 2 * (lane & 3) + (i & 1)), sums[i]);
        }
        return sum;
    }

    // Column k of this lane's upper or lower row, from the registers of its warp.
    private static float Weight<T>(ReadOnlySpan<long> mail, int lane, int lower, int k) where T : unmanaged, IElement =>
        Half<T>(mail[((4 * (k >> 4) + ((k >> 3) & 1) * 2 + lower) << 5) + (lane & ~3) + ((k & 7) >> 1)], k & 1);

    private static float Half<T>(long word, int half) where T : unmanaged, IElement => T.FromBits((uint)(word >> (16 * half)) & 0xFFFF);

    private static class Ptx
    {
        public static void Multiply(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            string rows = call.Operand(1), tile = call.Operand(2);
            int columns = Columns(call, 2);
            WarpGroupProducts products = new(call.Alias(0), Element(call, 1), columns / WarpGroupProducts.Depth) { Replaces = true };
            products.First(rows, 2 * columns, depthContiguous: true);
            products.Second(tile, 2 * columns, depthContiguous: true);
            call.Emit(products.Text());
        }

        public static void MultiplyRows(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            string[] rows = call.Operands(1);
            string tile = call.Operand(2);
            WarpGroupProducts products = new(call.Alias(0), Element(call, 2), rows.Length / 4) { Replaces = true, FirstInRegisters = rows };
            products.Second(tile, 2 * Columns(call, 3), depthContiguous: true);
            call.Emit(products.Text());
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
            string tile = call.Operand(2);
            WarpGroupProducts products = new(call.Alias(0), Element(call, 2), weights.Length / 4) { FirstInRegisters = weights };
            // A box is as wide as the head.
            products.Second(tile, 2 * Columns(call, 3), depthContiguous: false);
            call.Emit(products.Text());
        }

        public static void AccumulateStored(PTXBackend backend, PTXCodeGenerator generator, IrValue value) => Add(new(generator, value), transposed: false);

        public static void AccumulateTransposed(PTXBackend backend, PTXCodeGenerator generator, IrValue value) => Add(new(generator, value), transposed: true);

        private static void Add(PtxCall call, bool transposed)
        {
            string weights = call.Operand(1), tile = call.Operand(2);
            WarpGroupProducts products = new(call.Alias(0), Element(call, 1), 64 / WarpGroupProducts.Depth);
            products.First(weights, 128, !transposed);
            products.Second(tile, 2 * Columns(call, 2), depthContiguous: false);
            call.Emit(products.Text());
        }

        public static void Store(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            string[] words = call.Operands(0);
            string address = call.Operand(1);
            int lower = 16 * Columns(call, 2);
            StringBuilder text = new("\t.reg .b32 t;\n");
            for (int i = 0; i < words.Length; i += 2)
                text.Append($"\txor.b32 t, {address}, {i << 3}; st.shared.b32 [t], {words[i]}; st.shared.b32 [t+{lower}], {words[i + 1]};\n");
            call.Emit(text);
        }

        private static string Element(PtxCall call, int index) => call.TypeArguments[index] == typeof(BF16) ? "bf16" : "f16";

        private static int Columns(PtxCall call, int index) => (int)call.TypeArguments[index].GetProperty(nameof(IHead.Columns))!.GetValue(null)!;
    }
}
