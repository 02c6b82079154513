using System.Runtime.InteropServices;
using System.Text;
using BgeMetal.Files;

namespace BgeMetal.Data;

/// <summary>
/// Writes a float32 .npy file row by row. The header leaves room for the number of rows, as NumPy's own does, and gets it in <see cref="Commit"/>;
/// until then nothing is at the path. Dispose without Commit leaves what was there before.
/// </summary>
public sealed class NpyWriter : IDisposable
{
    /// <summary>NumPy pads the first dimension to this many characters, so that a header can be rewritten in place.</summary>
    private const int GrowthDigits = 21;

    private readonly AtomicFile _file;
    private readonly int _headerBytes;

    internal NpyWriter(string path, int columns)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(columns);
        Columns = columns;
        byte[] header = Header(0, columns);
        _headerBytes = header.Length;
        _file = AtomicFile.Create(path);
        Write(header);
    }

    /// <summary>Values in a row.</summary>
    public int Columns { get; }

    /// <summary>Rows written so far.</summary>
    public long Rows { get; private set; }

    /// <summary>Appends whole rows, row-major.</summary>
    /// <exception cref="ArgumentException">The values are no whole number of rows.</exception>
    /// <exception cref="BgeMetalException">The disk is full or fails.</exception>
    public void WriteRows(ReadOnlySpan<float> values)
    {
        if (values.Length % Columns != 0) throw new ArgumentException($"{values.Length} values are no whole number of rows of {Columns}", nameof(values));
        Rows += values.Length / Columns;
        while (values.Length > 0)
        {
            ReadOnlySpan<float> part = values[..Math.Min(values.Length, 1 << 24)];
            Write(MemoryMarshal.AsBytes(part));
            values = values[part.Length..];
        }
    }

    /// <summary>Completes the header and puts the file in its place. Call once, last.</summary>
    /// <exception cref="BgeMetalException">The disk is full or the target cannot be replaced.</exception>
    public void Commit()
    {
        byte[] header = Header(Rows, Columns);
        if (header.Length != _headerBytes) throw new InvalidOperationException("the header changed its length");
        _file.Stream.Position = 0;
        Write(header);
        _file.Commit();
    }

    /// <inheritdoc/>
    public void Dispose() => _file.Dispose();

    private static byte[] Header(long rows, int columns)
    {
        string rowText = $"{rows}";
        string text = $"{{'descr': '<f4', 'fortran_order': False, 'shape': ({rowText}, {columns}), }}" + new string(' ', GrowthDigits - rowText.Length);
        const int prefix = 10;
        int padding = 64 - ((prefix + text.Length + 1) % 64);
        byte[] header = new byte[prefix + text.Length + padding + 1];
        ReadOnlySpan<byte> magic = [0x93, (byte)'N', (byte)'U', (byte)'M', (byte)'P', (byte)'Y', 1, 0];
        magic.CopyTo(header);
        System.Buffers.Binary.BinaryPrimitives.WriteUInt16LittleEndian(header.AsSpan(8), (ushort)(header.Length - prefix));
        header.AsSpan(prefix).Fill((byte)' ');
        Encoding.ASCII.GetBytes(text, header.AsSpan(prefix));
        header[^1] = (byte)'\n';
        return header;
    }

    private void Write(ReadOnlySpan<byte> bytes)
    {
        try
        {
            _file.Stream.Write(bytes);
        }
        catch (IOException e)
        {
            throw new BgeMetalException("cannot write", e.Message, _file.TargetPath, innerException: e);
        }
    }
}
