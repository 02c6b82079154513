using System.Text;
using ILGPU;
using ILGPU.Backends.PTX;
using ILGPU.IR.Intrinsics;
using IrValue = ILGPU.IR.Value;

namespace BgeMetal.Kernels.Primitives;

/// <summary>One number for each of a lane's two rows of scores: row lane / 4, and the row 8 below.</summary>
internal struct RowPair
{
    /// <summary>Of row lane / 4.</summary>
    public float Upper;

    /// <summary>Of row lane / 4 + 8.</summary>
    public float Lower;

    /// <summary>The same number twice.</summary>
    public static RowPair All(float value) => new() { Upper = value, Lower = value };

    /// <summary>Row by row.</summary>
    public static RowPair operator +(RowPair x, RowPair y) => new() { Upper = x.Upper + y.Upper, Lower = x.Lower + y.Lower };

    /// <summary>Row by row.</summary>
    public static RowPair operator -(RowPair x, RowPair y) => new() { Upper = x.Upper - y.Upper, Lower = x.Lower - y.Lower };

    /// <summary>Row by row.</summary>
    public static RowPair operator *(RowPair x, RowPair y) => new() { Upper = x.Upper * y.Upper, Lower = x.Lower * y.Lower };

    /// <summary>Both rows times <paramref name="y"/>.</summary>
    public static RowPair operator *(RowPair x, float y) => new() { Upper = x.Upper * y, Lower = x.Lower * y };

    /// <summary>2 to the power of each.</summary>
    public readonly RowPair Exp2() => new() { Upper = DeviceMath.Exp2(Upper), Lower = DeviceMath.Exp2(Lower) };
}

/// <summary>
/// What softmax and its gradient do to sixteen rows of scores that a warp holds as <see cref="HeadMma"/> left them. Results of <c>x = F(x, ..)</c> live in the
/// operand's registers.
/// </summary>
internal static unsafe class ScoreRows
{
    /// <summary>Each row's largest score, or <paramref name="start"/> if that is larger; the same in all four lanes of a row.</summary>
    [IntrinsicImplementation]
    public static RowPair Max<TScores>(TScores scores, RowPair start) where TScores : unmanaged, IAccumulator
    {
        Span<float> s = Accumulators.Fields(ref scores);
        float upper = start.Upper, lower = start.Lower;
        for (int i = 0; i < s.Length; i++)
            if ((i & 2) == 0) upper = float.MaxNumber(upper, s[i]);
            else lower = float.MaxNumber(lower, s[i]);
        ReadOnlySpan<long> mail = EmulatedWarp.Current.Exchange(BitConverter.SingleToInt32Bits(upper), BitConverter.SingleToInt32Bits(lower));
        for (int lane = Warp.LaneIdx & ~3, i = 0; i < 4; i++)
        {
            upper = float.MaxNumber(upper, BitConverter.Int32BitsToSingle((int)mail[lane + i]));
            lower = float.MaxNumber(lower, BitConverter.Int32BitsToSingle((int)mail[32 + lane + i]));
        }
        return new() { Upper = upper, Lower = lower };
    }

    /// <summary>The sum of this lane's scores of each row, as a balanced tree.</summary>
    [IntrinsicImplementation]
    public static RowPair Sum<TScores>(TScores scores) where TScores : unmanaged, IAccumulator
    {
        Span<float> s = Accumulators.Fields(ref scores);
        for (int distance = 1; distance < s.Length; distance = distance == 1 ? 4 : 2 * distance)
            for (int i = 0; i + distance < s.Length; i += distance == 1 ? 2 : 2 * distance)
            {
                s[i] += s[i + distance];
                if (distance > 1) s[i + 2] += s[i + 2 + distance];
            }
        return new() { Upper = s[0], Lower = s[2] };
    }

    /// <summary>2^(score * factor + offset of its row), in place.</summary>
    [IntrinsicImplementation]
    public static TScores Exponentials<TScores>(TScores scores, float factor, RowPair offset) where TScores : unmanaged, IAccumulator
    {
        Span<float> s = Accumulators.Fields(ref scores);
        for (int i = 0; i < s.Length; i++) s[i] = DeviceMath.Exp2(MathF.FusedMultiplyAdd(s[i], factor, (i & 2) == 0 ? offset.Upper : offset.Lower));
        return scores;
    }

    /// <summary>
    /// 2^(score * factor - log2(e) * number of its column), in place: the numbers lie in shared memory in the order of columns;
    /// <paramref name="address"/> is that of column 2 (lane % 4).
    /// </summary>
    [IntrinsicImplementation]
    public static TScores ExponentialsByColumn<TScores>(TScores scores, float factor, int address) where TScores : unmanaged, IAccumulator
    {
        Span<float> s = Accumulators.Fields(ref scores);
        for (int i = 0; i < s.Length; i++) s[i] = DeviceMath.Exp2(MathF.FusedMultiplyAdd(s[i], factor, Column(address, i) * -DeviceMath.Log2E));
        return scores;
    }

