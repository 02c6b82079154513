namespace BgeMetal.Retrieval;

/// <summary>Vectors in memory, mapped or not, that somebody else holds.</summary>
/// <param name="Rows">[Count, dimensions].</param>
/// <param name="Stride">Floats from one row to the next.</param>
/// <param name="Count">Rows.</param>
internal readonly unsafe record struct VectorTable(nint Rows, int Stride, long Count)
{
    /// <summary>The first value of a row.</summary>
    public float* At(long row) => (float*)Rows + (row * Stride);
}
