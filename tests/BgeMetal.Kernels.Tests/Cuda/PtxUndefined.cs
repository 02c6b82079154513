namespace BgeMetal.Kernels.Tests.Cuda;

/// <summary>What an instruction makes of values that nobody wrote. Bit i of a mask says that 16 bits number i of a register are such.</summary>
internal static class PtxUndefined
{
    /// <summary>Nothing in a register was written.</summary>
    public const byte All = 15;

    /// <summary>The mask of the result of an instruction that makes one value of others.</summary>
    public static byte Of(PtxInstruction instruction, ulong[] values, ReadOnlySpan<byte> masks)
    {
        byte any = 0;
        foreach (byte mask in masks) any |= mask;
        if (any == 0) return 0;
        int lanes = values.Length > 1 ? (int)values[1] / 16 : 0;
        return instruction.Operation[0] switch
        {
            // A zero that was written hides what it meets.
            "and" => (byte)(any & ~Hidden(values[0], masks[0]) & ~Hidden(values[1], masks[1])),
            "or" or "xor" or "not" => any,
            "shl" when masks[1] == 0 && values[1] % 16 == 0 => (byte)(masks[0] << lanes & All),
            "shr" when masks[1] == 0 && values[1] % 16 == 0 && instruction.Type[0] != 's' => (byte)(Width(instruction, masks[0]) >> lanes),
            _ => All,
        };
    }

    /// <summary>The part of a mask that belongs to the operand's type.</summary>
    public static byte Width(PtxInstruction instruction, byte mask) => (byte)(mask & ((1 << (PtxArithmetic.Bits(instruction.Type) / 16)) - 1));

    private static int Hidden(ulong value, byte mask)
    {
        int zeros = 0;
        for (int i = 0; i < 4; i++)
            if ((value >> (16 * i) & 0xffff) == 0) zeros |= 1 << i;
        return zeros & ~mask;
    }
}
