using System.Runtime.CompilerServices;

namespace BgeMetal.Text;

/// <summary>
/// A growing list of token ids that is cleared and filled again without allocating. A mutable value type: pass it by reference, one to a thread.
/// </summary>
public struct TokenBuffer
{
    private int[]? _ids;

    /// <summary>An empty buffer with room for <paramref name="capacity"/> ids; <c>default</c> is an empty buffer too.</summary>
    public TokenBuffer(int capacity) => _ids = new int[capacity];

    /// <summary>The number of ids.</summary>
    public int Count { get; private set; }

    /// <summary>The ids; valid until the next change.</summary>
    public readonly ReadOnlySpan<int> Ids => _ids.AsSpan(0, Count);

    /// <summary>Appends an id.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Add(int id)
    {
        if (_ids is null || Count == _ids.Length) Grow(1);
        _ids![Count++] = id;
    }

    /// <summary>Appends ids.</summary>
    public void Add(ReadOnlySpan<int> ids) => ids.CopyTo(Append(ids.Length));

    /// <summary>Forgets all ids and keeps the memory.</summary>
    public void Clear() => Count = 0;

    /// <summary>Forgets the ids from <paramref name="count"/> on.</summary>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="count"/> is negative or more than there are.</exception>
    public void Truncate(int count)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(count);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(count, Count);
        Count = count;
    }

    /// <summary>Makes room for <paramref name="count"/> more ids, counts them in, and returns them to be filled.</summary>
    internal Span<int> Append(int count)
    {
        if (_ids is null || _ids.Length - Count < count) Grow(count);
        Count += count;
        return _ids.AsSpan(Count - count, count);
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private void Grow(int count) => Array.Resize(ref _ids, (int)Math.Min(Array.MaxLength, Math.Max(Math.Max(64, (long)Count + count), 2L * Count)));
}
