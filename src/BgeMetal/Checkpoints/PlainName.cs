namespace BgeMetal.Checkpoints;

/// <summary>Decides whether text from an untrusted file is the name of something directly inside a directory, on every operating system.</summary>
internal static class PlainName
{
    /// <summary>True for 1 to 255 characters without separators, colons, control characters, and not "." or "..".</summary>
    internal static bool Is(string name) => name.Length is > 0 and <= 255 && name is not ("." or "..") && name.AsSpan().IndexOfAny("/\\:") < 0 && !name.Any(char.IsControl);
}
