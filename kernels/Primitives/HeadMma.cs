using System.Text;
using ILGPU;
using ILGPU.Backends.PTX;
using ILGPU.IR.Intrinsics;
using IrValue = ILGPU.IR.Value;

namespace BgeMetal.Kernels.Primitives;

/// <summary>
/// Attention's matrix products, sixteen rows a warp, the second operand a <see cref="HeadTile"/>. Half-precision types run on the tensor cores
/// (ldmatrix, mma.m16n8k16 with binary32 accumulation), binary32 in fused multiply-adds in the order of the depth. In both, accumulator 4 j + e of a lane
/// belongs to row lane / 4 + 8 (e / 2) and column 8 j + 2 (lane % 4) + e % 2; a finished product is therefore the first operand of the next one
/// (<see cref="Accumulate"/>) without leaving its registers.
/// </summary>
internal static unsafe class HeadMma
{
    /// <summary>
    /// Sixteen rows of a tile as a first operand; <paramref name="address"/> is the tile's place plus <see cref="HeadTile.LaneOfRows"/> plus the rows' offset.
    /// Binary32 rows are read where they are needed: the result is the address.
    /// </summary>
    [IntrinsicImplementation]
    public static TFragments LoadRows<TFragments, T, THead>(int address)
        where TFragments : unmanaged, IAccumulator where T : unmanaged, IElement where THead : struct, IHead
    {
        TFragments result = default;
        Span<int> words = Accumulators.Words(ref result);
        words[0] = address;
        if (T.SizeShift == 2) return result;
        ReadOnlySpan<long> lanes = EmulatedWarp.Current.Exchange(address);
        int lane = Warp.LaneIdx;
        for (int i = 0; i < words.Length; i++)
            words[i] = *(int*)SharedBlock.Pointer(Step((int)lanes[8 * (i & 3) + (lane >> 2)], i >> 2) + (lane & 3) * 4, 4);
        return result;
    }

    /// <summary>
    /// scores += rows * tile^T: the inner products of sixteen rows with as many rows of the tile as there are columns of scores, 2 TScores.Length.
    /// <paramref name="address"/> is the tile's place plus <see cref="HeadTile.LaneOfColumns"/>. Use as <c>scores = Multiply(scores, ..)</c>.
    /// </summary>
    [IntrinsicImplementation]
    public static TScores Multiply<TScores, TFragments, T, THead>(TScores scores, TFragments rows, int address)
        where TScores : unmanaged, IAccumulator where TFragments : unmanaged, IAccumulator where T : unmanaged, IElement where THead : struct, IHead
    {
        Span<float> sums = Accumulators.Fields(ref scores);
        Span<int> words = Accumulators.Words(ref rows);
        ReadOnlySpan<long> mail = T.SizeShift == 2 ? default : EmulatedWarp.Current.Exchange(words, address);
        int depth = THead.Columns, rowBytes = HeadTile.RowBytes<T, THead>(), quad = Warp.LaneIdx & 3;
        Span<float> a = stackalloc float[2 * depth];
        for (int half = 0; half < 2; half++)
            for (int k = 0; k < depth; k++)
                a[half * depth + k] = T.SizeShift == 2
                    ? *(float*)SharedBlock.Pointer(Chunk(words[0], k >> 2) + half * 8 * rowBytes + (k & 3) * 4, 4)
                    : Half<T>(mail[((4 * (k >> 4) + half + ((k >> 3) & 1) * 2) << 5) + (Warp.LaneIdx & ~3) + ((k & 7) >> 1)], k & 1);
        for (int n = 0; n < sums.Length / 2; n++)
        {
            int column = 8 * (n >> 1) + 2 * quad + (n & 1);
            Span<float> sum = sums.Slice(4 * (n >> 1) + (n & 1), 3);
            for (int k = 0; k < depth; k++)
            {
                float b = T.SizeShift == 2
                    ? *(float*)SharedBlock.Pointer(Chunk(ExactColumn(address, n & 1, rowBytes), k >> 2) + (n >> 1) * 8 * rowBytes + (k & 3) * 4, 4)
                    : Element<T>((int)mail[(words.Length << 5) + 8 * (((k >> 3) & 1) + ((column >> 3) & 1) * 2) + (column & 7)], k >> 4, (column >> 4) * 16 * rowBytes + (k & 7) * 2);
                sum[0] = MathF.FusedMultiplyAdd(a[k], b, sum[0]);
                sum[2] = MathF.FusedMultiplyAdd(a[depth + k], b, sum[2]);
            }
        }
        return scores;
    }

