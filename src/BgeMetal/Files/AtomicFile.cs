namespace BgeMetal.Files;

/// <summary>
/// Writes a file whole or not at all: the bytes go to a temporary file beside the target, are flushed to the disk, and the temporary is renamed
/// over the target by <see cref="Commit"/>. Disposing without committing removes the temporary and leaves the target as it was.
/// </summary>
public sealed class AtomicFile : IDisposable
{
    private readonly string _temporary;
    private bool _committed;

    private AtomicFile(string path, string temporary, FileStream stream)
    {
        TargetPath = path;
        _temporary = temporary;
        Stream = stream;
    }

    /// <summary>The path the file will have once committed.</summary>
    public string TargetPath { get; }

    /// <summary>Where to write. Closed by <see cref="Commit"/> and by Dispose.</summary>
    public FileStream Stream { get; }

    /// <summary>Starts writing <paramref name="path"/>; missing parent directories are made.</summary>
    /// <exception cref="BgeMetalException">The directory or the file cannot be written.</exception>
    public static AtomicFile Create(string path)
    {
        string full = Path.GetFullPath(path);
        string directory = Path.GetDirectoryName(full) ?? throw new BgeMetalException("cannot write", "the path names no file", path);
        string temporary = Path.Combine(directory, $".{Path.GetFileName(full)}.{Environment.ProcessId:x}-{Guid.NewGuid():n}.tmp");
        try
        {
            if (Directory.Exists(full)) throw new BgeMetalException("cannot write", "the path is a directory, a file was expected", path);
            Directory.CreateDirectory(directory);
            return new AtomicFile(full, temporary, new FileStream(temporary, FileMode.CreateNew, FileAccess.ReadWrite, FileShare.None, 1 << 16));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or NotSupportedException)
        {
            throw new BgeMetalException("cannot write", e.Message, path, innerException: e);
        }
    }

    /// <summary>Writes <paramref name="text"/> as UTF-8 without a byte order mark to <paramref name="path"/>, whole or not at all.</summary>
    public static void WriteAllText(string path, string text) => WriteAllBytes(path, System.Text.Encoding.UTF8.GetBytes(text));

    /// <summary>Writes <paramref name="bytes"/> to <paramref name="path"/>, whole or not at all.</summary>
    public static void WriteAllBytes(string path, ReadOnlySpan<byte> bytes)
    {
        using AtomicFile file = Create(path);
        file.Stream.Write(bytes);
        file.Commit();
    }

    /// <summary>Flushes to the disk and puts the file in its place. Call once, last.</summary>
    /// <exception cref="BgeMetalException">The disk is full or the target cannot be replaced; the target is then unchanged.</exception>
    public void Commit()
    {
        try
        {
            Stream.Flush(flushToDisk: true);
            Stream.Dispose();
            System.IO.File.Move(_temporary, TargetPath, overwrite: true);
            _committed = true;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new BgeMetalException("cannot write", e.Message, TargetPath, innerException: e);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Stream.Dispose();
        if (!_committed) System.IO.File.Delete(_temporary);
    }
}
