namespace BgeMetal.Text;

/// <summary>Turns one piece of normalised text into tokens. Thread-safe.</summary>
internal abstract class TokenModel
{
    private readonly string?[] _tokens;

    /// <param name="tokens">The token of each id; null where an id is not used.</param>
    /// <param name="unkId">The id of pieces the vocabulary cannot spell.</param>
    protected TokenModel(string?[] tokens, int unkId)
    {
        _tokens = tokens;
        UnkId = unkId;
        Ids = new Dictionary<string, int>(tokens.Length, StringComparer.Ordinal);
        for (int id = 0; id < tokens.Length; id++)
            if (tokens[id] is { } token) Ids[token] = id;
    }

    /// <summary>The ids of the model's own tokens.</summary>
    public Dictionary<string, int> Ids { get; }

    /// <summary>The id of pieces the vocabulary cannot spell.</summary>
    public int UnkId { get; }

    /// <summary>One more than the largest id of the model's own tokens.</summary>
    public int IdCount => _tokens.Length;

    /// <summary>The token of an id, or null.</summary>
    public string? Token(int id) => (uint)id < (uint)_tokens.Length ? _tokens[id] : null;

    /// <summary>Appends the ids of <paramref name="piece"/> (not empty, valid UTF-16) and, if asked for, where each token ends in it.</summary>
    public abstract void Encode(ReadOnlySpan<char> piece, ref TokenBuffer ids, List<int>? ends);

    /// <summary>How a token reads that stands for <paramref name="piece"/>.</summary>
    public abstract string Display(int id, string piece);

    /// <summary>The text that tokens stand for, as well as it can be had back.</summary>
    public abstract string Join(IReadOnlyList<string> tokens);
}
