using System.Runtime.CompilerServices;

namespace BgeMetal.Text;

/// <summary>
/// Encodes text between literally matched tokens to ids, without offsets. The fast encoders do in a few table look-ups per character what the
/// <see cref="AlignedText"/> pipeline does in general; both give the same ids. Thread-safe.
/// </summary>
internal abstract class SegmentEncoder
{
    private const int ChunkTarget = 4096, KeptCharacters = 1 << 17;

    [ThreadStatic] private static char[]? t_scratch;

    /// <summary>Appends the ids of <paramref name="segment"/> (valid UTF-16).</summary>
    /// <param name="segment">The text.</param>
    /// <param name="ids">Where the ids go.</param>
    /// <param name="stopAt">Stop after the first piece that fills <paramref name="ids"/> to this many or more.</param>
    /// <returns>False if it stopped.</returns>
    public abstract bool Encode(ReadOnlySpan<char> segment, ref TokenBuffer ids, int stopAt);

    /// <summary>Per-thread scratch of at least <paramref name="length"/> characters; large ones are not kept.</summary>
    protected static char[] Scratch(int length)
    {
        if (t_scratch is { } kept && kept.Length >= length) return kept;
        char[] scratch = new char[Math.Max(4 * ChunkTarget + 64, length)];
        if (scratch.Length <= KeptCharacters) t_scratch = scratch;
        return scratch;
    }

    /// <summary>
    /// How much of <paramref name="text"/> to take at once: all of a short text, else up to a blank after an ASCII letter or digit, where no
    /// normalisation rule and no piece can reach across.
    /// </summary>
    public static int ChunkLength(ReadOnlySpan<char> text)
    {
        if (text.Length <= ChunkTarget) return text.Length;
        for (int i = ChunkTarget; i > 0; i--)
            if (IsCut(text, i)) return i;
        for (int i = ChunkTarget + 1; i < text.Length; i++)
            if (IsCut(text, i)) return i;
        return text.Length;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static bool IsCut(ReadOnlySpan<char> text, int i) => text[i] == ' ' && char.IsAsciiLetterOrDigit(text[i - 1]);
}

/// <summary>Encodes by the general pipeline: any combination of parts, slowly.</summary>
internal sealed class PipelineSegmentEncoder(TokenPipeline pipeline) : SegmentEncoder
{
    /// <inheritdoc/>
    public override bool Encode(ReadOnlySpan<char> segment, ref TokenBuffer ids, int stopAt)
    {
        foreach (PipelinePiece piece in pipeline.Cut(new AlignedText(segment)))
        {
            if (piece.Added is { } token)
            {
                ids.Add(token.Id);
                continue;
            }
            pipeline.Model.Encode(piece.Text.ToString(), ref ids, null);
            if (ids.Count >= stopAt) return false;
        }
        return true;
    }
}
