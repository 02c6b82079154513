using Microsoft.Win32.SafeHandles;

namespace BgeMetal.Checkpoints;

/// <summary>A run of bytes that holds tensor elements, readable at any offset by several threads at once.</summary>
internal abstract class TensorBytes
{
    /// <summary>Number of bytes, known to exist in the file.</summary>
    internal abstract long Length { get; }

    /// <summary>Fills <paramref name="destination"/> from byte <paramref name="offset"/> on.</summary>
    /// <exception cref="IOException">The disk fails or the file was shortened meanwhile.</exception>
    internal abstract void Read(long offset, Span<byte> destination);
}

/// <summary>A part of an open file. Reads are positional (pread), so they go at disk or page cache speed and share no file pointer.</summary>
internal sealed class FileRegion(SafeFileHandle handle, long start, long length) : TensorBytes
{
    /// <inheritdoc/>
    internal override long Length => length;

    /// <inheritdoc/>
    internal override void Read(long offset, Span<byte> destination)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(offset);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(destination.Length, length - offset);
        ReadExactly(handle, start + offset, destination);
    }

    /// <summary>Opens a file for positional reads; an error names it.</summary>
    internal static SafeFileHandle Open(string path)
    {
        try { return File.OpenHandle(path, FileMode.Open, FileAccess.Read, FileShare.Read); }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or NotSupportedException) { throw CheckpointErrors.Unreadable(path, e); }
    }

    /// <summary>Reads exactly <paramref name="destination"/>.Length bytes at an absolute offset of a file.</summary>
    /// <exception cref="EndOfStreamException">The file is shorter.</exception>
    internal static void ReadExactly(SafeFileHandle handle, long offset, Span<byte> destination)
    {
        while (!destination.IsEmpty)
        {
            int count = RandomAccess.Read(handle, destination, offset);
            if (count == 0) throw new EndOfStreamException($"the file ends at byte {offset}, {destination.Length} bytes too early");
            offset += count;
            destination = destination[count..];
        }
    }
}
