using System.Buffers.Binary;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;

namespace BgeMetal.Data;

/// <summary>Reads a float32 .npy matrix front to back. The size of the file is checked against the header when it is opened.</summary>
public sealed class NpyReader : IDisposable
{
    /// <summary>Longer headers belong to structured types, which are not read here anyway.</summary>
    private const int MaxHeaderBytes = 1 << 16;

    private readonly FileStream _stream;
    private readonly string _path;
    private long _rowsLeft;

    private NpyReader(FileStream stream, string path)
    {
        _stream = stream;
        _path = path;
    }

    /// <summary>How many rows the file has.</summary>
    public long Rows { get; private set; }

    /// <summary>Values in a row.</summary>
    public int Columns { get; private set; }

    /// <summary>Opens <paramref name="path"/> and checks header and size.</summary>
    /// <exception cref="BgeMetalException">The file is missing, truncated, no .npy file, or not a float32 matrix.</exception>
    public static NpyReader Open(string path)
    {
        if (!File.Exists(path)) throw new BgeMetalException("cannot read", Directory.Exists(path) ? "this is a directory, a file was expected" : "there is no such file", path);
        try
        {
            NpyReader reader = new(new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read, 1 << 16, FileOptions.SequentialScan), path);
            try
            {
                reader.ReadHeader();
                return reader;
            }
            catch
            {
                reader.Dispose();
                throw;
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new BgeMetalException("cannot read", e.Message, path, innerException: e);
        }
    }

    /// <summary>Reads the next rows, filling <paramref name="destination"/>, row-major.</summary>
    /// <exception cref="ArgumentException">The destination is no whole number of rows or holds more than are left.</exception>
    /// <exception cref="BgeMetalException">The disk fails, or the file became shorter.</exception>
    public void ReadRows(Span<float> destination)
    {
        if (Columns == 0 || destination.Length % Columns != 0 || destination.Length / Columns > _rowsLeft)
            throw new ArgumentException($"{destination.Length} values are no whole number of rows of {Columns}, or more than the {_rowsLeft} left", nameof(destination));
        _rowsLeft -= destination.Length / Columns;
        try
        {
            while (destination.Length > 0)
            {
                Span<float> part = destination[..Math.Min(destination.Length, 1 << 24)];
                _stream.ReadExactly(MemoryMarshal.AsBytes(part));
                destination = destination[part.Length..];
            }
        }
        catch (IOException e)
        {
            throw new BgeMetalException("cannot read", e.Message, _path, innerException: e);
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _stream.Dispose();

    private void ReadHeader()
    {
        Span<byte> prefix = stackalloc byte[12];
        int got = _stream.ReadAtLeast(prefix, 12, throwOnEndOfStream: false);
        ReadOnlySpan<byte> magic = [0x93, (byte)'N', (byte)'U', (byte)'M', (byte)'P', (byte)'Y'];
        if (got < 12 || !prefix.StartsWith(magic)) throw Bad("it does not start with the bytes of an .npy file");
        int version = prefix[6];
        if (version is < 1 or > 3) throw Bad($"format version {version}, 1 to 3 were expected");
        int start = version == 1 ? 10 : 12;
        long length = version == 1 ? BinaryPrimitives.ReadUInt16LittleEndian(prefix[8..]) : BinaryPrimitives.ReadUInt32LittleEndian(prefix[8..]);
        if (length > MaxHeaderBytes || start + length > _stream.Length) throw Bad($"the header is said to have {length} bytes, which is too much for this file");

        byte[] header = new byte[length];
        _stream.Position = start;
        _stream.ReadExactly(header);
        Parse(Encoding.UTF8.GetString(header));

        long expected = checked(start + length + (Rows * Columns * sizeof(float)));
        if (_stream.Length != expected)
            throw Bad($"[{Rows}, {Columns}] float32 values make {expected} bytes, the file has {_stream.Length}");
        _rowsLeft = Rows;
    }

    private void Parse(string header)
    {
        string type = Value(header, "descr").Trim('\'', '"');
        if (type != "<f4") throw Bad($"the values are of type {Shortened(type)}, '<f4' (little-endian float32) was expected");
        if (Value(header, "fortran_order") != "False") throw Bad("the values are in column-major order, row-major was expected");
        string shape = Value(header, "shape");
        string[] sizes = shape.Trim('(', ')').Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries);
        if (sizes.Length != 2 || !long.TryParse(sizes[0], NumberStyles.None, CultureInfo.InvariantCulture, out long rows)
            || !int.TryParse(sizes[1], NumberStyles.None, CultureInfo.InvariantCulture, out int columns) || columns == 0 || rows > long.MaxValue / 8 / columns)
            throw Bad($"the shape is {Shortened(shape)}, two dimensions [rows, columns] were expected");
        Rows = rows;
        Columns = columns;
    }

    /// <summary>The text of one entry of the header, which is a Python dictionary of a name, a truth value and a tuple of numbers.</summary>
    private string Value(string header, string key)
    {
        int at = header.IndexOf($"'{key}'", StringComparison.Ordinal);
        if (at < 0) at = header.IndexOf($"\"{key}\"", StringComparison.Ordinal);
        int colon = at < 0 ? -1 : header.IndexOf(':', at);
        if (colon < 0) throw Bad($"the header has no '{key}'");
        string rest = header[(colon + 1)..].TrimStart();
        int end = rest.StartsWith('(') ? rest.IndexOf(')') + 1 : rest.IndexOfAny([',', '}']);
        return end <= 0 ? throw Bad($"the header's '{key}' does not end") : rest[..end].TrimEnd();
    }

    private static string Shortened(string text) => text.Length <= 60 ? text : text[..60] + "...";

    private BgeMetalException Bad(string why) => new("not a usable .npy file", why, _path);
}
