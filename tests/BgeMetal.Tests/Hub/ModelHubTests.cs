using BgeMetal.Hub;
using Microsoft.AspNetCore.Http;

namespace BgeMetal.Tests.Hub;

public sealed class ModelHubTests : IAsyncLifetime
{
    private readonly string _cache = Directory.CreateTempSubdirectory("bgemetal-hub-").FullName;
    private HubServer _server = null!;

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    private string Snapshot => Path.Combine(_cache, "models--acme--tiny-model", "snapshots", HubServer.Commit);

    private string Blobs => Path.Combine(_cache, "models--acme--tiny-model", "blobs");

    private byte[] Weights => _server.Files["model.safetensors"];

    private string IncompleteWeights => Path.Combine(Blobs, HubServer.EntityTag("model.safetensors", Weights) + ".incomplete");

    private HubOptions Options => new()
    {
        Endpoint = _server.Endpoint,
        CacheDirectory = _cache,
        RetryDelay = TimeSpan.FromMilliseconds(1),
        Timeout = TimeSpan.FromSeconds(20),
        Attempts = 4,
    };

    public async ValueTask InitializeAsync() => _server = await HubServer.StartAsync();

    public async ValueTask DisposeAsync()
    {
        await _server.DisposeAsync();
        Directory.Delete(_cache, recursive: true);
    }

    [Fact]
    public async Task A_download_has_the_layout_of_the_hugging_face_cache()
    {
        string folder = await DownloadAsync();
        Assert.Equal(Snapshot, folder);
        foreach (string file in (string[])["config.json", "vocab.txt", "1_Pooling/config.json", "model.safetensors"])
        {
            string path = Path.Combine(folder, file);
            Assert.Equal(_server.Files[file], System.IO.File.ReadAllBytes(path));
            if (!OperatingSystem.IsWindows())
            {
                string up = file.Contains('/', StringComparison.Ordinal) ? "../../../blobs/" : "../../blobs/";
                Assert.Equal(up + HubServer.EntityTag(file, _server.Files[file]), new FileInfo(path).LinkTarget);
            }
        }
        Assert.Equal(HubServer.Commit, System.IO.File.ReadAllText(Path.Combine(_cache, "models--acme--tiny-model", "refs", "main")));
        Assert.Empty(Directory.GetFiles(_cache, "*.incomplete", SearchOption.AllDirectories));
        Assert.Empty(Directory.GetFiles(_cache, "*.tmp", SearchOption.AllDirectories));
    }

    [Fact]
    public async Task Only_the_needed_files_are_fetched_and_safetensors_come_before_pickles()
    {
        string folder = await DownloadAsync();
        Assert.False(System.IO.File.Exists(Path.Combine(folder, "pytorch_model.bin")));
        Assert.False(System.IO.File.Exists(Path.Combine(folder, "README.md")));
        _server.Files.Remove("model.safetensors");
        Assert.True(System.IO.File.Exists(Path.Combine(await DownloadAsync(), "pytorch_model.bin")));
    }

    [Fact]
    public async Task Shards_are_fetched_with_their_index()
    {
        _server.Files.Remove("model.safetensors");
        foreach (string file in (string[])["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"])
            _server.Files[file] = [(byte)file.Length, 7];
        string folder = await DownloadAsync();
        Assert.Equal(3, Directory.GetFiles(folder, "model*").Length);
        Assert.Equal(folder, await new ModelHub(Options with { Offline = true }).ResolveAsync(HubServer.Repository, cancellationToken: Cancellation));
        System.IO.File.Delete(Path.Combine(folder, "model-00001-of-00002.safetensors"));
        await FailsAsync("HF_HUB_OFFLINE", Options with { Offline = true }, resolve: true);
    }

