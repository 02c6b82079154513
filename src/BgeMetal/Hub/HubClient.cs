using System.Net;
using System.Net.Http.Headers;
using System.Text.Json;

namespace BgeMetal.Hub;

/// <summary>What the hub says about a file: the digest that names its content, and its size.</summary>
internal readonly record struct HubFileInfo(string EntityTag, long SizeBytes);

/// <summary>A repository at one commit: the commit and the names of its files.</summary>
internal sealed record HubListing(string Commit, IReadOnlyList<string> Files);

/// <summary>A failure that may pass: the request is worth sending again.</summary>
internal sealed class HubTransientException(string message, TimeSpan? retryAfter, Exception? innerException = null) : Exception(message, innerException)
{
    /// <summary>The wait that the server asked for, if it did.</summary>
    public TimeSpan? RetryAfter { get; } = retryAfter;
}

/// <summary>
/// The hub's HTTP protocol: the file list, a file's metadata, a file's bytes. Redirects are followed by hand, because the token must reach the hub
/// and never the storage host that large files are redirected to. Statuses become one clear error or, where waiting may help, another attempt.
/// </summary>
internal sealed class HubClient : IDisposable
{
    private const int MaxRedirects = 10;
    private const int MaxListingBytes = 64 << 20;
    private readonly HubOptions _options;
    private readonly HttpClient _http;
    private readonly Uri _endpoint;

    public HubClient(HubOptions options)
    {
        _options = options;
        _endpoint = new Uri(options.Endpoint);
        SocketsHttpHandler handler = new() { AllowAutoRedirect = false, AutomaticDecompression = DecompressionMethods.None, ConnectTimeout = options.Timeout, UseCookies = false };
        _http = new HttpClient(handler) { Timeout = Timeout.InfiniteTimeSpan };
        _http.DefaultRequestHeaders.UserAgent.Add(new ProductInfoHeaderValue("bgemetal", typeof(HubClient).Assembly.GetName().Version?.ToString(3) ?? "0"));
        _http.DefaultRequestHeaders.AcceptEncoding.Add(new StringWithQualityHeaderValue("identity"));
    }

    public void Dispose() => _http.Dispose();

    /// <summary>The commit that <paramref name="revision"/> names, and its files.</summary>
    public Task<HubListing> ListAsync(string repository, string revision, CancellationToken cancellationToken) =>
        RetryAsync($"cannot download {repository}", async token =>
        {
            Uri uri = new($"{_options.Endpoint}/api/models/{repository}/revision/{Uri.EscapeDataString(revision)}");
            using HttpResponseMessage response = await SendAsync(HttpMethod.Get, uri, 0, static _ => false, token).ConfigureAwait(false);
            ThrowIfFailed(response, repository, revision, file: null);
            await using Stream body = await response.Content.ReadAsStreamAsync(token).ConfigureAwait(false);
            return ParseListing(repository, await ReadBoundedAsync(body, repository, token).ConfigureAwait(false));
        }, cancellationToken);

    /// <summary>A file's digest and size, without its bytes.</summary>
    public Task<HubFileInfo> InspectAsync(string repository, string commit, string file, CancellationToken cancellationToken) =>
        RetryAsync($"cannot download {repository}", async token =>
        {
            // A large file answers with a redirect to its storage and describes it in X-Linked-* headers: the redirect itself is the answer.
            using HttpResponseMessage response = await SendAsync(HttpMethod.Head, FileUri(repository, commit, file), 0,
                static answer => answer.Headers.Contains("X-Linked-Etag"), token).ConfigureAwait(false);
            if ((int)response.StatusCode is < 300 or >= 400) ThrowIfFailed(response, repository, commit, file);
            return ReadFileInfo(response, repository, commit, file);
        }, cancellationToken);

    /// <summary>A file's bytes from <paramref name="offset"/> on; the caller looks at the status (200, 206, 416) and disposes the answer.</summary>
    /// <exception cref="HubTransientException">The hub is busy or cannot be reached now.</exception>
    public async Task<HttpResponseMessage> OpenAsync(string repository, string commit, string file, long offset, CancellationToken cancellationToken)
    {
        HttpResponseMessage response = await SendAsync(HttpMethod.Get, FileUri(repository, commit, file), offset, static _ => false, cancellationToken).ConfigureAwait(false);
        if (response.StatusCode == HttpStatusCode.RequestedRangeNotSatisfiable) return response;
        try
        {
            ThrowIfFailed(response, repository, commit, file);
            return response;
        }
        catch
        {
            response.Dispose();
            throw;
        }
    }

