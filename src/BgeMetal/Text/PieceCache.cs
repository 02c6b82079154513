namespace BgeMetal.Text;

/// <summary>
/// Remembers the ids of short pieces (words, as a rule) seen before. Text repeats its words, and looking one up costs less than spelling it out. A slot is
/// filled once and never replaced, so memory is bounded, readers need no lock, and a text of new words costs nothing but the look-ups.
/// </summary>
internal sealed class PieceCache
{
    private const int MaxLength = 16, Slots = 1 << 16;
    private readonly Entry?[] _entries = new Entry?[Slots];

    private sealed record Entry(string Piece, int[] Ids);

    /// <summary>Appends the ids of <paramref name="piece"/> if it is known.</summary>
    public bool TryAppend(ReadOnlySpan<char> piece, ref TokenBuffer ids)
    {
        if (piece.Length > MaxLength || _entries[Slot(piece)] is not { } entry || !piece.SequenceEqual(entry.Piece)) return false;
        int[] known = entry.Ids;
        if (known.Length == 1) ids.Add(known[0]);
        else ids.Add(known);
        return true;
    }

    /// <summary>Keeps the ids of <paramref name="piece"/> if it is short and its slot is free.</summary>
    public void Remember(ReadOnlySpan<char> piece, ReadOnlySpan<int> ids)
    {
        if (piece.Length > MaxLength) return;
        ref Entry? slot = ref _entries[Slot(piece)];
        if (slot is null) Volatile.Write(ref slot, new Entry(piece.ToString(), ids.ToArray()));
    }

    private static int Slot(ReadOnlySpan<char> piece)
    {
        ulong hash = (ulong)piece.Length;
        foreach (char unit in piece) hash = (hash ^ unit) * 0x9E3779B97F4A7C15UL;
        return (int)(hash >> 48) & (Slots - 1);
    }
}
