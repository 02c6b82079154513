using System.Runtime.InteropServices;
using System.Text;
using BgeMetal.Files;

namespace BgeMetal.Retrieval;

/// <summary>
/// Writes an index file row by row; memory does not grow with the number of rows. Nothing is at the path until <see cref="Commit"/>. Ids and texts wait in a
/// temporary file beside the target, because the vectors come first in the file. Not thread-safe.
/// </summary>
public sealed class FlatIndexWriter : IDisposable
{
    private readonly string _path;
    private readonly string _model;
    private readonly string _queryInstruction;
    private readonly float[] _row;
    private readonly AtomicFile _file;
    private readonly FileStream _records;
    private readonly FileStream _offsets;
    private long _recordBytes;

    internal FlatIndexWriter(string path, int dimension, string model, string queryInstruction)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(dimension);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(dimension, FlatIndexFormat.MaxDimension);
        _path = path;
        _model = model;
        _queryInstruction = queryInstruction;
        Dimension = dimension;
        _row = new float[FlatIndexFormat.StrideOf(dimension)];
        _file = AtomicFile.Create(path);
        try
        {
            _records = Spool("records");
            _offsets = Spool("offsets");
            _file.Stream.Write(new byte[FlatIndexFormat.HeaderBytes]);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            Dispose();
            throw new BgeMetalException("cannot write the index", e.Message, path, innerException: e);
        }
    }

    /// <summary>Values in a vector.</summary>
    public int Dimension { get; }

    /// <summary>Rows added so far.</summary>
    public long Count { get; private set; }

    /// <summary>Adds a row.</summary>
    /// <param name="id">The id to return with hits; the row's number from 0 when null. Ids need not be unique.</param>
    /// <param name="text">The text to return with hits; null is stored as the empty text.</param>
    /// <param name="vector">The vector, <see cref="Dimension"/> values.</param>
    /// <exception cref="ArgumentException">The vector has another length.</exception>
    /// <exception cref="BgeMetalException">A value is NaN or infinite, or the disk is full or fails.</exception>
    public void Add(string? id, string? text, ReadOnlySpan<float> vector)
    {
        if (vector.Length != Dimension) throw new ArgumentException($"a vector of {Dimension} values was expected, found {vector.Length}", nameof(vector));
        id ??= $"{Count}";
        foreach (float value in vector)
            if (!float.IsFinite(value))
                throw new BgeMetalException("cannot index the vector", $"row {Count} (id \"{id}\") holds {value}");
        vector.CopyTo(_row);
        try
        {
            _file.Stream.Write(MemoryMarshal.AsBytes(_row.AsSpan()));
            WriteRecord(id);
            WriteRecord(text ?? "");
        }
        catch (IOException e)
        {
            throw new BgeMetalException("cannot write the index", e.Message, _path, innerException: e);
        }

        Count++;
    }

    /// <summary>Completes the file and puts it in its place. Call once, last.</summary>
    /// <exception cref="BgeMetalException">The disk is full or fails, or the target cannot be replaced; what was there before is then unchanged.</exception>
    public void Commit()
    {
        byte[] metadata = FlatIndexFormat.ToMetadata(_model, _queryInstruction);
        FlatIndexFormat format = new(Dimension, Count, _recordBytes, metadata.Length);
        try
        {
            _offsets.Write(BitConverter.GetBytes(_recordBytes));
            foreach (FileStream spool in (ReadOnlySpan<FileStream>)[_offsets, _records])
            {
                spool.Position = 0;
                spool.CopyTo(_file.Stream, 1 << 20);
            }

            _file.Stream.Write(metadata);
            _file.Stream.Position = 0;
            _file.Stream.Write(format.ToHeader(metadata));
        }
        catch (IOException e)
        {
            throw new BgeMetalException("cannot write the index", e.Message, _path, innerException: e);
        }

        _file.Commit();
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _records?.Dispose();
        _offsets?.Dispose();
        _file.Dispose();
    }

    private FileStream Spool(string part) =>
        new($"{_file.Stream.Name}.{part}", FileMode.CreateNew, FileAccess.ReadWrite, FileShare.None, 1 << 16, FileOptions.DeleteOnClose);

    private void WriteRecord(string text)
    {
        byte[] bytes = Encoding.UTF8.GetBytes(text);
        _offsets.Write(BitConverter.GetBytes(_recordBytes));
        _records.Write(bytes);
        _recordBytes += bytes.Length;
    }
}
