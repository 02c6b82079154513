namespace BgeMetal.Training.Feedback;

/// <summary>How candidates are scored by a language model behind an HTTP endpoint.</summary>
public sealed record LlmFeedbackOptions
{
    /// <summary>The server's base address, e.g. <c>http://localhost:8000/v1</c>, or the whole address of its completions.</summary>
    public required string Endpoint { get; init; }

    /// <summary>The model's name there.</summary>
    public required string Model { get; init; }

    /// <summary>The key, sent as a bearer token; null for none. Comes from the environment, never from a command line or a file.</summary>
    public string? ApiKey { get; init; }

    /// <summary>The task of rows that name none; null makes such a row an error.</summary>
    public string? Task { get; init; }

    /// <summary>A file of prompts over those built in; null for none.</summary>
    public string? Prompts { get; init; }

    /// <summary>Prompts of one request.</summary>
    public int BatchSize { get; init; } = 8;

    /// <summary>Requests under way at a time.</summary>
    public int Concurrency { get; init; } = 4;

    /// <summary>Attempts of a request before the run ends.</summary>
    public int Attempts { get; init; } = 6;

    /// <summary>The wait before the second attempt; doubles from then on, up to a minute. What the server asks for by Retry-After wins.</summary>
    public TimeSpan RetryDelay { get; init; } = TimeSpan.FromSeconds(1);

    /// <summary>How long a request may take.</summary>
    public TimeSpan Timeout { get; init; } = TimeSpan.FromMinutes(5);

    /// <exception cref="BgeMetalException">An option is out of range.</exception>
    internal Uri Address()
    {
        if (BatchSize < 1 || Concurrency < 1 || Attempts < 1) throw new BgeMetalException("options --batch-size, --concurrency, --attempts", "at least 1 was expected");
        if (!Uri.TryCreate(Endpoint, UriKind.Absolute, out Uri? uri) || (uri.Scheme != Uri.UriSchemeHttp && uri.Scheme != Uri.UriSchemeHttps))
            throw new BgeMetalException("option --endpoint", $"'{Endpoint}' is not an http or https address");
        if (uri.UserInfo.Length > 0) throw new BgeMetalException("option --endpoint", "a key in the address would end up in logs; give it by the environment");
        string path = uri.AbsolutePath.TrimEnd('/');
        return path.EndsWith("/completions", StringComparison.Ordinal) ? uri : new UriBuilder(uri) { Path = path + "/completions" }.Uri;
    }
}