    [Fact]
    public async Task A_cached_model_resolves_without_the_network()
    {
        await DownloadAsync();
        int requests = _server.Requests.Count;
        using ModelHub hub = new(Options with { Offline = true });
        Assert.Equal(Snapshot, await hub.ResolveAsync(HubServer.Repository, cancellationToken: Cancellation));
        Assert.Equal(Snapshot, await hub.ResolveAsync(HubServer.Repository, HubServer.Commit, cancellationToken: Cancellation));
        Assert.Equal(requests, _server.Requests.Count);
    }

    [Fact]
    public async Task A_second_download_fetches_no_content_again()
    {
        await DownloadAsync();
        _server.Requests.Clear();
        await DownloadAsync();
        Assert.DoesNotContain(_server.Requests, r => r.Method == "GET" && !r.Path.StartsWith("/api/", StringComparison.Ordinal));
    }

    [Fact]
    public async Task An_interrupted_download_continues_where_it_stopped()
    {
        Directory.CreateDirectory(Blobs);
        System.IO.File.WriteAllBytes(IncompleteWeights, Weights[..100_000]);
        string folder = await DownloadAsync();
        Assert.Equal(Weights, System.IO.File.ReadAllBytes(Path.Combine(folder, "model.safetensors")));
        Assert.Equal("bytes=100000-", Assert.Single(_server.Requests, r => r.ToStorage).Range);
    }

    [Fact]
    public async Task A_damaged_left_over_is_found_by_its_hash_and_fetched_anew()
    {
        Directory.CreateDirectory(Blobs);
        System.IO.File.WriteAllBytes(IncompleteWeights, new byte[5000]);
        string folder = await DownloadAsync();
        Assert.Equal(Weights, System.IO.File.ReadAllBytes(Path.Combine(folder, "model.safetensors")));
        Assert.Equal(["bytes=5000-", null], _server.Requests.Where(r => r.ToStorage).Select(r => r.Range));
    }

    [Fact]
    public async Task A_server_that_ignores_ranges_is_read_from_the_start()
    {
        Directory.CreateDirectory(Blobs);
        System.IO.File.WriteAllBytes(IncompleteWeights, Weights[..70_000]);
        _server.Intercept = async (context, request) =>
        {
            if (!request.ToStorage) return false;
            context.Response.ContentLength = Weights.Length;
            await context.Response.Body.WriteAsync(Weights);
            return true;
        };
        Assert.Equal(Weights, System.IO.File.ReadAllBytes(Path.Combine(await DownloadAsync(), "model.safetensors")));
    }

    [Fact]
    public async Task A_connection_that_dies_half_way_is_continued()
    {
        int broken = 0;
        _server.Intercept = async (context, request) =>
        {
            if (!request.ToStorage || Interlocked.Increment(ref broken) > 3) return false;
            int start = request.Range is { } range ? int.Parse(range["bytes=".Length..^1], System.Globalization.CultureInfo.InvariantCulture) : 0;
            if (start > 0) (context.Response.StatusCode, context.Response.Headers.ContentRange) = (206, $"bytes {start}-{Weights.Length - 1}/{Weights.Length}");
            context.Response.ContentLength = Weights.Length - start;
            await context.Response.Body.WriteAsync(Weights.AsMemory(start, 60_000));
            await context.Response.Body.FlushAsync();
            await Task.Delay(50);
            context.Abort();
            return true;
        };
        string folder = await DownloadAsync();
        Assert.Equal(Weights, System.IO.File.ReadAllBytes(Path.Combine(folder, "model.safetensors")));
        Assert.Equal(4, broken);
        Assert.Contains(_server.Requests, r => r.ToStorage && r.Range is not null);
    }

    [Fact]
    public async Task An_answer_that_is_always_too_short_is_named_with_both_lengths()
    {
        _server.Intercept = async (context, request) =>
        {
            if (!request.ToStorage) return false;
            context.Response.StatusCode = request.Range is null ? 200 : 206;
            if (request.Range is not null) context.Response.Headers.ContentRange = "bytes 1000-1000/300000";
            context.Response.ContentLength = request.Range is null ? 1000 : 0;
            if (request.Range is null) await context.Response.Body.WriteAsync(Weights.AsMemory(0, 1000));
            return true;
        };
        await FailsAsync("the answer ended at 1000 of 300000 bytes; gave up after 4 attempts");
        Assert.False(System.IO.File.Exists(Path.Combine(Snapshot, "model.safetensors")));
    }

