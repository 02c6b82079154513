namespace BgeMetal;

/// <summary>
/// An expected failure that a user can act on: a bad file, a bad option, a missing device. Its message is one line of the form
/// <c>WHAT: WHY (FILE:LINE)</c>, which the command line prints after <c>error: </c>. Programming errors use the framework's own exceptions.
/// </summary>
public sealed class BgeMetalException : Exception
{
    /// <summary>An empty failure; prefer the constructors that say what and why.</summary>
    public BgeMetalException() : this("unknown failure", "no reason was given") { }

    /// <summary>A failure described by one finished line.</summary>
    public BgeMetalException(string message) : base(message) { }

    /// <summary>A failure described by one finished line, with its cause.</summary>
    public BgeMetalException(string message, Exception? innerException) : base(message, innerException) { }

    /// <summary>A failure of <paramref name="what"/> because of <paramref name="why"/>, at a place in a file where there is one.</summary>
    /// <param name="what">What could not be done, or the thing that is wrong: "cannot read the model", "tensor 'x'".</param>
    /// <param name="why">What was found and what was expected.</param>
    /// <param name="file">The file, if any.</param>
    /// <param name="line">The 1-based line in that file; 0 when lines mean nothing there.</param>
    /// <param name="innerException">The cause, shown with --verbose.</param>
    public BgeMetalException(string what, string why, string? file = null, long line = 0, Exception? innerException = null)
        : base(Format(what, why, file, line), innerException)
    {
        File = file;
        Line = line;
    }

    /// <summary>The file the failure is about, or null.</summary>
    public string? File { get; }

    /// <summary>The 1-based line in <see cref="File"/>, or 0.</summary>
    public long Line { get; }

    private static string Format(string what, string why, string? file, long line) =>
        file is null ? $"{what}: {why}" : line > 0 ? $"{what}: {why} ({file}:{line})" : $"{what}: {why} ({file})";
}
