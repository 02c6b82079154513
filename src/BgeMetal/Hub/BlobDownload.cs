using System.Globalization;
using System.Net;
using System.Security.Cryptography;
using System.Text;

namespace BgeMetal.Hub;

/// <summary>
/// Fetches one file's content into its blob: <c>ETAG.incomplete</c> grows, is continued by Range requests after an interruption of either side, is
/// checked against size and digest (SHA-256 of the content for large files, git's SHA-1 for small ones), and is renamed to <c>ETAG</c>.
/// </summary>
internal sealed class BlobDownload(HubClient client, HubCache cache, string repository, string commit, string file, HubFileInfo info)
{
    private readonly string _what = $"cannot download {repository}/{file}";

    /// <summary>Makes the blob be there; <paramref name="progress"/> receives the bytes of this file that are here.</summary>
    /// <exception cref="BgeMetalException">The content cannot be had or is not what the hub describes.</exception>
    public async Task RunAsync(Action<long> progress, CancellationToken cancellationToken)
    {
        string blob = cache.Blob(info.EntityTag);
        if (!File.Exists(blob) || new FileInfo(blob).Length != info.SizeBytes)
        {
            Directory.CreateDirectory(Path.GetDirectoryName(blob)!);
            using IDisposable held = await cache.LockAsync(info.EntityTag, cancellationToken).ConfigureAwait(false);
            if (!File.Exists(blob) || new FileInfo(blob).Length != info.SizeBytes) await FetchAsync(blob, progress, cancellationToken).ConfigureAwait(false);
        }
        progress(info.SizeBytes);
    }

    private async Task FetchAsync(string blob, Action<long> progress, CancellationToken cancellationToken)
    {
        string incomplete = blob + ".incomplete";
        bool resumed = File.Exists(incomplete) && new FileInfo(incomplete).Length > 0;
        for (int round = 0; ; round++)
        {
            await FillAsync(incomplete, progress, cancellationToken).ConfigureAwait(false);
            if (await FindMismatchAsync(incomplete, cancellationToken).ConfigureAwait(false) is not { } mismatch) break;
            File.Delete(incomplete);
            // What an earlier, interrupted run left may be what is wrong: then, once, all of it is fetched anew.
            if (!resumed || round > 0) throw new BgeMetalException(_what, mismatch);
        }
        File.Move(incomplete, blob, overwrite: true);
    }

    private async Task FillAsync(string incomplete, Action<long> progress, CancellationToken cancellationToken)
    {
        await using FileStream target = new(incomplete, FileMode.OpenOrCreate, FileAccess.Write, FileShare.Read);
        if (target.Length > info.SizeBytes) target.SetLength(0);
        target.Seek(0, SeekOrigin.End);
        int failures = 0;
        while (target.Position < info.SizeBytes)
        {
            long before = target.Position;
            try
            {
                await AppendAsync(target, progress, cancellationToken).ConfigureAwait(false);
                if (target.Position < info.SizeBytes)
                    throw new HubTransientException($"the answer ended at {Count(target.Position)} of {Count(info.SizeBytes)} bytes", null);
            }
            catch (HubTransientException e)
            {
                failures = target.Position > before ? 1 : failures + 1;
                await client.WaitAsync(_what, e, failures, cancellationToken).ConfigureAwait(false);
            }
        }
        target.Flush(flushToDisk: true);
    }

    private async Task AppendAsync(FileStream target, Action<long> progress, CancellationToken cancellationToken)
    {
        using HttpResponseMessage response = await client.OpenAsync(repository, commit, file, target.Position, cancellationToken).ConfigureAwait(false);
        long start = response.StatusCode == HttpStatusCode.PartialContent ? response.Content.Headers.ContentRange?.From ?? -1 : 0;
        if (start != target.Position)
        {
            // The server does not continue where it was asked to: from the start, then.
            target.SetLength(0);
            if (start != 0 || response.StatusCode != HttpStatusCode.OK) throw new HubTransientException("the hub did not continue where it was asked to", null);
        }
        await using Stream body = await response.Content.ReadAsStreamAsync(cancellationToken).ConfigureAwait(false);
        byte[] buffer = new byte[1 << 18];
        while (await client.ReadAsync(body, buffer, cancellationToken).ConfigureAwait(false) is int read and > 0)
        {
            if (target.Position + read > info.SizeBytes)
            {
                target.SetLength(0);
                throw new BgeMetalException(_what, $"the hub sends more than the {Count(info.SizeBytes)} bytes it announced");
            }
            await target.WriteAsync(buffer.AsMemory(0, read), cancellationToken).ConfigureAwait(false);
            progress(target.Position);
        }
    }

    private async Task<string?> FindMismatchAsync(string path, CancellationToken cancellationToken)
    {
        string expected = info.EntityTag;
        bool isSha256 = expected.Length == 64, isGit = expected.Length == 40;
        if ((!isSha256 && !isGit) || !expected.All(char.IsAsciiHexDigit)) return null;      // a mirror's own tag: the size is all there is to check
        await using FileStream content = File.OpenRead(path);
        using IncrementalHash hash = IncrementalHash.CreateHash(isSha256 ? HashAlgorithmName.SHA256 : HashAlgorithmName.SHA1);
        if (isGit) hash.AppendData(Encoding.ASCII.GetBytes($"blob {Count(content.Length)}\0"));
        byte[] buffer = new byte[1 << 18];
        while (await content.ReadAsync(buffer, cancellationToken).ConfigureAwait(false) is int read and > 0) hash.AppendData(buffer, 0, read);
        string actual = Convert.ToHexStringLower(hash.GetHashAndReset());
        return string.Equals(actual, expected, StringComparison.OrdinalIgnoreCase) ? null : $"the {(isSha256 ? "SHA-256" : "git SHA-1")} of what came is {actual}, the hub announced {expected}";
    }

    private static string Count(long bytes) => bytes.ToString(CultureInfo.InvariantCulture);
}
