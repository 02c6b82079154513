namespace BgeMetal.Checkpoints;

/// <summary>One tensor of a checkpoint: what it is called, how it is stored and in which file. Its values are read through the source it came from.</summary>
/// <param name="Name">The name in the state dict; the source that lists the entry knows it by this name.</param>
/// <param name="StorageType">A name of <see cref="Checkpoints.StorageType"/>: F32, F16, BF16, I64, ...</param>
/// <param name="Shape">Extents, outermost first; empty for a scalar. Not to be changed.</param>
/// <param name="Elements">The product of the extents, known not to overflow.</param>
/// <param name="File">The file that holds the values, for messages.</param>
internal readonly record struct TensorEntry(string Name, string StorageType, long[] Shape, long Elements, string File)
{
    /// <summary>Whether the values can be read as floats.</summary>
    internal bool IsFloat => Checkpoints.StorageType.IsFloat(StorageType);

    /// <summary>The product of non-negative extents, or -1 when one is negative or the product exceeds 2^63 - 1.</summary>
    internal static long CountElements(ReadOnlySpan<long> shape)
    {
        long count = 1;
        bool empty = false, overflow = false;
        foreach (long extent in shape)
        {
            if (extent < 0) return -1;
            if (extent == 0) empty = true;
            else if (count > long.MaxValue / extent) overflow = true;
            else count *= extent;
        }
        return empty ? 0 : overflow ? -1 : count;
    }
}
