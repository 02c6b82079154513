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
    }

    /// <summary>The id of pieces the vocabulary cannot spell.</summary>
    public int UnkId { get; }

    /// <summary>One more than the largest id of the model's own tokens.</summary>
    public int IdCount => _tokens.Length;

    /// <summary>The token of an id, or null.</summary>
    public string? Token(int id) => (uint)id < (uint)_tokens.Length ? _tokens[id] : null;

    /// <summary>The id of one of the model's own tokens, or -1.</summary>
    public abstract int Find(ReadOnlySpan<char> token);

    /// <summary>Appends the ids of <paramref name="piece"/> (not empty, valid UTF-16) and, if asked for, where each token ends in it.</summary>
    public abstract void Encode(ReadOnlySpan<char> piece, ref TokenBuffer ids, List<int>? ends);

    /// <summary>The error that a token is in the vocabulary twice.</summary>
    protected static InvalidOperationException Twice(string token, int id) => new($"the token '{token}' (id {id}) is in the vocabulary twice");

    /// <summary>How a token reads that stands for <paramref name="piece"/>.</summary>
    public abstract string Display(int id, string piece);

    /// <summary>The text that tokens stand for, as well as it can be had back.</summary>
    public abstract string Join(IReadOnlyList<string> tokens);
}
