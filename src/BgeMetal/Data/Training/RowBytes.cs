using System.Buffers;
using BgeMetal.Files;
using Microsoft.Win32.SafeHandles;

namespace BgeMetal.Data.Training;

/// <summary>
/// The bytes of a data file, read at any position from any thread. A plain file is read where it lies. A <c>.gz</c> file is decompressed once: into memory while
/// it is small, else into a temporary file that vanishes with this object (and, except on Windows, with the process however that ends).
/// </summary>
internal sealed class RowBytes : IDisposable
{
    /// <summary>Decompressed data up to this many bytes stays in memory.</summary>
    public const int MemoryBytes = 8 << 20;

    private readonly string _source;
    private readonly SafeFileHandle? _file;
    private readonly FileStream? _temporary;
    private readonly byte[] _memory = [];

    private RowBytes(string source, SafeFileHandle file, FileStream? temporary = null)
    {
        _source = source;
        _file = file;
        _temporary = temporary;
        Length = RandomAccess.GetLength(file);
    }

    private RowBytes(string source, byte[] memory, int length)
    {
        _source = source;
        _memory = memory;
        Length = length;
    }

    /// <summary>Bytes, after decompression.</summary>
    public long Length { get; }

    /// <summary>Whether the data went to a temporary file.</summary>
    public bool IsSpilled => _temporary is not null;

    /// <summary>Opens a file, or decompresses it if its name ends in <c>.gz</c>.</summary>
    /// <exception cref="BgeMetalException">The file is missing, a directory, may not be read, or is damaged gzip; or there is no room for the decompressed data.</exception>
    public static RowBytes Open(string path, int memoryBytes = MemoryBytes)
    {
        if (Directory.Exists(path)) throw new BgeMetalException("cannot read", "this is a directory, a file was expected", path);
        if (!File.Exists(path)) throw new BgeMetalException("cannot read", "there is no such file", path);
        try
        {
            if (path.EndsWith(".gz", StringComparison.OrdinalIgnoreCase)) return Decompress(path, memoryBytes);
            SafeFileHandle file = File.OpenHandle(path);
            try
            {
                return new RowBytes(path, file);
            }
            catch
            {
                file.Dispose();
                throw;
            }
        }
        catch (InvalidDataException e)
        {
            throw new BgeMetalException("cannot read", $"the gzip data is broken or cut off: {e.Message}", path, innerException: e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or NotSupportedException or ArgumentException)
        {
            throw new BgeMetalException("cannot read", e.Message, path, innerException: e);
        }
    }

    /// <summary>Fills <paramref name="destination"/> from <paramref name="offset"/> on, or as far as the data goes; the number of bytes read.</summary>
    /// <exception cref="BgeMetalException">The file cannot be read, or is shorter than when it was opened.</exception>
    public int Read(long offset, Span<byte> destination)
    {
        int wanted = (int)Math.Clamp(Length - offset, 0, destination.Length);
        if (_file is null)
        {
            _memory.AsSpan((int)Math.Min(offset, Length), wanted).CopyTo(destination);
            return wanted;
        }

        try
        {
            for (int done = 0; done < wanted;)
            {
                int read = RandomAccess.Read(_file, destination[done..wanted], offset + done);
                if (read == 0) throw new BgeMetalException("cannot read", $"the file has become shorter: it had {Length:N0} bytes when it was opened", _source);
                done += read;
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new BgeMetalException("cannot read", e.Message, _source, innerException: e);
        }

        return wanted;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_temporary is not null) _temporary.Dispose();
        else _file?.Dispose();
    }

    private static RowBytes Decompress(string path, int memoryBytes)
    {
        using GzipInput gzip = new(new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read, 1, FileOptions.SequentialScan));
        byte[] memory = [];
        int length = 0;
        while (length < memoryBytes)
        {
            if (length == memory.Length) Array.Resize(ref memory, Math.Min(memoryBytes, Math.Max(1 << 16, 2 * length)));
            int read = gzip.Read(memory.AsSpan(length));
            if (read == 0) return new RowBytes(path, memory, length);
            length += read;
        }

        return Spill(path, gzip, memory.AsSpan(0, length));
    }

    private static RowBytes Spill(string path, GzipInput rest, ReadOnlySpan<byte> start)
    {
        string name = Path.Combine(Path.GetTempPath(), $"bgemetal-{Environment.ProcessId:x}-{Guid.NewGuid():n}.rows");
        FileStream temporary = new(name, FileMode.CreateNew, FileAccess.ReadWrite, FileShare.Delete, 1, FileOptions.DeleteOnClose);
        byte[] buffer = ArrayPool<byte>.Shared.Rent(1 << 20);
        try
        {
            if (!OperatingSystem.IsWindows()) File.Delete(name);
            temporary.Write(start);
            for (int read; (read = rest.Read(buffer)) > 0;) temporary.Write(buffer.AsSpan(0, read));
            temporary.Flush();
            return new RowBytes(path, temporary.SafeFileHandle, temporary);
        }
        catch
        {
            temporary.Dispose();
            throw;
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }
}
