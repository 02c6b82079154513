namespace BgeMetal.Kernels.Tests.Cuda;

/// <summary>The instructions that make one value of others, on raw register contents.</summary>
internal static class PtxArithmetic
{
    /// <summary>The size of a type such as s32, f16x2 or bf16.</summary>
    public static int Bits(string type) => type switch
    {
        "b16" or "u16" or "s16" or "f16" or "bf16" => 16,
        "b32" or "u32" or "s32" or "f32" => 32,
        "b64" or "u64" or "s64" => 64,
        _ => throw new NotSupportedException(type),
    };

    public static bool Compare(string relation, string type, ulong x, ulong y)
    {
        if (type == "f32")
        {
            float a = Float(x), b = Float(y);
            return relation switch
            {
                "eq" => a == b,
                "ne" => a < b || a > b,
                "lt" => a < b,
                "le" => a <= b,
                "gt" => a > b,
                "ge" => a >= b,
                "equ" => a == b || float.IsNaN(a) || float.IsNaN(b),
                "neu" => a != b,
                "ltu" => !(a >= b),
                "leu" => !(a > b),
                "gtu" => !(a <= b),
                "geu" => !(a < b),
                _ => throw new NotSupportedException(relation),
            };
        }
        bool wide = Bits(type) == 64;
        int order = type[0] == 's' ? (wide ? (long)x : (int)x).CompareTo(wide ? (long)y : (int)y) : (wide ? x : (uint)x).CompareTo(wide ? y : (uint)y);
        return relation switch
        {
            "eq" => order == 0,
            "ne" => order != 0,
            "lt" or "lo" => order < 0,
            "le" or "ls" => order <= 0,
            "gt" or "hi" => order > 0,
            "ge" or "hs" => order >= 0,
            _ => throw new NotSupportedException(relation),
        };
    }

    public static ulong Compute(PtxInstruction instruction, ulong[] s)
    {
        string type = instruction.Type, name = instruction.Operation[0];
        if (name == "cvt") return Convert(instruction, s);
        if (name == "cvta") return s[0];
        if (type == "f32") return BitConverter.SingleToUInt32Bits(OnFloats(name, s));
        if (type == "pred") return OnPredicates(name, s);
        bool wide = Bits(type) == 64, signed = type[0] == 's';
        if (name == "mul" && instruction.Operation[1] == "wide") return signed ? (ulong)((long)(int)s[0] * (int)s[1]) : (ulong)(uint)s[0] * (uint)s[1];
        ulong result = name switch
        {
            "add" => s[0] + s[1],
            "sub" => s[0] - s[1],
            "mul" => s[0] * s[1],
            "mad" => (s[0] * s[1]) + s[2],
            "and" => s[0] & s[1],
            "or" => s[0] | s[1],
            "xor" => s[0] ^ s[1],
            "not" => ~s[0],
            "neg" => 0 - s[0],
            "popc" => ulong.PopCount(s[0]),
            "shl" => (int)s[1] >= Bits(type) ? 0 : s[0] << (int)s[1],
            "shr" => signed ? (ulong)((wide ? (long)s[0] : (int)s[0]) >> (int)s[1]) : (wide ? s[0] : (uint)s[0]) >> (int)s[1],
            "min" => Compare("lt", type, s[0], s[1]) ? s[0] : s[1],
            "max" => Compare("gt", type, s[0], s[1]) ? s[0] : s[1],
            "div" when !signed => (wide ? s[0] : (uint)s[0]) / (wide ? s[1] : (uint)s[1]),
            _ => throw new NotSupportedException(instruction.Text),
        };
        return wide ? result : (uint)result;
    }

    private static float OnFloats(string name, ulong[] s)
    {
        float x = Float(s[0]), y = s.Length > 1 ? Float(s[1]) : 0;
        return name switch
        {
            "add" => x + y,
            "sub" => x - y,
            "mul" => x * y,
            "fma" => MathF.FusedMultiplyAdd(x, y, Float(s[2])),
            "min" => float.MinNumber(x, y),
            "max" => float.MaxNumber(x, y),
            "abs" => MathF.Abs(x),
            "neg" => -x,
            "copysign" => MathF.CopySign(y, x),
            "ex2" => MathF.Pow(2, x),
            "lg2" => MathF.Log2(x),
            "rsqrt" => 1 / MathF.Sqrt(x),
            "sqrt" => MathF.Sqrt(x),
            "rcp" => 1 / x,
            _ => throw new NotSupportedException(name),
        };
    }

    private static ulong OnPredicates(string name, ulong[] s) => name switch
    {
        "and" => s[0] & s[1],
        "or" => s[0] | s[1],
        "xor" => s[0] ^ s[1],
        "not" => s[0] ^ 1,
        _ => throw new NotSupportedException(name),
    };

    private static ulong Convert(PtxInstruction instruction, ulong[] s)
    {
        string to = instruction.Operation[^2], from = instruction.Type;
        return (to, from) switch
        {
            ("s64", "s32") => (ulong)(long)(int)s[0],
            ("u64" or "s64", "u32") => (uint)s[0],
            ("s32" or "u32", "s64" or "u64") => (uint)s[0],
            ("f32", "s32") => BitConverter.SingleToUInt32Bits((int)s[0]),
            ("f32", "u32") => BitConverter.SingleToUInt32Bits((uint)s[0]),
            ("f32", "f16") => BitConverter.SingleToUInt32Bits(FP16.FromBits((uint)s[0] & 0xffff)),
            ("f16", "f32") => FP16.ToBits(Float(s[0])),
            ("bf16", "f32") => BF16.ToBits(Float(s[0])),
            // The first source becomes the upper half.
            ("f16x2", "f32") => (FP16.ToBits(Float(s[0])) << 16) | FP16.ToBits(Float(s[1])),
            ("bf16x2", "f32") => (BF16.ToBits(Float(s[0])) << 16) | BF16.ToBits(Float(s[1])),
            _ => throw new NotSupportedException(instruction.Text),
        };
    }

    public static float Float(ulong bits) => BitConverter.UInt32BitsToSingle((uint)bits);
}