    [Fact]
    public async Task An_answer_that_is_too_long_is_refused()
    {
        _server.Intercept = async (context, request) =>
        {
            if (!request.ToStorage) return false;
            await context.Response.Body.WriteAsync(new byte[400_000]);
            return true;
        };
        await FailsAsync("more than the 300000 bytes it announced");
    }

    [Theory]
    [InlineData("model.safetensors", "SHA-256")]
    [InlineData("vocab.txt", "git SHA-1")]
    public async Task Content_that_is_not_what_was_announced_is_refused(string file, string digest)
    {
        _server.Intercept = async (context, request) =>
        {
            if (request.Method == "HEAD" || !(request.ToStorage || !HubServer.IsLarge(file)) || !request.Path.EndsWith("/" + file, StringComparison.Ordinal)) return false;
            byte[] other = [.. _server.Files[file]];
            other[^1] ^= 1;
            await context.Response.Body.WriteAsync(other);
            return true;
        };
        BgeMetalException e = await FailsAsync($"the {digest} of what came is ");
        Assert.Contains(file, e.Message, StringComparison.Ordinal);
        Assert.False(System.IO.File.Exists(Path.Combine(Snapshot, file)));
        Assert.Empty(Directory.GetFiles(Blobs, "*.incomplete"));
    }

    [Fact]
    public async Task The_token_goes_to_the_hub_and_not_to_the_storage_it_redirects_to()
    {
        await DownloadAsync(Options with { Token = "hf_secret" });
        Assert.All(_server.Requests.Where(r => !r.ToStorage), r => Assert.Equal("Bearer hf_secret", r.Authorization));
        Assert.Null(Assert.Single(_server.Requests, r => r.ToStorage).Authorization);
    }

    [Theory]
    [InlineData(401, "set HF_TOKEN")]
    [InlineData(403, "the model is gated")]
    [InlineData(404, "there is no such model")]
    public async Task Statuses_of_the_repository_are_explained(int status, string message)
    {
        _server.Intercept = (context, _) => Answer(context, status);
        BgeMetalException e = await FailsAsync(message);
        Assert.StartsWith("cannot download acme/tiny-model: the hub answered " + status, e.Message, StringComparison.Ordinal);
        Assert.Single(_server.Requests);
    }

