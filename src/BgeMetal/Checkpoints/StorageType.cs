namespace BgeMetal.Checkpoints;

/// <summary>The element types of the safetensors format, by their names there, and which of them can be read as floats.</summary>
internal static class StorageType
{
    internal const string F32 = "F32", F16 = "F16", BF16 = "BF16", F64 = "F64", I64 = "I64", I32 = "I32", I16 = "I16", I8 = "I8", U8 = "U8", Bool = "BOOL";

    /// <summary>Bits of one element, or 0 for a name that is no element type.</summary>
    internal static int Bits(string name) => name switch
    {
        "C64" or F64 or I64 or "U64" => 64,
        F32 or I32 or "U32" => 32,
        F16 or BF16 or I16 or "U16" => 16,
        U8 or I8 or Bool or "F8_E4M3" or "F8_E5M2" or "F8_E8M0" or "F8_E4M3FNUZ" or "F8_E5M2FNUZ" => 8,
        "F6_E2M3" or "F6_E3M2" => 6,
        "F4" => 4,
        _ => 0,
    };

    /// <summary>Whether <see cref="TensorSource.ReadFloats"/> accepts it.</summary>
    internal static bool IsFloat(string name) => name is F32 or F16 or BF16;
}