    /// <summary>Runs <paramref name="attempt"/> until it succeeds, fails for good, or has failed as often as the options allow.</summary>
    public async Task<T> RetryAsync<T>(string what, Func<CancellationToken, Task<T>> attempt, CancellationToken cancellationToken)
    {
        for (int failures = 1; ; failures++)
        {
            try
            {
                return await attempt(cancellationToken).ConfigureAwait(false);
            }
            catch (HubTransientException e)
            {
                await WaitAsync(what, e, failures, cancellationToken).ConfigureAwait(false);
            }
        }
    }

    /// <summary>Waits before the next attempt, or gives up when <paramref name="failures"/> in a row are enough.</summary>
    public async Task WaitAsync(string what, HubTransientException failure, int failures, CancellationToken cancellationToken)
    {
        if (failures >= Math.Max(1, _options.Attempts))
            throw new BgeMetalException(what, $"{failure.Message}; gave up after {failures} attempt{(failures == 1 ? "" : "s")}", innerException: failure);
        TimeSpan delay = failure.RetryAfter ?? _options.RetryDelay * Math.Min(16, 1 << Math.Min(failures - 1, 4));
        await Task.Delay(delay, cancellationToken).ConfigureAwait(false);
    }

    private Uri FileUri(string repository, string commit, string file) =>
        new($"{_options.Endpoint}/{repository}/resolve/{Uri.EscapeDataString(commit)}/{string.Join('/', file.Split('/').Select(Uri.EscapeDataString))}");

    private async Task<HttpResponseMessage> SendAsync(HttpMethod method, Uri uri, long offset, Func<HttpResponseMessage, bool> isAnswer, CancellationToken cancellationToken)
    {
        for (int hop = 0; ; hop++)
        {
            using HttpRequestMessage request = new(method, uri);
            if (offset > 0) request.Headers.Range = new RangeHeaderValue(offset, null);
            if (_options.Token is not null && SameOrigin(uri, _endpoint)) request.Headers.Authorization = new AuthenticationHeaderValue("Bearer", _options.Token);
            HttpResponseMessage response = await SendOnceAsync(request, cancellationToken).ConfigureAwait(false);
            if ((int)response.StatusCode is not (301 or 302 or 303 or 307 or 308) || response.Headers.Location is not { } location || isAnswer(response)) return response;
            response.Dispose();
            Uri next = new(uri, location);
            if (next.Scheme != Uri.UriSchemeHttps && (next.Scheme != Uri.UriSchemeHttp || uri.Scheme == Uri.UriSchemeHttps))
                throw new BgeMetalException($"cannot download from {uri.Host}", $"it redirects to {next.Scheme}://{next.Host}, which is not safe to follow");
            if (hop == MaxRedirects) throw new BgeMetalException($"cannot download from {uri.Host}", $"more than {MaxRedirects} redirects");
            uri = next;
        }
    }

