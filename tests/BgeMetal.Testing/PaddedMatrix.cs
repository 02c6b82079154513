using BgeMetal.Kernels.Cpu;

namespace BgeMetal.Testing;

/// <summary>
/// A row-major float matrix in native memory as kernels see it: rows a stride apart, every float NaN until it is set, and a guard row behind the last, so
/// that reads of padding show up as NaN in results and writes to it show up in <see cref="AssertPaddingUntouched"/>.
/// </summary>
public sealed unsafe class PaddedMatrix : IDisposable
{
    private readonly NativeBuffer _buffer;

    /// <summary>A matrix of NaN.</summary>
    public PaddedMatrix(int rows, int columns, int padding = 5)
    {
        (Rows, Columns, Stride) = (rows, columns, columns + padding);
        _buffer = NativeBuffer.OfFloats((long)(rows + 1) * Stride);
        new Span<float>(_buffer.Floats, (rows + 1) * Stride).Fill(float.NaN);
    }

    /// <summary>A matrix with the given content.</summary>
    public PaddedMatrix(ReadOnlySpan<double> values, int rows, int columns, int padding = 5) : this(rows, columns, padding)
    {
        Assert.Equal(rows * columns, values.Length);
        for (int r = 0; r < rows; r++)
            for (int c = 0; c < columns; c++)
                Data[(r * Stride) + c] = (float)values[(r * columns) + c];
    }

    public int Rows { get; }

    public int Columns { get; }

    /// <summary>Floats between rows.</summary>
    public int Stride { get; }

    public float* Data => _buffer.Floats;

    /// <summary>The content without padding.</summary>
    public float[] ToArray()
    {
        float[] values = new float[Rows * Columns];
        for (int r = 0; r < Rows; r++) new Span<float>(Data + (r * Stride), Columns).CopyTo(values.AsSpan(r * Columns));
        return values;
    }

    /// <summary>Sets every element to NaN again.</summary>
    public void Poison() => new Span<float>(Data, (Rows + 1) * Stride).Fill(float.NaN);

    /// <summary>Fails if anything behind the columns of a row, or behind the last row, was written.</summary>
    public void AssertPaddingUntouched()
    {
        for (int r = 0; r <= Rows; r++)
            for (int c = r == Rows ? 0 : Columns; c < Stride; c++)
                Assert.True(float.IsNaN(Data[(r * Stride) + c]), $"row {r}, column {c} lies outside the matrix and was written");
    }

    public void Dispose() => _buffer.Dispose();
}
