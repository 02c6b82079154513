using System.Security.Cryptography;
using System.Text;

namespace BgeMetal.Training.Feedback;

/// <summary>What makes two scoring runs the same: the input's bytes, the model and the prompts. The endpoint's address may change.</summary>
internal static class FeedbackFingerprint
{
    public static string Of(string input, LlmFeedbackOptions options)
    {
        try
        {
            using IncrementalHash hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
            hash.AppendData(Encoding.UTF8.GetBytes($"{options.Model}\n{options.Task}\n"));
            foreach (string path in options.Prompts is { } prompts ? new[] { prompts, input } : [input])
            {
                using FileStream file = File.OpenRead(path);
                hash.AppendData(SHA256.HashData(file));
            }
            return Convert.ToHexStringLower(hash.GetHashAndReset());
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new BgeMetalException("cannot read", e.Message, input, innerException: e);
        }
    }
}

/// <summary>
/// Rows that outlive a kill: they are appended to OUTPUT.partial and flushed one by one; OUTPUT.partial.run says which run they are of. A row that was cut off is
/// dropped when the file is opened again.
/// </summary>
internal sealed class PartialOutput : IDisposable
{
    public const string Suffix = ".partial";
    private readonly string _target;
    private readonly FileStream _stream;

    private PartialOutput(string target, FileStream stream, long rows)
    {
        _target = target;
        _stream = stream;
        Rows = rows;
    }

    /// <summary>Rows that an earlier run left.</summary>
    public long Rows { get; }

    /// <summary>Opens the partial file of <paramref name="target"/>, or starts one.</summary>
    /// <exception cref="BgeMetalException">There is one of another run, or it cannot be written.</exception>
    public static PartialOutput Open(string target, string fingerprint)
    {
        string partial = target + Suffix, run = partial + ".run";
        try
        {
            if (Path.GetDirectoryName(Path.GetFullPath(target)) is { } folder) Directory.CreateDirectory(folder);
            bool exists = File.Exists(partial) && File.Exists(run);
            if (exists && File.ReadAllText(run).Trim() != fingerprint)
                throw new BgeMetalException("cannot go on", "the partial file is of another input, model or prompts; delete it to start anew", partial);
            if (!exists) File.WriteAllText(run, fingerprint + "\n");
            FileStream stream = new(partial, exists ? FileMode.Open : FileMode.Create, FileAccess.ReadWrite, FileShare.Read);
            return new PartialOutput(target, stream, KeepWholeRows(stream));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or NotSupportedException)
        {
            throw new BgeMetalException("cannot write", e.Message, partial, innerException: e);
        }
    }

    /// <summary>Adds a row with its line feed.</summary>
    public void Append(byte[] row)
    {
        try
        {
            _stream.Write(row);
            _stream.Flush();
        }
        catch (IOException e)
        {
            throw new BgeMetalException("cannot write", e.Message, _target + Suffix, innerException: e);
        }
    }

    /// <summary>Puts the rows in their place.</summary>
    public void Commit()
    {
        try
        {
            _stream.Flush(flushToDisk: true);
            _stream.Dispose();
            File.Move(_target + Suffix, _target, overwrite: true);
            File.Delete(_target + Suffix + ".run");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new BgeMetalException("cannot write", e.Message, _target, innerException: e);
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _stream.Dispose();

    private static long KeepWholeRows(FileStream stream)
    {
        byte[] buffer = new byte[1 << 16];
        long rows = 0, whole = 0, at = 0;
        while (stream.Read(buffer) is int read and > 0)
        {
            for (int i = 0; i < read; i++)
                if (buffer[i] == '\n') (rows, whole) = (rows + 1, at + i + 1);
            at += read;
        }
        stream.SetLength(whole);
        stream.Position = whole;
        return rows;
    }
}
