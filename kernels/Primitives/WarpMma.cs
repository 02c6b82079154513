using System.Reflection;
using System.Text;
using ILGPU;
using ILGPU.Backends.PTX;
using ILGPU.IR.Intrinsics;
using IrValue = ILGPU.IR.Value;

namespace BgeMetal.Kernels.Primitives;

/// <summary>
/// A warp's share of a matrix product on the tensor cores (ldmatrix, mma.m16n8k16 with binary32 accumulation), operands in swizzled shared
/// memory. A tile row is split into 16-byte chunks, and chunk c of row r lies at chunk c ^ (r &amp; 7): the eight rows that one ldmatrix phase reads
/// then fall into different banks, whether or not the matrix is transposed on the way. Because the swizzle changes address bits 4..6 only, a step
/// along a row is an XOR with a constant and a step across rows is an added constant.
/// </summary>
internal static unsafe class WarpMma
{
    /// <summary>The staging row's length in elements of a tile with this many columns: 8 more, so that neighbouring rows start in other banks.</summary>
    public static int StagingStride(int columns) => columns + 8;

    /// <summary>This lane's address within the A tile, to be added to the tile's base.</summary>
    public static int LaneAddressA<TForm, TTile>(int lane, int warpRow) where TForm : struct, IForm where TTile : struct, ITile =>
        TForm.AkContiguous
            ? (warpRow + (lane & 15)) * (TTile.BlockK * 2) + (((lane >> 4) ^ (lane & 7)) << 4)
            : ((lane & 7) + ((lane >> 4) << 3)) * (TTile.BlockM * 2) + ((((warpRow >> 3) + ((lane >> 3) & 1)) ^ (lane & 7)) << 4);

    /// <summary>This lane's address within the B tile, to be added to the tile's base.</summary>
    public static int LaneAddressB<TForm, TTile>(int lane, int warpColumn) where TForm : struct, IForm where TTile : struct, ITile =>
        TForm.BkContiguous
            ? (warpColumn + (lane & 7) + ((lane >> 4) << 3)) * (TTile.BlockK * 2) + ((((lane >> 3) & 1) ^ (lane & 7)) << 4)
            : ((lane & 7) + (((lane >> 3) & 1) << 3)) * (TTile.BlockN * 2) + ((((warpColumn >> 3) + (lane >> 4)) ^ (lane & 7)) << 4);

    /// <summary>
    /// accumulator += A B over one stage of depth BlockK. Accumulator (i, j, e) of a lane, at ((i * WarpN / 8) + j) * 4 + e, belongs to row
    /// 16 i + lane / 4 + 8 (e / 2) and column 8 j + 2 (lane % 4) + e % 2 of the warp's share. Use as <c>acc = Multiply(acc, ..)</c>: the result
    /// lives in the operand's registers.
    /// </summary>
    [IntrinsicImplementation]
    public static TAcc Multiply<TAcc, T, TForm, TTile>(TAcc accumulator, int addressA, int addressB)
        where TAcc : unmanaged, IAccumulator where T : unmanaged, IElement where TForm : struct, IForm where TTile : struct, ITile
    {
        ReadOnlySpan<long> addresses = EmulatedWarp.Current.Exchange(addressA, addressB);
        int lane = Warp.LaneIdx, k = TTile.BlockK, tilesN = TTile.WarpN / 8;
        Span<float> a = stackalloc float[2 * k], b = stackalloc float[2 * tilesN * k];
        Span<float> sums = Accumulators.Fields(ref accumulator);
        for (int j = 0; j < tilesN; j++)
            for (int e = 0; e < 2; e++)
                for (int d = 0; d < k; d++)
                    b[(2 * j + e) * k + d] = ElementB<T, TForm, TTile>(addresses.Slice(32, 32), 8 * j + 2 * (lane % 4) + e, d);
        for (int i = 0; i < TTile.WarpM / 16; i++)
        {
            for (int half = 0; half < 2; half++)
                for (int d = 0; d < k; d++)
                    a[half * k + d] = ElementA<T, TForm, TTile>(addresses[..32], 16 * i + lane / 4 + 8 * half, d);
            for (int j = 0; j < tilesN; j++)
                for (int e = 0; e < 4; e++)
                {
                    float sum = 0;
                    for (int d = 0; d < k; d++) sum += a[(e / 2) * k + d] * b[(2 * j + e % 2) * k + d];
                    sums[(i * tilesN + j) * 4 + e] += sum;
                }
        }
        return accumulator;
    }

    /// <summary>
    /// Writes the accumulators to a row-major binary32 tile in shared memory whose rows are <paramref name="stride"/> (a compile-time constant)
    /// elements apart; <paramref name="address"/> is this lane's row lane / 4, column 2 (lane % 4) of the warp's share.
    /// </summary>
    [IntrinsicImplementation]
    public static void Stage<TAcc, TTile>(TAcc accumulator, int address, int stride)
        where TAcc : unmanaged, IAccumulator where TTile : struct, ITile
    {
        Span<float> sums = Accumulators.Fields(ref accumulator);
        for (int i = 0; i < sums.Length; i++)
            *(float*)SharedBlock.Pointer(address + StageOffset(TTile.WarpN / 8, i / 4, i % 4 / 2, stride) + i % 2 * 4, 4) = sums[i];
    }