    /// <summary>
    /// sum += weights * tile: row i of the tile is weighted with column i of the weights, which are rounded to T on the way.
    /// <paramref name="address"/> is the tile's place plus <see cref="HeadTile.LaneOfDepth"/>. Use as <c>sum = Accumulate(sum, ..)</c>.
    /// </summary>
    [IntrinsicImplementation]
    public static TSum Accumulate<TSum, TScores, T, THead>(TSum sum, TScores weights, int address)
        where TSum : unmanaged, IAccumulator where TScores : unmanaged, IAccumulator where T : unmanaged, IElement where THead : struct, IHead
    {
        Span<float> sums = Accumulators.Fields(ref sum);
        Span<int> words = Accumulators.Words(ref weights);
        ReadOnlySpan<long> mail = EmulatedWarp.Current.Exchange(words, address);
        int rowBytes = HeadTile.RowBytes<T, THead>(), lane = Warp.LaneIdx;
        for (int k = 0; k < 2 * words.Length; k++)
        {
            int source = (lane & ~3) + ((k & 7) >> 1), field = 4 * (k >> 3) + (k & 1);
            float upper = Rounded<T>(mail[(field << 5) + source]), lower = Rounded<T>(mail[((field + 2) << 5) + source]);
            for (int n = 0; n < sums.Length / 2; n++)
            {
                int column = 8 * (n >> 1) + 2 * (lane & 3) + (n & 1), at = 4 * (n >> 1) + (n & 1);
                float b = T.SizeShift == 2
                    ? *(float*)SharedBlock.Pointer((address ^ (((2 * (n >> 1)) & 6) ^ (k & 7)) << 4) + (n >> 3 << 7) + k * rowBytes + (n & 1) * 4, 4)
                    : Element<T>((int)mail[(words.Length << 5) + 8 * (((k >> 3) & 1) + ((column >> 3) & 1) * 2) + (k & 7)], column >> 4, (k >> 4) * 16 * rowBytes + (column & 7) * 2);
                sums[at] = MathF.FusedMultiplyAdd(upper, b, sums[at]);
                sums[at + 2] = MathF.FusedMultiplyAdd(lower, b, sums[at + 2]);
            }
        }
        return sum;
    }

    /// <summary>
    /// Writes sixteen rows of sums to a row-major binary32 tile in shared memory whose rows are <paramref name="stride"/> (a compile-time constant)
    /// elements apart; <paramref name="address"/> is this lane's row lane / 4, column 2 (lane % 4).
    /// </summary>
    [IntrinsicImplementation]
    public static void Stage<TSum>(TSum sum, int address, int stride) where TSum : unmanaged, IAccumulator
    {
        Span<float> sums = Accumulators.Fields(ref sum);
        for (int i = 0; i < sums.Length; i++) *(float*)SharedBlock.Pointer(address + StageOffset(i / 4, i % 4 / 2, stride) + i % 2 * 4, 4) = sums[i];
    }

    private static int StageOffset(int tile, int half, int stride) => (half * 8 * stride + tile * 8) * sizeof(float);

    // Sixteen half-precision columns further along the row; and one 16-byte chunk of an exact row.
    private static int Step(int address, int step) => (address ^ ((step & 3) << 5)) + ((step >> 2) << 7);

    private static int Chunk(int address, int chunk) => (address ^ ((chunk & 7) << 4)) + ((chunk >> 3) << 7);

    // The odd column's row follows the even one's and has its chunks swapped in pairs.
    private static int ExactColumn(int address, int odd, int rowBytes) => odd == 0 ? address : (address ^ 16) + rowBytes;

    private static float Element<T>(int lane, int step, int offset) where T : unmanaged, IElement =>
        T.FromBits(*(ushort*)SharedBlock.Pointer(Step(lane, step) + offset, 2));

    private static float Half<T>(long word, int half) where T : unmanaged, IElement => T.FromBits((uint)(word >> (16 * half)) & 0xFFFF);

    private static float Rounded<T>(long bits) where T : unmanaged, IElement => T.FromBits(T.ToBits(BitConverter.Int32BitsToSingle((int)bits)));

