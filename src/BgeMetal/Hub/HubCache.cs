namespace BgeMetal.Hub;

/// <summary>
/// One repository's part of the Hugging Face cache: <c>models--ORG--NAME/blobs/ETAG</c> holds contents, <c>refs/REVISION</c> a commit, and
/// <c>snapshots/COMMIT/FILE</c> links (or copies, where links cannot be made) to blobs. Every file appears by a rename.
/// </summary>
internal sealed class HubCache
{
    private readonly string _locks;
    private readonly bool _symbolicLinks;

    public HubCache(HubOptions options, string repository)
    {
        string folder = "models--" + repository.Replace("/", "--", StringComparison.Ordinal);
        Root = Path.Combine(options.CacheDirectory, folder);
        _locks = Path.Combine(options.CacheDirectory, ".locks", folder);
        _symbolicLinks = options.SymbolicLinks;
    }

    /// <summary>The repository's folder.</summary>
    public string Root { get; }

    /// <summary>The folder of one commit's files.</summary>
    public string Snapshot(string commit) => Path.Combine(Root, "snapshots", commit);

    /// <summary>The place of a content.</summary>
    public string Blob(string etag) => Path.Combine(Root, "blobs", etag);

    /// <summary>The commit that <paramref name="revision"/> stood for when it was last fetched, or null.</summary>
    public string? ReadReference(string revision)
    {
        if (HubName.IsCommit(revision)) return revision;
        string path = ReferencePath(revision);
        if (!File.Exists(path)) return null;
        string commit = File.ReadAllText(path).Trim();
        return HubName.IsCommit(commit) ? commit : null;
    }

    /// <summary>Remembers what <paramref name="revision"/> stands for.</summary>
    public void WriteReference(string revision, string commit)
    {
        if (!HubName.IsCommit(revision) && ReadReference(revision) != commit) Place(ReferencePath(revision), temporary => File.WriteAllText(temporary, commit));
    }

    /// <summary>The snapshot folder of <paramref name="revision"/> when it holds a configuration and whole weights, else null.</summary>
    public string? FindComplete(string revision)
    {
        if (ReadReference(revision) is not { } commit) return null;
        string snapshot = Snapshot(commit);
        if (!File.Exists(Path.Combine(snapshot, "config.json"))) return null;
        HashSet<string> files = [.. Directory.EnumerateFiles(snapshot).Where(File.Exists).Select(path => Path.GetFileName(path)!)];
        return HubFileSelection.Weights(files) is { Count: > 0 } weights && ShardsAreComplete(weights) ? snapshot : null;
    }

    /// <summary>Makes <paramref name="file"/> of a snapshot stand for the blob.</summary>
    public void Link(string commit, string file, string etag)
    {
        string path = Path.Combine(Snapshot(commit), file.Replace('/', Path.DirectorySeparatorChar));
        string blob = Blob(etag);
        if (File.Exists(path) && new FileInfo(path) is { } present && (present.LinkTarget is { } target ? Path.GetFileName(target) == etag : present.Length == new FileInfo(blob).Length)) return;
        Place(path, temporary =>
        {
            if (_symbolicLinks && TryLink(temporary, Path.GetRelativePath(Path.GetDirectoryName(path)!, blob))) return;
            File.Copy(blob, temporary);
        });
    }

    /// <summary>Holds the lock of one blob, shared with other processes (and with huggingface_hub, which locks the same file), until disposed.</summary>
    public async Task<IDisposable> LockAsync(string etag, CancellationToken cancellationToken)
    {
        Directory.CreateDirectory(_locks);
        string path = Path.Combine(_locks, etag + ".lock");
        while (true)
        {
            try
            {
                return new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
            }
            catch (IOException e) when (e.GetType() == typeof(IOException) && File.Exists(path))
            {
                await Task.Delay(TimeSpan.FromMilliseconds(100), cancellationToken).ConfigureAwait(false);
            }
        }
    }

    // "model-00001-of-00003.safetensors": as many shards as the names promise.
    private static bool ShardsAreComplete(List<string> weights) =>
        weights.Count == 1 || (int.TryParse(weights[0].AsSpan(weights[0].LastIndexOf('-') + 1, 5), out int promised) && promised == weights.Count - 1);

    private string ReferencePath(string revision) => Path.Combine(Root, "refs", revision.Replace('/', Path.DirectorySeparatorChar));

    private static bool TryLink(string path, string target)
    {
        try
        {
            File.CreateSymbolicLink(path, target);
            return true;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or PlatformNotSupportedException)
        {
            return false;
        }
    }

    private static void Place(string path, Action<string> write)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        string temporary = $"{path}.{Environment.ProcessId:x}-{Guid.NewGuid():n}.tmp";
        try
        {
            write(temporary);
            File.Move(temporary, path, overwrite: true);
        }
        finally
        {
            File.Delete(temporary);
        }
    }
}