    private static int StageOffset(int tilesN, int tile, int half, int stride) =>
        ((tile / tilesN * 16 + half * 8) * stride + tile % tilesN * 8) * sizeof(float);

    // What ldmatrix delivers: element (m, k) of the fragment comes from the address that lane 8 q + r supplied, where the 8x8 matrix q and its
    // stored row r follow from m and k.
    private static float ElementA<T, TForm, TTile>(ReadOnlySpan<long> lanes, int m, int k)
        where T : unmanaged, IElement where TForm : struct, IForm where TTile : struct, ITile
    {
        int matrix = ((m >> 3) & 1) + (((k >> 3) & 1) << 1), tile = m >> 4, step = k >> 4;
        int address = TForm.AkContiguous
            ? ((int)lanes[8 * matrix + (m & 7)] ^ (step << 5)) + tile * 16 * TTile.BlockK * 2 + (k & 7) * 2
            : ((int)lanes[8 * matrix + (k & 7)] ^ (tile << 5)) + step * 16 * TTile.BlockM * 2 + (m & 7) * 2;
        return T.FromBits(*(ushort*)SharedBlock.Pointer(address, 2));
    }

    private static float ElementB<T, TForm, TTile>(ReadOnlySpan<long> lanes, int n, int k)
        where T : unmanaged, IElement where TForm : struct, IForm where TTile : struct, ITile
    {
        int matrix = ((k >> 3) & 1) + (((n >> 3) & 1) << 1), tile = n >> 4, step = k >> 4;
        int address = TForm.BkContiguous
            ? ((int)lanes[8 * matrix + (n & 7)] ^ (step << 5)) + tile * 16 * TTile.BlockK * 2 + (k & 7) * 2
            : ((int)lanes[8 * matrix + (k & 7)] ^ (tile << 5)) + step * 16 * TTile.BlockN * 2 + (n & 7) * 2;
        return T.FromBits(*(ushort*)SharedBlock.Pointer(address, 2));
    }

    private static class Ptx
    {
        public static void Multiply(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            Type[] types = call.TypeArguments;
            string a = call.Operand(1), b = call.Operand(2), element = types[1] == typeof(BF16) ? "bf16" : "f16";
            bool aContiguous = Constant<bool>(types[2], nameof(IForm.AkContiguous)), bContiguous = Constant<bool>(types[2], nameof(IForm.BkContiguous));
            int blockM = Tile(types, nameof(ITile.BlockM)), blockN = Tile(types, nameof(ITile.BlockN)), blockK = Tile(types, nameof(ITile.BlockK));
            int tilesM = Tile(types, nameof(ITile.WarpM)) / 16, pairsN = Tile(types, nameof(ITile.WarpN)) / 16;
            string[] sums = call.Alias(0);
            StringBuilder text = new($"\t.reg .b32 a<{tilesM * 4}>, b<{pairsN * 4}>, t;\n");
            for (int step = 0; step < blockK / 16; step++)
            {
                for (int i = 0; i < tilesM; i++) LoadMatrices(text, "a", i, a, step, aContiguous, blockK, blockM);
                for (int j = 0; j < pairsN; j++) LoadMatrices(text, "b", j, b, step, bContiguous, blockK, blockN);
                for (int i = 0; i < tilesM; i++)
                    for (int j = 0; j < pairsN * 2; j++)
                    {
                        string d = string.Join(',', sums[((i * pairsN * 2 + j) * 4)..((i * pairsN * 2 + j) * 4 + 4)]);
                        text.Append($"\tmma.sync.aligned.m16n8k16.row.col.f32.{element}.{element}.f32 {{{d}}},")
                            .Append($"{{a{4 * i},a{4 * i + 1},a{4 * i + 2},a{4 * i + 3}}},{{b{2 * j},b{2 * j + 1}}},{{{d}}};\n");
                    }
            }
            call.Emit(text);
        }

        public static void Stage(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            string[] sums = call.Operands(0);
            string address = call.Operand(1);
            int stride = call.Constant(2), tilesN = Constant<int>(call.TypeArguments[1], nameof(ITile.WarpN)) / 8;
            StringBuilder text = new();
            for (int i = 0; i < sums.Length; i += 2)
                text.Append($"\tst.shared.v2.f32 [{address}+{StageOffset(tilesN, i / 4, i % 4 / 2, stride)}], {{{sums[i]},{sums[i + 1]}}};\n");
            call.Emit(text);
        }

        private static void LoadMatrices(StringBuilder text, string name, int tile, string lane, int step, bool contiguous, int blockK, int width)
        {
            int xor = (contiguous ? step : tile) << 5, offset = 32 * (contiguous ? tile * blockK : step * width);
            if (xor != 0) text.Append($"\txor.b32 t, {lane}, {xor};\n");
            text.Append($"\tldmatrix.sync.aligned.m8n8.x4{(contiguous ? "" : ".trans")}.shared.b16 ")
                .Append($"{{{name}{4 * tile},{name}{4 * tile + 1},{name}{4 * tile + 2},{name}{4 * tile + 3}}}, [{(xor != 0 ? "t" : lane)}+{offset}];\n");
        }

        private static int Tile(Type[] types, string name) => Constant<int>(types[3], name);

        private static TValue Constant<TValue>(Type type, string name) =>
            (TValue)type.GetProperty(name, BindingFlags.Static | BindingFlags.Public)!.GetValue(null)!;
    }
}
