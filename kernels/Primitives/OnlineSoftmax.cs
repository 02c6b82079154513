using System.Globalization;
using System.Reflection;
using System.Text;
using ILGPU.Backends.PTX;
using ILGPU.IR.Intrinsics;
using IrValue = ILGPU.IR.Value;

namespace BgeMetal.Kernels.Primitives;

/// <summary>Where one lane's accumulators lie in a tile of scores: rows as slots of the lane, columns counted from the lane's first.</summary>
internal interface IScoreLayout
{
    /// <summary>The slot of accumulator <paramref name="index"/>'s row, at most 7.</summary>
    static abstract int Slot(int index);

    /// <summary>The column of accumulator <paramref name="index"/>.</summary>
    static abstract int Column(int index);

    /// <summary>The row of a slot, counted from the lane's first.</summary>
    static abstract int Row(int slot);
}

/// <summary>The accumulators of <see cref="WarpMma"/>.</summary>
internal readonly struct FragmentLayout<TTile> : IScoreLayout where TTile : struct, ITile
{
    public static int Slot(int index) => index / (TTile.WarpN / 2) * 2 + index % 4 / 2;

    public static int Column(int index) => index / 4 % (TTile.WarpN / 8) * 8 + index % 2;

    public static int Row(int slot) => slot / 2 * 16 + slot % 2 * 8;
}

/// <summary>The accumulators of <see cref="ThreadMma"/>.</summary>
internal readonly struct ThreadLayout : IScoreLayout
{
    public static int Slot(int index) => index / 8;

    public static int Column(int index) => (index & 3) + ((index >> 2 & 1) << 6);

    public static int Row(int slot) => (slot & 3) + ((slot >> 2) << 6);
}

/// <summary>
/// The online softmax (Milakov and Gimelshein, arXiv:1805.02867) of rows of scores that pass through a lane's accumulators tile by tile. Every lane keeps the largest score and
/// the sum of exponentials of the columns that it sees, eight slots of either; lanes that share a row meet only at the end. Not a shuffle and no shared
/// memory until then.
/// </summary>
internal static unsafe class OnlineSoftmax
{
    // Below every score, and finite: the difference of two of them is 0 and not NaN.
    private const float Lowest = -1e30f;

    /// <summary>Before the first tile: eight largest scores, then eight sums.</summary>
    [IntrinsicImplementation]
    public static Accumulator16 Start()
    {
        Accumulator16 state = default;
        Accumulators.Fields(ref state)[..8].Fill(Lowest);
        return state;
    }

    /// <summary>Replaces scores in columns from <paramref name="columns"/> on by -infinity. Use as <c>scores = Mask(scores, ..)</c>.</summary>
    [IntrinsicImplementation]
    public static TAcc Mask<TAcc, TLayout>(TAcc scores, int columns) where TAcc : unmanaged, IAccumulator where TLayout : struct, IScoreLayout
    {
        Span<float> values = Accumulators.Fields(ref scores);
        for (int i = 0; i < values.Length; i++)
            if (TLayout.Column(i) >= columns) values[i] = float.NegativeInfinity;
        return scores;
    }

    /// <summary>
    /// Takes in a tile of scores; exponentials are 2^(<paramref name="scale"/> * score), the scale positive. A NaN stays in the sum. Use as
    /// <c>state = Update(state, ..)</c>.
    /// </summary>
    [IntrinsicImplementation]
    public static Accumulator16 Update<TAcc, TLayout>(Accumulator16 state, TAcc scores, float scale)
        where TAcc : unmanaged, IAccumulator where TLayout : struct, IScoreLayout
    {
        Span<float> fields = Accumulators.Fields(ref state), values = Accumulators.Fields(ref scores);
        for (int slot = 0; slot < 8; slot++)
        {
            float max = fields[slot], sum = 0;
            for (int i = 0; i < values.Length; i++)
                if (TLayout.Slot(i) == slot) max = float.MaxNumber(max, values[i]);
            for (int i = 0; i < values.Length; i++)
                if (TLayout.Slot(i) == slot) sum += MathF.Pow(2, MathF.FusedMultiplyAdd(values[i], scale, -(max * scale)));
            fields[8 + slot] = MathF.FusedMultiplyAdd(fields[8 + slot], MathF.Pow(2, (fields[slot] - max) * scale), sum);
            fields[slot] = max;
        }
        return state;
    }

    /// <summary>
    /// Writes the pairs (largest score, sum) to shared memory: that of slot s at <paramref name="address"/> + Row(s) * <paramref name="rowBytes"/>, a
    /// compile-time constant; only slots that <typeparamref name="TAcc"/> has.
    /// </summary>
    [IntrinsicImplementation]
    public static void Stage<TAcc, TLayout>(Accumulator16 state, int address, int rowBytes) where TAcc : unmanaged, IAccumulator where TLayout : struct, IScoreLayout
    {
        Span<float> fields = Accumulators.Fields(ref state);
        for (int slot = 0; slot <= TLayout.Slot(sizeof(TAcc) / sizeof(float) - 1); slot++)
        {
            float* pair = (float*)SharedBlock.Pointer(address + TLayout.Row(slot) * rowBytes, 8);
            (pair[0], pair[1]) = (fields[slot], fields[8 + slot]);
        }
    }