    [Fact]
    public async Task A_rejected_token_is_named_without_being_printed()
    {
        _server.Intercept = (context, _) => Answer(context, 401);
        BgeMetalException e = await FailsAsync("the token in HF_TOKEN is not accepted", Options with { Token = "hf_secret" });
        Assert.DoesNotContain("hf_secret", e.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_file_that_is_listed_but_missing_is_named()
    {
        _server.Intercept = (context, request) => request.Path.EndsWith("vocab.txt", StringComparison.Ordinal) ? Answer(context, 404) : Task.FromResult(false);
        await FailsAsync("there is no file 'vocab.txt'");
    }

    [Fact]
    public async Task An_unknown_revision_is_named()
    {
        _server.Intercept = (context, _) =>
        {
            context.Response.Headers["X-Error-Code"] = "RevisionNotFound";
            return Answer(context, 404);
        };
        await FailsAsync("the model has no revision 'v9'", revision: "v9");
    }

    [Theory]
    [InlineData(503)]
    [InlineData(429)]
    public async Task A_busy_hub_is_asked_again(int status)
    {
        int left = 6;
        _server.Intercept = (context, request) =>
        {
            if (Interlocked.Decrement(ref left) % 2 == 0 || left < 0) return Task.FromResult(false);
            context.Response.Headers.RetryAfter = "0";
            return Answer(context, status);
        };
        Assert.Equal(Snapshot, await DownloadAsync());
    }

    [Fact]
    public async Task A_hub_that_stays_busy_is_given_up()
    {
        _server.Intercept = (context, _) => Answer(context, 503);
        await FailsAsync("503 Service Unavailable; gave up after 4 attempts");
        Assert.Equal(4, _server.Requests.Count);
    }

    [Fact]
    public async Task Retry_after_is_waited_for()
    {
        int calls = 0;
        _server.Intercept = (context, _) =>
        {
            if (Interlocked.Increment(ref calls) > 1) return Task.FromResult(false);
            context.Response.Headers.RetryAfter = "1";
            return Answer(context, 503);
        };
        long start = Environment.TickCount64;
        await DownloadAsync();
        Assert.InRange(Environment.TickCount64 - start, 900, long.MaxValue);
    }

    [Fact]
    public async Task A_silent_hub_is_a_timeout()
    {
        _server.Intercept = async (context, _) =>
        {
            await Task.Delay(TimeSpan.FromSeconds(30), context.RequestAborted).ContinueWith(_ => { }, TaskScheduler.Default);
            return true;
        };
        await FailsAsync("did not answer within 0.1 seconds; gave up after 2 attempts", Options with { Timeout = TimeSpan.FromSeconds(0.1), Attempts = 2 });
    }

    [Theory]
    [InlineData("../config.json")]
    [InlineData("/etc/passwd")]
    [InlineData("a\\..\\b")]
    [InlineData("C:/x")]
    [InlineData("a//b")]
    public async Task File_names_that_lead_out_of_the_folder_are_refused(string name)
    {
        _server.ExtraListedNames.Add(name);
        await FailsAsync("may lead out of the model's folder");
        Assert.False(Directory.Exists(Blobs));
    }

    [Fact]
    public async Task An_entity_tag_that_is_a_path_is_refused()
    {
        _server.Intercept = (context, request) =>
        {
            if (request.Method != "HEAD") return Task.FromResult(false);
            context.Response.Headers["ETag"] = "\"../../x\"";
            context.Response.ContentLength = 2;
            return Answer(context, 200);
        };
        await FailsAsync("no usable ETag");
    }

    [Theory]
    [InlineData("{\"sha\": \"../x\", \"siblings\": []}", "names no commit")]
    [InlineData("{\"sha\": 5}", "not the JSON that was expected")]
    [InlineData("<html>", "not the JSON that was expected")]
    [InlineData("{\"sha\": \"0123456789abcdef0123456789abcdef01234567\", \"siblings\": [{\"rfilename\": \"x.md\"}]}", "has no config.json")]
    [InlineData("{\"sha\": \"0123456789abcdef0123456789abcdef01234567\", \"siblings\": [{\"rfilename\": \"config.json\"}]}", "neither model.safetensors nor")]
    public async Task A_file_list_that_makes_no_sense_is_refused(string json, string message)
    {
        _server.Intercept = async (context, _) =>
        {
            await context.Response.WriteAsync(json);
            return true;
        };
        await FailsAsync(message);
    }

    [Fact]
    public async Task Redirects_that_never_end_are_given_up()
    {
        _server.Intercept = (context, _) =>
        {
            context.Response.Redirect("/again");
            return Task.FromResult(true);
        };
        await FailsAsync("more than 10 redirects");
    }

    [Fact]
    public async Task Downloads_at_the_same_time_fetch_each_content_once()
    {
        await Task.WhenAll(Enumerable.Range(0, 6).Select(_ => DownloadAsync()));
        Assert.Single(_server.Requests, r => r.ToStorage);
        Assert.Equal(Weights, System.IO.File.ReadAllBytes(Path.Combine(Snapshot, "model.safetensors")));
    }

    [Fact]
    public async Task A_cancelled_download_leaves_no_half_file_under_a_final_name()
    {
        using CancellationTokenSource stop = new();
        _server.Intercept = async (context, request) =>
        {
            if (!request.ToStorage) return false;
            context.Response.ContentLength = Weights.Length;
            await context.Response.Body.WriteAsync(Weights.AsMemory(0, 50_000));
            await context.Response.Body.FlushAsync();
            stop.CancelAfter(100);
            await Task.Delay(TimeSpan.FromSeconds(20), context.RequestAborted).ContinueWith(_ => { }, TaskScheduler.Default);
            return true;
        };
        using ModelHub hub = new(Options);
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => hub.DownloadAsync(HubServer.Repository, cancellationToken: stop.Token));
        Assert.False(System.IO.File.Exists(Path.Combine(Snapshot, "model.safetensors")));
        _server.Intercept = static (_, _) => Task.FromResult(false);
        Assert.Equal(Weights, System.IO.File.ReadAllBytes(Path.Combine(await DownloadAsync(), "model.safetensors")));
    }

    [Fact]
    public async Task Copies_stand_in_where_links_cannot_be_made()
    {
        string folder = await DownloadAsync(Options with { SymbolicLinks = false });
        Assert.All(Directory.GetFiles(folder, "*", SearchOption.AllDirectories), path => Assert.Null(new FileInfo(path).LinkTarget));
        Assert.Equal(Weights, System.IO.File.ReadAllBytes(Path.Combine(folder, "model.safetensors")));
    }

    [Fact]
    public async Task Progress_ends_at_the_total()
    {
        List<HubProgress> seen = [];
        using ModelHub hub = new(Options);
        await hub.DownloadAsync(HubServer.Repository, progress: new Collect(seen), cancellationToken: Cancellation);
        long total = _server.Files.Where(f => f.Key is not ("README.md" or "pytorch_model.bin")).Sum(f => (long)f.Value.Length);
        Assert.Equal(new HubProgress("model.safetensors", total, total), seen[^1]);
        Assert.True(seen.Zip(seen.Skip(1)).All(pair => pair.First.Bytes <= pair.Second.Bytes));
    }

    [Fact]
    public async Task A_folder_resolves_to_itself_and_anything_else_is_explained()
    {
        using ModelHub hub = new(Options with { Offline = true });
        Assert.Equal(_cache, await hub.ResolveAsync(_cache, cancellationToken: Cancellation));
        BgeMetalException e = await Assert.ThrowsAsync<BgeMetalException>(() => hub.ResolveAsync(Path.Combine(_cache, "nowhere"), cancellationToken: Cancellation));
        Assert.Contains("nowhere", e.Message, StringComparison.Ordinal);
        e = await Assert.ThrowsAsync<BgeMetalException>(() => hub.ResolveAsync("acme/x", "../../etc", cancellationToken: Cancellation));
        Assert.Contains("no name of a branch", e.Message, StringComparison.Ordinal);
    }

    private static Task<bool> Answer(HttpContext context, int status)
    {
        context.Response.StatusCode = status;
        return Task.FromResult(true);
    }

    private async Task<string> DownloadAsync(HubOptions? options = null)
    {
        using ModelHub hub = new(options ?? Options);
        return await hub.DownloadAsync(HubServer.Repository, cancellationToken: Cancellation);
    }

    private async Task<BgeMetalException> FailsAsync(string message, HubOptions? options = null, string revision = "main", bool resolve = false)
    {
        using ModelHub hub = new(options ?? Options);
        BgeMetalException e = await Assert.ThrowsAsync<BgeMetalException>(() => resolve
            ? hub.ResolveAsync(HubServer.Repository, revision, cancellationToken: Cancellation)
            : hub.DownloadAsync(HubServer.Repository, revision, cancellationToken: Cancellation));
        Assert.Contains(message, e.Message, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', e.Message);
        return e;
    }

    private sealed class Collect(List<HubProgress> into) : IProgress<HubProgress>
    {
        public void Report(HubProgress value) => into.Add(value);
    }
}
