namespace BgeMetal.Data;

/// <summary>
/// NumPy's file format (NEP 1) for float32 matrices: version 1.0, little-endian, row-major, [rows, columns], with the header bytes that numpy.save writes.
/// Reading also takes format versions 2.0 and 3.0, which differ in the header's length field only.
/// </summary>
public static class NpyFile
{
    /// <summary>Starts a file whose rows are written one after another; the number of rows need not be known. See <see cref="NpyWriter"/>.</summary>
    /// <exception cref="BgeMetalException">The file cannot be created.</exception>
    public static NpyWriter Create(string path, int columns) => new(path, columns);

    /// <summary>Writes a whole matrix, row-major [values.Length / columns, columns].</summary>
    /// <exception cref="ArgumentException">The values are no whole number of rows.</exception>
    /// <exception cref="BgeMetalException">The file cannot be written; what was there before is then unchanged.</exception>
    public static void Write(string path, ReadOnlySpan<float> values, int columns)
    {
        using NpyWriter writer = Create(path, columns);
        writer.WriteRows(values);
        writer.Commit();
    }

    /// <summary>Opens a file to read its rows piece by piece.</summary>
    /// <exception cref="BgeMetalException">The file is missing, truncated, no .npy file, or not a float32 matrix.</exception>
    public static NpyReader Open(string path) => NpyReader.Open(path);

    /// <summary>Reads a whole matrix into memory, row-major.</summary>
    /// <exception cref="BgeMetalException">As <see cref="Open"/>; also when there are more values than one array can hold.</exception>
    public static NpyMatrix Read(string path)
    {
        using NpyReader reader = Open(path);
        if (reader.Rows * reader.Columns > Array.MaxLength)
            throw new BgeMetalException("cannot read", $"[{reader.Rows}, {reader.Columns}] values do not fit one array", path);
        float[] values = new float[reader.Rows * reader.Columns];
        reader.ReadRows(values);
        return new NpyMatrix(reader.Rows, reader.Columns, values);
    }
}

/// <summary>A float32 matrix read whole.</summary>
/// <param name="Rows">How many rows.</param>
/// <param name="Columns">Values in a row.</param>
/// <param name="Values">Row-major [Rows, Columns].</param>
public sealed record NpyMatrix(long Rows, int Columns, float[] Values);