    private static class Ptx
    {
        public static void LoadRows(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            string address = call.Operand(0);
            string[] r = call.Results();
            if (IsExact(call, 1))
            {
                call.Emit($"\tmov.b32 {r[0]}, {address};");
                return;
            }
            StringBuilder text = new("\t.reg .b32 t;\n");
            for (int step = 0; step < r.Length / 4; step++)
                text.Append($"\txor.b32 t, {address}, {(step & 3) << 5};\n")
                    .Append($"\tldmatrix.sync.aligned.m8n8.x4.shared.b16 {{{string.Join(',', r[(4 * step)..(4 * step + 4)])}}}, [t+{step >> 2 << 7}];\n");
            call.Emit(text);
        }

        public static void Multiply(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            string[] rows = call.Operands(1);
            string address = call.Operand(2);
            string[] sums = call.Alias(0);
            int depth = Columns(call, 3);
            if (IsExact(call, 2)) MultiplyExact(call, sums, rows[0], address, depth);
            else MultiplyHalves(call, sums, rows, address, depth);
        }

        public static void Accumulate(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            string[] weights = call.Operands(1);
            string address = call.Operand(2);
            string[] sums = call.Alias(0);
            int rowBytes = Columns(call, 3) * (IsExact(call, 2) ? 4 : 2);
            if (IsExact(call, 2)) AccumulateExact(call, sums, weights, address, rowBytes);
            else AccumulateHalves(call, sums, weights, address, rowBytes);
        }

        public static void Stage(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            string[] sums = call.Operands(0);
            string address = call.Operand(1);
            int stride = call.Constant(2);
            StringBuilder text = new();
            for (int i = 0; i < sums.Length; i += 2)
                text.Append($"\tst.shared.v2.f32 [{address}+{StageOffset(i / 4, i % 4 / 2, stride)}], {{{sums[i]},{sums[i + 1]}}};\n");
            call.Emit(text);
        }

        private static void MultiplyHalves(PtxCall call, string[] sums, string[] rows, string address, int depth)
        {
            StringBuilder text = new("\t.reg .b32 b<4>, t;\n");
            for (int step = 0; step < depth / 16; step++)
            {
                text.Append($"\txor.b32 t, {address}, {(step & 3) << 5};\n");
                for (int pair = 0; pair < sums.Length / 8; pair++)
                {
                    text.Append($"\tldmatrix.sync.aligned.m8n8.x4.shared.b16 {{b0,b1,b2,b3}}, [t+{(step >> 2 << 7) + pair * 16 * depth * 2}];\n");
                    for (int j = 0; j < 2; j++)
                        Mma(text, call, 2, sums.AsSpan(8 * pair + 4 * j, 4), rows.AsSpan(4 * step, 4), $"b{2 * j},b{2 * j + 1}");
                }
            }
            call.Emit(text);
        }

        private static void AccumulateHalves(PtxCall call, string[] sums, string[] weights, string address, int rowBytes)
        {
            string element = call.TypeArguments[2] == typeof(BF16) ? "bf16" : "f16";
            string[] a = ["a0", "a1", "a2", "a3"];
            StringBuilder text = new("\t.reg .b32 a<4>, b<4>, t;\n");
            for (int step = 0; step < weights.Length / 8; step++)
            {
                // The first source becomes the upper half: the column to the right.
                for (int i = 0; i < 4; i++) text.Append($"\tcvt.rn.{element}x2.f32 a{i}, {weights[8 * step + 2 * i + 1]}, {weights[8 * step + 2 * i]};\n");
                for (int pair = 0; pair < sums.Length / 8; pair++)
                {
                    text.Append($"\txor.b32 t, {address}, {(pair & 3) << 5};\n")
                        .Append($"\tldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {{b0,b1,b2,b3}}, [t+{(pair >> 2 << 7) + step * 16 * rowBytes}];\n");
                    for (int j = 0; j < 2; j++) Mma(text, call, 2, sums.AsSpan(8 * pair + 4 * j, 4), a, $"b{2 * j},b{2 * j + 1}");
                }
            }
            call.Emit(text);
        }