    /// <summary>The gradient of scores from that of their probabilities, weight * (gradient - number of its row), in place.</summary>
    [IntrinsicImplementation]
    public static TScores Gradient<TScores>(TScores gradient, TScores weights, RowPair number) where TScores : unmanaged, IAccumulator
    {
        Span<float> g = Accumulators.Fields(ref gradient), w = Accumulators.Fields(ref weights);
        for (int i = 0; i < g.Length; i++) g[i] = (g[i] - ((i & 2) == 0 ? number.Upper : number.Lower)) * w[i];
        return gradient;
    }

    /// <summary>The same with a number for each column, as in <see cref="ExponentialsByColumn"/>.</summary>
    [IntrinsicImplementation]
    public static TScores GradientByColumn<TScores>(TScores gradient, TScores weights, int address) where TScores : unmanaged, IAccumulator
    {
        Span<float> g = Accumulators.Fields(ref gradient), w = Accumulators.Fields(ref weights);
        for (int i = 0; i < g.Length; i++) g[i] = (g[i] - Column(address, i)) * w[i];
        return gradient;
    }

    /// <summary>The same of what dropout left of a gradient: weight * (gradient * scale - number of its row).</summary>
    [IntrinsicImplementation]
    public static TScores ScaledGradient<TScores>(TScores gradient, TScores weights, float scale, RowPair number) where TScores : unmanaged, IAccumulator
    {
        Span<float> g = Accumulators.Fields(ref gradient), w = Accumulators.Fields(ref weights);
        for (int i = 0; i < g.Length; i++) g[i] = MathF.FusedMultiplyAdd(g[i], scale, -((i & 2) == 0 ? number.Upper : number.Lower)) * w[i];
        return gradient;
    }

    /// <summary>The same with a number for each column.</summary>
    [IntrinsicImplementation]
    public static TScores ScaledGradientByColumn<TScores>(TScores gradient, TScores weights, float scale, int address) where TScores : unmanaged, IAccumulator
    {
        Span<float> g = Accumulators.Fields(ref gradient), w = Accumulators.Fields(ref weights);
        for (int i = 0; i < g.Length; i++) g[i] = MathF.FusedMultiplyAdd(g[i], scale, -Column(address, i)) * w[i];
        return gradient;
    }

    /// <summary>Every number times its row's factor, in place.</summary>
    [IntrinsicImplementation]
    public static TAcc Scale<TAcc>(TAcc values, RowPair factor) where TAcc : unmanaged, IAccumulator
    {
        Span<float> v = Accumulators.Fields(ref values);
        for (int i = 0; i < v.Length; i++) v[i] *= (i & 2) == 0 ? factor.Upper : factor.Lower;
        return values;
    }

    /// <summary>The same if <paramref name="condition"/>, which must be equal in all lanes, is not 0; otherwise the instructions are jumped over. A branch of the kernel's own would cost moves.</summary>
    [IntrinsicImplementation]
    public static TAcc ScaleIf<TAcc>(TAcc values, RowPair factor, int condition) where TAcc : unmanaged, IAccumulator => condition != 0 ? Scale(values, factor) : values;

    /// <summary>Overwrites the scores whose bit is 0 with <paramref name="otherwise"/>, in place.</summary>
    [IntrinsicImplementation]
    public static TScores Select<TScores>(TScores scores, ScoreBits bits, float otherwise) where TScores : unmanaged, IAccumulator
    {
        Span<float> s = Accumulators.Fields(ref scores);
        for (int i = 0; i < s.Length; i++) s[i] = bits[i] ? s[i] : otherwise;
        return scores;
    }

    /// <summary>Multiplies the scores whose bit is 1 with <paramref name="scale"/> and makes the others 0, in place.</summary>
    [IntrinsicImplementation]
    public static TScores Keep<TScores>(TScores scores, ScoreBits bits, float scale) where TScores : unmanaged, IAccumulator
    {
        Span<float> s = Accumulators.Fields(ref scores);
        for (int i = 0; i < s.Length; i++) s[i] = bits[i] ? s[i] * scale : 0;
        return scores;
    }

    private static float Column(int address, int field) => ((float*)SharedBlock.Pointer(address + (field >> 2) * 32, 8))[field & 1];

    private static class Ptx
    {
        public static void Max(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            string[] s = call.Operands(0), start = call.Operands(1), result = call.Results();
            StringBuilder text = new($"\t.reg .f32 m<{s.Length}>, t;\n");
            Tree(text, s, "max", result);
            for (int row = 0; row < 2; row++)
            {
                for (int distance = 1; distance <= 2; distance++)
                    text.Append($"\tshfl.sync.bfly.b32 t, {result[row]}, {distance}, 31, 0xffffffff; max.f32 {result[row]}, {result[row]}, t;\n");
                text.Append($"\tmax.f32 {result[row]}, {result[row]}, {start[row]};\n");
            }
            call.Emit(text);
        }

        public static void Sum(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            string[] s = call.Operands(0), result = call.Results();
            StringBuilder text = new($"\t.reg .f32 m<{s.Length}>;\n");
            Tree(text, s, "add", result);
            call.Emit(text);
        }

