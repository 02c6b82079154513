using System.Globalization;

namespace BgeMetal.Hub;

/// <summary>
/// Where models come from and where they are kept: the settings of <see cref="ModelHub"/>. <see cref="FromEnvironment()"/> reads the variables that
/// Hugging Face's own tools read, so both share one cache.
/// </summary>
public sealed record HubOptions
{
    /// <summary>The public hub's address, used when HF_ENDPOINT is not set.</summary>
    public const string DefaultEndpoint = "https://huggingface.co";

    /// <summary>The hub's address, http or https, without a trailing slash.</summary>
    public string Endpoint { get; init; } = DefaultEndpoint;

    /// <summary>The access token sent to <see cref="Endpoint"/> and to no other host; null for none.</summary>
    public string? Token { get; init; }

    /// <summary>The cache folder that holds <c>models--ORG--NAME</c> folders.</summary>
    public string CacheDirectory { get; init; } = DefaultCache(Environment.GetEnvironmentVariable);

    /// <summary>True: the network is never used, only what is cached.</summary>
    public bool Offline { get; init; }

    /// <summary>How long to wait for an answer, or for the next bytes of one, before trying again.</summary>
    public TimeSpan Timeout { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>How often a request is sent in a row without any progress before it counts as failed; at least 1.</summary>
    public int Attempts { get; init; } = 5;

    /// <summary>The wait before the second attempt; it doubles with each further one, up to 16 times. A Retry-After header takes precedence.</summary>
    public TimeSpan RetryDelay { get; init; } = TimeSpan.FromSeconds(0.5);

    /// <summary>False: snapshots hold copies of the blobs instead of symbolic links. Where links cannot be made, copies are made anyway.</summary>
    internal bool SymbolicLinks { get; init; } = true;

    /// <summary>
    /// The settings the environment asks for: HF_ENDPOINT, HF_TOKEN (else the file HF_TOKEN_PATH or HF_HOME/token), HF_HUB_CACHE (else HF_HOME/hub,
    /// else XDG_CACHE_HOME/huggingface/hub, else ~/.cache/huggingface/hub), HF_HUB_OFFLINE, HF_HUB_DOWNLOAD_TIMEOUT (seconds).
    /// </summary>
    /// <exception cref="BgeMetalException">HF_ENDPOINT is not an http(s) address, or the token has characters that no token has.</exception>
    public static HubOptions FromEnvironment() => FromEnvironment(Environment.GetEnvironmentVariable);

    internal static HubOptions FromEnvironment(Func<string, string?> variable)
    {
        string endpoint = Value(variable, "HF_ENDPOINT")?.TrimEnd('/') ?? DefaultEndpoint;
        if (!Uri.TryCreate(endpoint, UriKind.Absolute, out Uri? uri) || (uri.Scheme != Uri.UriSchemeHttps && uri.Scheme != Uri.UriSchemeHttp))
            throw new BgeMetalException("HF_ENDPOINT", $"'{endpoint}' is not an http or https address");
        HubOptions options = new()
        {
            Endpoint = endpoint,
            Token = ReadToken(variable),
            CacheDirectory = DefaultCache(variable),
            Offline = IsOn(variable("HF_HUB_OFFLINE")) || IsOn(variable("TRANSFORMERS_OFFLINE")),
        };
        return int.TryParse(variable("HF_HUB_DOWNLOAD_TIMEOUT"), NumberStyles.None, CultureInfo.InvariantCulture, out int seconds) && seconds > 0
            ? options with { Timeout = TimeSpan.FromSeconds(Math.Min(seconds, 86_400)) } : options;
    }

    private static string DefaultCache(Func<string, string?> variable) =>
        Path.GetFullPath(Value(variable, "HF_HUB_CACHE") ?? Value(variable, "HUGGINGFACE_HUB_CACHE") ?? Path.Combine(Home(variable), "hub"));

    private static string Home(Func<string, string?> variable) => Value(variable, "HF_HOME")
        ?? Path.Combine(Value(variable, "XDG_CACHE_HOME") ?? Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".cache"), "huggingface");

    private static string? ReadToken(Func<string, string?> variable)
    {
        string? token = Value(variable, "HF_TOKEN") ?? Value(variable, "HUGGING_FACE_HUB_TOKEN");
        if (token is null && !IsOn(variable("HF_HUB_DISABLE_IMPLICIT_TOKEN")))
        {
            string file = Value(variable, "HF_TOKEN_PATH") ?? Path.Combine(Home(variable), "token");
            try
            {
                if (File.Exists(file)) token = File.ReadAllText(file).Trim();
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                throw new BgeMetalException("cannot read the hub token", e.Message, file, innerException: e);
            }
        }
        if (string.IsNullOrEmpty(token)) return null;
        return token.All(c => c is > ' ' and < (char)127) ? token : throw new BgeMetalException("HF_TOKEN", "the token has characters that no access token has");
    }

    private static string? Value(Func<string, string?> variable, string name)
    {
        string? value = variable(name)?.Trim();
        if (string.IsNullOrEmpty(value)) return null;
        return value == "~" || value.StartsWith("~/", StringComparison.Ordinal)
            ? Environment.GetFolderPath(Environment.SpecialFolder.UserProfile) + value[1..] : value;
    }

    private static bool IsOn(string? value) => value?.Trim().ToUpperInvariant() is "1" or "ON" or "YES" or "TRUE";
}
