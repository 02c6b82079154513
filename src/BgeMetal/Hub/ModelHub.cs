namespace BgeMetal.Hub;

/// <summary>
/// Finds models: a local folder, a model in the Hugging Face cache, or one to be fetched from the hub into that cache. Downloads continue where they
/// stopped, are checked against size and digest, and are safe beside other processes that fetch the same model. Thread-safe.
/// </summary>
public sealed class ModelHub : IDisposable
{
    private readonly HubOptions _options;
    private readonly HubClient _client;

    /// <summary>A hub with the given settings, or with those of the environment.</summary>
    /// <exception cref="BgeMetalException">The environment's settings are not usable.</exception>
    public ModelHub(HubOptions? options = null)
    {
        _options = options ?? HubOptions.FromEnvironment();
        _client = new HubClient(_options);
    }

    /// <inheritdoc/>
    public void Dispose() => _client.Dispose();

    /// <summary>
    /// The folder of a model: <paramref name="model"/> itself when it is a folder, else the cached snapshot of that hub id, fetched first where it is
    /// not complete. A cached model needs no network.
    /// </summary>
    /// <param name="model">A folder or a hub id (<c>BAAI/bge-small-en-v1.5</c>).</param>
    /// <param name="revision">Branch, tag or commit for a hub id; ignored for a folder.</param>
    /// <param name="progress">Told about a download, if there is one.</param>
    /// <param name="cancellationToken">Stops the download; what came stays and is continued next time.</param>
    /// <exception cref="BgeMetalException">There is no such folder or model, or it cannot be fetched.</exception>
    public Task<string> ResolveAsync(string model, string revision = "main", IProgress<HubProgress>? progress = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(revision);
        if (Directory.Exists(model)) return Task.FromResult(Path.GetFullPath(model));
        if (File.Exists(model)) throw new BgeMetalException("cannot open the model", "this is a file, a model is a folder or a hub id", model);
        if (!HubName.IsRepository(model)) throw new BgeMetalException("cannot open the model", "there is no such folder, and it is no hub id (ORG/NAME)", model);
        RequireRevision(model, revision);
        string? cached = Guard(model, () => new HubCache(_options, model).FindComplete(revision));
        return cached is not null ? Task.FromResult(cached) : DownloadAsync(model, revision, progress, cancellationToken);
    }

    /// <summary>Fetches what is missing of a model's current files and returns the snapshot's folder. Always asks the hub.</summary>
    /// <exception cref="BgeMetalException">
    /// No network is allowed (HF_HUB_OFFLINE), no access (401, 403), no such model, revision or file (404), a server that stays busy, contents that are
    /// not what the hub announced, or a disk that cannot be written.
    /// </exception>
    public async Task<string> DownloadAsync(string repository, string revision = "main", IProgress<HubProgress>? progress = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(repository);
        ArgumentNullException.ThrowIfNull(revision);
        if (!HubName.IsRepository(repository)) throw new BgeMetalException("cannot download", $"'{repository}' is no hub id (ORG/NAME)");
        RequireRevision(repository, revision);
        if (_options.Offline)
            throw new BgeMetalException($"cannot download {repository}", $"HF_HUB_OFFLINE is set and the model is not complete in {_options.CacheDirectory}");
        try
        {
            return await FetchAsync(repository, revision, progress, cancellationToken).ConfigureAwait(false);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new BgeMetalException($"cannot download {repository}", e.Message, _options.CacheDirectory, innerException: e);
        }
    }

    private async Task<string> FetchAsync(string repository, string revision, IProgress<HubProgress>? progress, CancellationToken cancellationToken)
    {
        HubCache cache = new(_options, repository);
        HubListing listing = await _client.ListAsync(repository, revision, cancellationToken).ConfigureAwait(false);
        List<string> files = HubFileSelection.Select(repository, [.. listing.Files]);
        HubFileInfo[] infos = new HubFileInfo[files.Count];
        for (int i = 0; i < infos.Length; i++)
            infos[i] = await _client.InspectAsync(repository, listing.Commit, files[i], cancellationToken).ConfigureAwait(false);
        long total = infos.Aggregate(0L, (sum, info) => info.SizeBytes > long.MaxValue - sum ? long.MaxValue : sum + info.SizeBytes), done = 0;
        for (int i = 0; i < infos.Length; i++)
        {
            string file = files[i];
            long before = done;
            BlobDownload download = new(_client, cache, repository, listing.Commit, file, infos[i]);
            await download.RunAsync(bytes => progress?.Report(new HubProgress(file, before + bytes, total)), cancellationToken).ConfigureAwait(false);
            cache.Link(listing.Commit, file, infos[i].EntityTag);
            done += infos[i].SizeBytes;
        }
        cache.WriteReference(revision, listing.Commit);
        return cache.Snapshot(listing.Commit);
    }

    private static void RequireRevision(string repository, string revision)
    {
        if (!HubName.IsRevision(revision)) throw new BgeMetalException($"cannot download {repository}", $"'{revision}' is no name of a branch, tag or commit");
    }

    private string? Guard(string repository, Func<string?> look)
    {
        try
        {
            return look();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new BgeMetalException($"cannot look for {repository} in the cache", e.Message, _options.CacheDirectory, innerException: e);
        }
    }
}