        public static void Exponentials(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            string factor = call.Operand(1);
            string[] offset = call.Operands(2);
            Each(call, (s, i) => $"\tfma.rn.f32 {s}, {s}, {factor}, {offset[Row(i)]}; ex2.approx.ftz.f32 {s}, {s};\n");
        }

        public static void ExponentialsByColumn(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            string factor = call.Operand(1), address = call.Operand(2);
            Each(call, (s, i) => (i % 4 != 0 ? "" : $"\tld.shared.v2.f32 {{c0,c1}}, [{address}+{i * 8}]; mul.f32 c0, c0, 0fBFB8AA3B; mul.f32 c1, c1, 0fBFB8AA3B;\n")
                + $"\tfma.rn.f32 {s}, {s}, {factor}, c{i & 1}; ex2.approx.ftz.f32 {s}, {s};\n");
        }

        public static void Gradient(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            string[] weights = call.Operands(1), number = call.Operands(2);
            Each(call, (s, i) => $"\tsub.f32 {s}, {s}, {number[Row(i)]}; mul.f32 {s}, {s}, {weights[i]};\n");
        }

        public static void GradientByColumn(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            string[] weights = call.Operands(1);
            string address = call.Operand(2);
            Each(call, (s, i) => (i % 4 != 0 ? "" : $"\tld.shared.v2.f32 {{c0,c1}}, [{address}+{i * 8}];\n") + $"\tsub.f32 {s}, {s}, c{i & 1}; mul.f32 {s}, {s}, {weights[i]};\n");
        }

        public static void ScaledGradient(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            string[] weights = call.Operands(1), number = call.Operands(3);
            string scale = call.Operand(2);
            Each(call, (s, i) => $"\tneg.f32 c0, {number[Row(i)]}; fma.rn.f32 {s}, {s}, {scale}, c0; mul.f32 {s}, {s}, {weights[i]};\n");
        }

        public static void ScaledGradientByColumn(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            string[] weights = call.Operands(1);
            string scale = call.Operand(2), address = call.Operand(3);
            Each(call, (s, i) => (i % 4 != 0 ? "" : $"\tld.shared.v2.f32 {{c0,c1}}, [{address}+{i * 8}]; neg.f32 c0, c0; neg.f32 c1, c1;\n")
                + $"\tfma.rn.f32 {s}, {s}, {scale}, c{i & 1}; mul.f32 {s}, {s}, {weights[i]};\n");
        }

        public static void Scale(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            string[] factor = call.Operands(1);
            Each(call, (s, i) => $"\tmul.f32 {s}, {s}, {factor[Row(i)]};\n");
        }

        public static void ScaleIf(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            string[] factor = call.Operands(1);
            string condition = call.Operand(2), label = $"kept{call.UniqueSuffix}";
            string[] v = call.Alias(0);
            StringBuilder text = new($"\t.reg .pred p;\n\tsetp.eq.s32 p, {condition}, 0;\n\t@p bra {label};\n");
            for (int i = 0; i < v.Length; i++) text.Append($"\tmul.f32 {v[i]}, {v[i]}, {factor[Row(i)]};\n");
            call.Emit(text.Append($"{label}:\n"));
        }

        public static void Select(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            string[] bits = call.Operands(1);
            string otherwise = call.Operand(2);
            Each(call, (s, i) => Test(bits, i) + $"selp.f32 {s}, {s}, {otherwise}, p;\n");
        }

        public static void Keep(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            string[] bits = call.Operands(1);
            string scale = call.Operand(2);
            Each(call, (s, i) => Test(bits, i) + $"mul.f32 {s}, {s}, {scale}; selp.f32 {s}, {s}, 0f00000000, p;\n");
        }

        private static void Each(PtxCall call, Func<string, int, string> instructions)
        {
            string[] s = call.Alias(0);
            StringBuilder text = new("\t.reg .b32 w; .reg .pred p; .reg .f32 c<2>;\n");
            for (int i = 0; i < s.Length; i++) text.Append(instructions(s[i], i));
            call.Emit(text);
        }

        private static string Test(string[] bits, int field) =>
            $"\tand.b32 w, {bits[ScoreBits.WordOf(field)]}, {1 << ScoreBits.PlaceOf(field)}; setp.ne.s32 p, w, 0; ";

        private static int Row(int field) => field >> 1 & 1;

        // Neighbouring columns first, then pairs of tiles; m holds what is not final.
        private static void Tree(StringBuilder text, string[] s, string operation, string[] result)
        {
            for (int i = 0; i < s.Length; i += 2) text.Append($"\t{operation}.f32 m{i}, {s[i]}, {s[i + 1]};\n");
            for (int distance = 4; distance < s.Length; distance *= 2)
                for (int i = 0; i + distance < s.Length; i += 2 * distance)
                    text.Append($"\t{operation}.f32 m{i}, m{i}, m{i + distance}; {operation}.f32 m{i + 2}, m{i + 2}, m{i + 2 + distance};\n");
            text.Append($"\tmov.f32 {result[0]}, m0; mov.f32 {result[1]}, m2;\n");
        }
    }
}
