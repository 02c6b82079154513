namespace BgeMetal.Text;

/// <summary>Which text loses tokens when a pair (or one text) is longer than allowed. Tokens are always cut at the end.</summary>
public enum TruncationStrategy
{
    /// <summary>The longer text is cut down to the shorter one's length, then both alike.</summary>
    LongestFirst,

    /// <summary>Only the first text is cut.</summary>
    OnlyFirst,

    /// <summary>Only the second text is cut.</summary>
    OnlySecond,

    /// <summary>Nothing is cut; a maximum length has no effect.</summary>
    None,
}