    private async Task<HttpResponseMessage> SendOnceAsync(HttpRequestMessage request, CancellationToken cancellationToken)
    {
        using CancellationTokenSource patience = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        patience.CancelAfter(_options.Timeout);
        string host = request.RequestUri!.Authority;
        try
        {
            return await _http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, patience.Token).ConfigureAwait(false);
        }
        catch (HttpRequestException e) when (e.HttpRequestError is HttpRequestError.NameResolutionError or HttpRequestError.SecureConnectionError)
        {
            throw new BgeMetalException($"cannot reach {host}", e.InnerException?.Message ?? e.Message, innerException: e);
        }
        catch (Exception e) when (e is HttpRequestException or IOException)
        {
            throw new HubTransientException($"cannot reach {host}: {e.InnerException?.Message ?? e.Message}", null, e);
        }
        catch (OperationCanceledException e) when (!cancellationToken.IsCancellationRequested)
        {
            throw new HubTransientException($"{host} did not answer within {_options.Timeout.TotalSeconds:0.#} seconds", null, e);
        }
    }

    private void ThrowIfFailed(HttpResponseMessage response, string repository, string revision, string? file)
    {
        if (response.IsSuccessStatusCode) return;
        int status = (int)response.StatusCode;
        string said = $"the hub answered {status} {response.ReasonPhrase}".TrimEnd();
        if (status is 408 or 429 or >= 500) throw new HubTransientException(said, RetryAfter(response));
        string code = response.Headers.TryGetValues("X-Error-Code", out IEnumerable<string>? codes) ? codes.First() : "";
        string why = status switch
        {
            401 when _options.Token is null => $"{said}: there is no such model, or it is private or gated; set HF_TOKEN to a token that may read it",
            401 => $"{said}: there is no such model, or the token in HF_TOKEN is not accepted",
            403 => $"{said}: the model is gated; accept its terms at {_options.Endpoint}/{repository} and set HF_TOKEN to a token of that account",
            404 when file is not null => $"{said}: there is no file '{file}' at revision '{revision}'",
            404 when code == "RevisionNotFound" => $"{said}: the model has no revision '{revision}'",
            404 => $"{said}: there is no such model (or no revision '{revision}' of it) at {_options.Endpoint}",
            _ => said,
        };
        throw new BgeMetalException($"cannot download {repository}", why);
    }

    private static TimeSpan? RetryAfter(HttpResponseMessage response)
    {
        RetryConditionHeaderValue? header = response.Headers.RetryAfter;
        TimeSpan? wait = header?.Delta ?? header?.Date - DateTimeOffset.UtcNow;
        return wait is { } value ? TimeSpan.FromSeconds(Math.Clamp(value.TotalSeconds, 0, 300)) : null;
    }

    private static HubFileInfo ReadFileInfo(HttpResponseMessage response, string repository, string commit, string file)
    {
        string? Header(string name) => response.Headers.TryGetValues(name, out IEnumerable<string>? values) ? values.First() : null;
        string what = $"cannot download {repository}/{file}";
        if (Header("X-Repo-Commit") is { } answered && answered != commit) throw new BgeMetalException(what, $"the hub answered with commit {answered}, asked for was {commit}");
        string tag = (Header("X-Linked-Etag") ?? response.Headers.ETag?.Tag ?? Header("ETag") ?? "").Replace("W/", "", StringComparison.Ordinal).Trim('"');
        if (!HubName.IsEntityTag(tag)) throw new BgeMetalException(what, "the hub's answer has no usable ETag");
        string? linked = Header("X-Linked-Size");
        long size = linked is null ? response.Content.Headers.ContentLength ?? -1
            : long.TryParse(linked, System.Globalization.NumberStyles.None, System.Globalization.CultureInfo.InvariantCulture, out long parsed) ? parsed : -1;
        return size >= 0 ? new HubFileInfo(tag, size) : throw new BgeMetalException(what, "the hub's answer does not say the file's size");
    }

    private static HubListing ParseListing(string repository, byte[] json)
    {
        try
        {
            using JsonDocument document = JsonDocument.Parse(json);
            string commit = document.RootElement.GetProperty("sha").GetString() ?? "";
            if (!HubName.IsCommit(commit)) throw new BgeMetalException($"cannot download {repository}", "the hub's file list names no commit");
            return new HubListing(commit, [.. document.RootElement.GetProperty("siblings").EnumerateArray().Select(f => f.GetProperty("rfilename").GetString() ?? "")]);
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or KeyNotFoundException)
        {
            throw new BgeMetalException($"cannot download {repository}", "the hub's file list is not the JSON that was expected", innerException: e);
        }
    }

    private async Task<byte[]> ReadBoundedAsync(Stream body, string repository, CancellationToken cancellationToken)
    {
        using MemoryStream bytes = new();
        byte[] buffer = new byte[1 << 16];
        while (await ReadAsync(body, buffer, cancellationToken).ConfigureAwait(false) is int read and > 0)
        {
            bytes.Write(buffer, 0, read);
            if (bytes.Length > MaxListingBytes) throw new BgeMetalException($"cannot download {repository}", $"the hub's file list is longer than {MaxListingBytes} bytes");
        }
        return bytes.ToArray();
    }

    /// <summary>Reads some bytes of an answer; a stall or a broken connection is transient. 0 at the end.</summary>
    public async Task<int> ReadAsync(Stream body, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        using CancellationTokenSource patience = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        patience.CancelAfter(_options.Timeout);
        try
        {
            return await body.ReadAsync(buffer, patience.Token).ConfigureAwait(false);
        }
        catch (Exception e) when (e is IOException or HttpRequestException)
        {
            throw new HubTransientException($"the connection broke: {e.Message}", null, e);
        }
        catch (OperationCanceledException e) when (!cancellationToken.IsCancellationRequested)
        {
            throw new HubTransientException($"no data came for {_options.Timeout.TotalSeconds:0.#} seconds", null, e);
        }
    }

    private static bool SameOrigin(Uri a, Uri b) => Uri.Compare(a, b, UriComponents.SchemeAndServer, UriFormat.Unescaped, StringComparison.OrdinalIgnoreCase) == 0;
}