    /// <summary>
    /// Puts the state aside in shared memory, four pieces of 16 bytes from <paramref name="address"/> on that lie <paramref name="pieceBytes"/> (a compile-time
    /// constant) apart, where registers are short while scores are computed.
    /// </summary>
    [IntrinsicImplementation]
    public static void Save(Accumulator16 state, int address, int pieceBytes)
    {
        Span<float> fields = Accumulators.Fields(ref state);
        for (int i = 0; i < 16; i++) ((float*)SharedBlock.Pointer(address + i / 4 * pieceBytes, 16))[i % 4] = fields[i];
    }

    /// <summary>Takes the state back.</summary>
    [IntrinsicImplementation]
    public static Accumulator16 Restore(int address, int pieceBytes)
    {
        Accumulator16 state = default;
        Span<float> fields = Accumulators.Fields(ref state);
        for (int i = 0; i < 16; i++) fields[i] = ((float*)SharedBlock.Pointer(address + i / 4 * pieceBytes, 16))[i % 4];
        return state;
    }

    private static class Ptx
    {
        public static void Start(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            string[] state = call.Results();
            StringBuilder text = new();
            for (int i = 0; i < 16; i++)
                text.Append(CultureInfo.InvariantCulture, $"\tmov.f32 {state[i]}, 0f{BitConverter.SingleToUInt32Bits(i < 8 ? Lowest : 0):x8};\n");
            call.Emit(text);
        }

        public static void Mask(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            string columns = call.Operand(1);
            string[] scores = call.Alias(0);
            StringBuilder text = new("\t.reg .pred p; .reg .f32 low;\n\tmov.f32 low, 0fff800000;\n");
            foreach (IGrouping<int, int> column in Enumerable.Range(0, scores.Length).GroupBy(i => Place(call, nameof(IScoreLayout.Column), i)))
            {
                text.Append(CultureInfo.InvariantCulture, $"\tsetp.le.s32 p, {columns}, {column.Key};\n");
                foreach (int i in column) text.Append(CultureInfo.InvariantCulture, $"\tselp.f32 {scores[i]}, low, {scores[i]}, p;\n");
            }
            call.Emit(text);
        }

        public static void Update(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            string[] scores = call.Operands(1);
            string scale = call.Operand(2);
            string[] state = call.Alias(0);
            StringBuilder text = new("\t.reg .f32 m, n, s, e;\n");
            foreach (IGrouping<int, int> row in Enumerable.Range(0, scores.Length).GroupBy(i => Place(call, nameof(IScoreLayout.Slot), i)))
            {
                (string max, string sum) = (state[row.Key], state[8 + row.Key]);
                text.Append($"\tmov.f32 m, {max};\n");
                foreach (int i in row) text.Append($"\tmax.f32 m, m, {scores[i]};\n");
                text.Append($"\tmul.f32 n, m, {scale};\n\tneg.f32 n, n;\n\tmov.f32 s, 0f00000000;\n");
                foreach (int i in row) text.Append($"\tfma.rn.f32 e, {scores[i]}, {scale}, n; ex2.approx.ftz.f32 e, e; add.f32 s, s, e;\n");
                text.Append($"\tsub.f32 e, {max}, m; mul.f32 e, e, {scale}; ex2.approx.ftz.f32 e, e;\n")
                    .Append($"\tfma.rn.f32 {sum}, {sum}, e, s; mov.f32 {max}, m;\n");
            }
            call.Emit(text);
        }

        public static void Stage(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            string[] state = call.Operands(0);
            string address = call.Operand(1);
            int rowBytes = call.Constant(2), count = call.TypeArguments[0].GetFields().Length;
            StringBuilder text = new();
            for (int slot = 0; slot <= Place(call, nameof(IScoreLayout.Slot), count - 1); slot++)
                text.Append($"\tst.shared.v2.f32 [{address}+{Place(call, nameof(IScoreLayout.Row), slot) * rowBytes}], {{{state[slot]},{state[8 + slot]}}};\n");
            call.Emit(text);
        }

        public static void Save(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            string[] state = call.Operands(0);
            string address = call.Operand(1);
            StringBuilder text = new();
            for (int i = 0; i < 4; i++) text.Append($"\tst.shared.v4.f32 [{address}+{i * call.Constant(2)}], {{{string.Join(',', state[(4 * i)..(4 * i + 4)])}}};\n");
            call.Emit(text);
        }

        public static void Restore(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            string address = call.Operand(0);
            string[] state = call.Results();
            StringBuilder text = new();
            for (int i = 0; i < 4; i++) text.Append($"\tld.shared.v4.f32 {{{string.Join(',', state[(4 * i)..(4 * i + 4)])}}}, [{address}+{i * call.Constant(1)}];\n");
            call.Emit(text);
        }

        private static int Place(PtxCall call, string function, int argument) =>
            (int)call.TypeArguments[1].GetMethod(function, BindingFlags.Static | BindingFlags.Public)!.Invoke(null, [argument])!;
    }
}