        private static void Mma(StringBuilder text, PtxCall call, int elementIndex, ReadOnlySpan<string> sums, ReadOnlySpan<string> a, string b)
        {
            string element = call.TypeArguments[elementIndex] == typeof(BF16) ? "bf16" : "f16", d = string.Join(',', sums!);
            text.Append($"\tmma.sync.aligned.m16n8k16.row.col.f32.{element}.{element}.f32 {{{d}}},{{{string.Join(',', a!)}}},{{{b}}},{{{d}}};\n");
        }

        // Eight columns of depth a turn. A loop that stays one: written out, these kernels would not fit the instruction cache.
        private static void MultiplyExact(PtxCall call, string[] sums, string rows, string address, int depth)
        {
            int rowBytes = depth * 4;
            string label = $"depth{call.UniqueSuffix}";
            StringBuilder text = new("\t.reg .f32 a<8>, b<4>; .reg .b32 odd, x, y<2>, t, low, high, at; .reg .pred p;\n");
            text.Append($"\txor.b32 odd, {address}, 16; add.s32 odd, odd, {rowBytes}; mov.b32 at, 0;\n{label}:\n\t.pragma \"nounroll\";\n")
                .Append("\tand.b32 low, at, 96; sub.s32 high, at, low;\n")
                .Append($"\txor.b32 x, {rows}, low; add.s32 x, x, high;\n\txor.b32 y0, {address}, low; add.s32 y0, y0, high;\n\txor.b32 y1, odd, low; add.s32 y1, y1, high;\n");
            for (int chunk = 0; chunk < 2; chunk++)
            {
                text.Append($"\txor.b32 t, x, {chunk << 4};\n\tld.shared.v4.f32 {{a0,a1,a2,a3}}, [t];\n\tld.shared.v4.f32 {{a4,a5,a6,a7}}, [t+{8 * rowBytes}];\n");
                for (int parity = 0; parity < 2; parity++)
                {
                    text.Append($"\txor.b32 t, y{parity}, {chunk << 4};\n");
                    for (int j = 0; j < sums.Length / 4; j++)
                    {
                        text.Append($"\tld.shared.v4.f32 {{b0,b1,b2,b3}}, [t+{j * 8 * rowBytes}];\n");
                        for (int half = 0; half < 2; half++)
                            for (int k = 0; k < 4; k++)
                                text.Append($"\tfma.rn.f32 {sums[4 * j + 2 * half + parity]}, a{4 * half + k}, b{k}, {sums[4 * j + 2 * half + parity]};\n");
                    }
                }
            }
            text.Append($"\tadd.s32 at, at, 32; setp.ne.s32 p, at, {rowBytes};\n\t@p bra {label};\n");
            call.Emit(text);
        }

        // A weight comes from the lane of the same four that holds its column.
        private static void AccumulateExact(PtxCall call, string[] sums, string[] weights, string address, int rowBytes)
        {
            StringBuilder text = new("\t.reg .f32 u, l, b<2>; .reg .b32 t<8>;\n");
            for (int i = 0; i < 8; i++) text.Append($"\txor.b32 t{i}, {address}, {i << 4};\n");
            for (int k = 0; k < 2 * weights.Length; k++)
            {
                int field = 4 * (k >> 3) + (k & 1), source = (k & 7) >> 1;
                text.Append($"\tshfl.sync.idx.b32 u, {weights[field]}, {source}, 0x1c1f, 0xffffffff;\n")
                    .Append($"\tshfl.sync.idx.b32 l, {weights[field + 2]}, {source}, 0x1c1f, 0xffffffff;\n");
                for (int j = 0; j < sums.Length / 4; j++)
                {
                    text.Append($"\tld.shared.v2.f32 {{b0,b1}}, [t{(2 * j & 6) ^ (k & 7)}+{(j >> 2 << 7) + k * rowBytes}];\n");
                    for (int e = 0; e < 4; e++)
                        text.Append($"\tfma.rn.f32 {sums[4 * j + e]}, {(e < 2 ? "u" : "l")}, b{e % 2}, {sums[4 * j + e]};\n");
                }
            }
            call.Emit(text);
        }

        private static bool IsExact(PtxCall call, int elementIndex) => call.TypeArguments[elementIndex] == typeof(FP32);

        private static int Columns(PtxCall call, int headIndex) =>
            (int)call.TypeArguments[headIndex].GetProperty(nameof(IHead.Columns))!.GetValue(null)!;
    }
}
