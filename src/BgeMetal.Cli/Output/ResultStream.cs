using Microsoft.Win32.SafeHandles;

namespace BgeMetal.Cli.Output;

/// <summary>The reader of the results has gone (<c>bgemetal ... | head</c>): the command ends quietly.</summary>
internal sealed class OutputClosedException(Exception innerException) : Exception("the reader of the results has gone", innerException);

/// <summary>
/// Standard output that notices when its reader has gone: .NET's own console stream swallows that error and would compute on for nobody.
/// </summary>
internal sealed class ResultStream(Stream inner) : Stream
{
    public override bool CanRead => false;

    public override bool CanSeek => false;

    public override bool CanWrite => true;

    public override long Length => throw new NotSupportedException();

    public override long Position
    {
        get => throw new NotSupportedException();
        set => throw new NotSupportedException();
    }

    /// <summary>This process's standard output.</summary>
    public static Stream OfProcess()
    {
        if (!OperatingSystem.IsWindows() && Console.IsOutputRedirected)
        {
            FileStream raw = new(new SafeFileHandle(1, ownsHandle: false), FileAccess.Write, bufferSize: 0);
            // A regular file is shared with whoever else writes to it (>>), whose place a FileStream would not keep: the console stream appends.
            if (!raw.CanSeek) return new ResultStream(raw);
        }
        return new ResultStream(Console.OpenStandardOutput());
    }

    public override void Write(ReadOnlySpan<byte> buffer)
    {
        try
        {
            inner.Write(buffer);
        }
        catch (IOException e) when (IsBrokenPipe(e))
        {
            throw new OutputClosedException(e);
        }
    }

    // EPIPE; ERROR_BROKEN_PIPE and ERROR_NO_DATA. A full disk behind ">" stays an error.
    private static bool IsBrokenPipe(IOException e) => OperatingSystem.IsWindows() ? (e.HResult & 0xFFFF) is 109 or 232 : e.HResult == 32;

    public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));

    public override void Flush() => inner.Flush();

    public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();
}
