namespace BgeMetal.Kernels;

/// <summary>How one element is stored. Arithmetic is always done in 32-bit floating point.</summary>
public enum DType
{
    /// <summary>IEEE 754 binary32, 4 bytes.</summary>
    Float32,

    /// <summary>bfloat16: the upper half of a binary32, 2 bytes.</summary>
    BFloat16,

    /// <summary>IEEE 754 binary16, 2 bytes.</summary>
    Float16,

    /// <summary>32-bit signed integer: token ids, sequence offsets.</summary>
    Int32,
}

/// <summary>Sizes of the storage types.</summary>
public static class DTypes
{
    extension(DType dtype)
    {
        /// <summary>Bytes of one element.</summary>
        public int SizeBytes => dtype is DType.BFloat16 or DType.Float16 ? 2 : 4;
    }
}
