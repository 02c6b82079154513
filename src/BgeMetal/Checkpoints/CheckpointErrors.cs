using System.Text;

namespace BgeMetal.Checkpoints;

/// <summary>
/// The one way this room reports a bad file: a <see cref="BgeMetalException"/> whose message names the file and the tensor or byte offset.
/// Text taken from the file is shortened and stripped of control characters first, so that a message stays one short line.
/// </summary>
internal static class CheckpointErrors
{
    private const int LongestQuote = 120;

    /// <summary>A file that does not hold what its format promises.</summary>
    internal static BgeMetalException Corrupt(string file, string why, Exception? cause = null) =>
        new("cannot read the checkpoint", why, file, innerException: cause);

    /// <summary>A tensor that is missing, malformed or not of the expected shape.</summary>
    internal static BgeMetalException Tensor(string file, string name, string why, Exception? cause = null) =>
        new($"tensor {Quote(name)}", why, file, innerException: cause);

    /// <summary>A file that the operating system does not hand over.</summary>
    internal static BgeMetalException Unreadable(string file, Exception cause) => new("cannot read", cause.Message.ReplaceLineEndings(" "), file, innerException: cause);

    /// <summary>Text from a file, in single quotes, at most 120 characters, control characters and unpaired surrogates as '?'.</summary>
    internal static string Quote(ReadOnlySpan<char> text)
    {
        StringBuilder quoted = new("'");
        foreach (Rune rune in text[..Math.Min(text.Length, LongestQuote)].EnumerateRunes())
            quoted.Append(Rune.IsControl(rune) || rune == Rune.ReplacementChar ? "?" : rune.ToString());
        if (text.Length > LongestQuote) quoted.Append("...");
        return quoted.Append('\'').ToString();
    }

    /// <summary>A shape as it is written in Python: [2, 3].</summary>
    internal static string Show(ReadOnlySpan<long> shape)
    {
        StringBuilder shown = new("[");
        for (int i = 0; i < shape.Length && i < 16; i++) shown.Append(i == 0 ? "" : ", ").Append(shape[i]);
        return shown.Append(shape.Length > 16 ? ", ...]" : "]").ToString();
    }
}
