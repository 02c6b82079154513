using System.Net;
using System.Net.Http.Headers;
using System.Net.Http.Json;
using System.Text;
using System.Text.Json;

namespace BgeMetal.Training.Feedback;

/// <summary>
/// An OpenAI-compatible completions endpoint that returns the prompt's own log-probabilities (<c>echo</c> with <c>logprobs</c>, as vLLM and llama.cpp's server do).
/// Sends several prompts a request and waits and tries again where that may help: 408, 409, 425, 429, 5xx, a broken connection, an answer cut short, a timeout.
/// </summary>
internal sealed class CompletionClient : IDisposable
{
    private const int LargestAnswer = 256 << 20;
    private static readonly TimeSpan s_longestWait = TimeSpan.FromMinutes(1);
    private readonly LlmFeedbackOptions _options;
    private readonly Uri _address;
    private readonly HttpClient _http;

    public CompletionClient(LlmFeedbackOptions options)
    {
        _options = options;
        _address = options.Address();
        _http = new HttpClient(new SocketsHttpHandler { AllowAutoRedirect = false, UseCookies = false, MaxConnectionsPerServer = options.Concurrency })
        {
            Timeout = System.Threading.Timeout.InfiniteTimeSpan,
            MaxResponseContentBufferSize = LargestAnswer,
        };
        if (!string.IsNullOrEmpty(options.ApiKey)) _http.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Bearer", options.ApiKey);
    }

    /// <summary>Mean log-probability of each text's tokens from the character <c>AnswerStart</c> on, in the order of <paramref name="texts"/>.</summary>
    /// <exception cref="BgeMetalException">The endpoint refuses for good, does not do what is asked, or failed as often as the options allow.</exception>
    public async Task<float[]> ScoreAsync(IReadOnlyList<(string Text, int AnswerStart)> texts, CancellationToken cancellation)
    {
        for (int attempt = 1; ; attempt++)
        {
            (string why, TimeSpan? wait) = ("", null);
            try
            {
                using CancellationTokenSource patience = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
                patience.CancelAfter(_options.Timeout);
                using HttpResponseMessage response = await _http.PostAsJsonAsync(_address, Request(texts), patience.Token).ConfigureAwait(false);
                if (response.IsSuccessStatusCode)
                {
                    using JsonDocument answer = JsonDocument.Parse(await response.Content.ReadAsByteArrayAsync(patience.Token).ConfigureAwait(false));
                    return CompletionAnswer.Read(answer.RootElement, texts);
                }
                why = await SaidAsync(response, patience.Token).ConfigureAwait(false);
                if (!MayPass(response.StatusCode)) throw Failure(why);
                wait = RetryAfter(response);
            }
            catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
            {
                why = $"no answer within {_options.Timeout.TotalSeconds:0.#} seconds";
            }
            catch (Exception e) when (e is HttpRequestException or IOException)
            {
                why = e.InnerException?.Message ?? e.Message;
            }
            catch (JsonException e)
            {
                why = "the answer is not whole: " + e.Message.ReplaceLineEndings(" ");
            }
            if (attempt >= _options.Attempts) throw Failure($"{why}; gave up after {attempt} attempt{(attempt == 1 ? "" : "s")}");
            await Task.Delay(wait ?? Backoff(attempt), cancellation).ConfigureAwait(false);
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _http.Dispose();

    /// <summary>One token is generated and thrown away: servers differ in whether they take 0.</summary>
    private object Request(IReadOnlyList<(string Text, int AnswerStart)> texts) =>
        new { model = _options.Model, prompt = texts.Select(text => text.Text), max_tokens = 1, temperature = 0, echo = true, logprobs = 1 };

    private TimeSpan Backoff(int attempt)
    {
        double seconds = Math.Min(s_longestWait.TotalSeconds, _options.RetryDelay.TotalSeconds * Math.Pow(2, attempt - 1));
        return TimeSpan.FromSeconds(seconds * (0.75 + 0.5 * Random.Shared.NextDouble()));
    }

    private static bool MayPass(HttpStatusCode status) => (int)status is 408 or 409 or 425 or 429 or >= 500;

    private static TimeSpan? RetryAfter(HttpResponseMessage response)
    {
        TimeSpan? wait = response.Headers.RetryAfter?.Delta ?? response.Headers.RetryAfter?.Date - DateTimeOffset.UtcNow;
        return wait is { } value ? TimeSpan.FromSeconds(Math.Clamp(value.TotalSeconds, 0, 300)) : null;
    }

    /// <summary>The status and the first words of the answer; never the request, which may hold private text, nor the key.</summary>
    private async Task<string> SaidAsync(HttpResponseMessage response, CancellationToken cancellation)
    {
        string body = Encoding.UTF8.GetString(await response.Content.ReadAsByteArrayAsync(cancellation).ConfigureAwait(false)).ReplaceLineEndings(" ").Trim();
        if (!string.IsNullOrEmpty(_options.ApiKey)) body = body.Replace(_options.ApiKey, "(key)", StringComparison.Ordinal);
        string hint = response.StatusCode is HttpStatusCode.Unauthorized or HttpStatusCode.Forbidden
            ? _options.ApiKey is null ? " (no key was sent: name its environment variable with --api-key-env)" : " (the key was not accepted)" : "";
        return $"the endpoint answered {(int)response.StatusCode} {response.ReasonPhrase}{hint}{(body.Length == 0 ? "" : ": " + (body.Length > 200 ? body[..200] + "..." : body))}";
    }

    private BgeMetalException Failure(string why) => new($"cannot score with {_address.GetLeftPart(UriPartial.Path)}", why);
}
