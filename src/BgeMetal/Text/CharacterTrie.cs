using System.Numerics;
using System.Runtime.CompilerServices;

namespace BgeMetal.Text;

/// <summary>
/// A trie over UTF-16 units whose edges lie in one open-addressing hash table: a slot packs parent (24 bits), unit (16) and child (24), so a step is one
/// multiplication and, as a rule, one cache line; building is linear whatever the vocabulary. Several roots share the table.
/// </summary>
internal sealed class CharacterTrie
{
    /// <summary>The value of a node at which no entry ends, and the answer where no edge leads on.</summary>
    public const int None = -1;

    private const int MaxNodes = 1 << 24;
    private ulong[] _slots;
    private int[] _values;
    private int _shift;
    private int _nodes;

    /// <summary>An empty trie with room for about <paramref name="nodes"/> prefixes; it grows when there are more.</summary>
    public CharacterTrie(int nodes = 1 << 8)
    {
        _values = new int[Math.Clamp(nodes, 1 << 8, MaxNodes)];
        _slots = new ulong[BitOperations.RoundUpToPowerOf2(2 * (uint)_values.Length)];
        _shift = 64 - BitOperations.Log2((uint)_slots.Length);
    }

    /// <summary>Adds an empty root and returns its node.</summary>
    public int AddRoot() => AddNode();

    /// <summary>Stores <paramref name="value"/> (not negative) under <paramref name="key"/> unless it has one.</summary>
    /// <returns>Whether it was stored.</returns>
    /// <exception cref="InvalidOperationException">The entries have more than 2^24 distinct prefixes.</exception>
    public bool TryAdd(int root, ReadOnlySpan<char> key, int value)
    {
        int node = root;
        foreach (char unit in key)
        {
            int child = Child(node, unit);
            if (child < 0)
            {
                child = AddNode();
                if (2L * _nodes > _slots.Length) Grow();
                Insert(_slots, _shift, Key(node, unit) << 24 | (uint)child);
            }
            node = child;
        }
        if (_values[node] >= 0) return false;
        _values[node] = value;
        return true;
    }

    /// <summary>The value of an entry, or <see cref="None"/>.</summary>
    public int Find(int root, ReadOnlySpan<char> key)
    {
        int node = root;
        foreach (char unit in key)
        {
            node = Child(node, unit);
            if (node < 0) return None;
        }
        return _values[node];
    }

    /// <summary>The node that <paramref name="unit"/> leads to from <paramref name="node"/>, or <see cref="None"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public int Child(int node, char unit)
    {
        ulong key = Key(node, unit);
        ulong[] slots = _slots;
        int i = Slot(key, _shift);
        while (true)
        {
            ulong slot = slots[i];
            if (slot >> 24 == key && slot != 0) return (int)(slot & 0xFFFFFF);
            if (slot == 0) return None;
            i = (i + 1) & (slots.Length - 1);
        }
    }

    /// <summary>The value stored at a node, or <see cref="None"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public int Value(int node) => _values[node];

    /// <summary>The longest entry that <paramref name="text"/> begins with: its value and length; <see cref="None"/> and 0 if there is none.</summary>
    public int Longest(int root, ReadOnlySpan<char> text, out int length)
    {
        int node = root, found = None;
        length = 0;
        for (int i = 0; i < text.Length; i++)
        {
            node = Child(node, text[i]);
            if (node < 0) break;
            int value = _values[node];
            if (value < 0) continue;
            found = value;
            length = i + 1;
        }
        return found;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static ulong Key(int node, char unit) => (ulong)(uint)node << 16 | unit;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int Slot(ulong key, int shift) => (int)(key * 0x9E3779B97F4A7C15UL >> shift);

    private int AddNode()
    {
        if (_nodes == MaxNodes) throw new InvalidOperationException($"a vocabulary may have at most {MaxNodes} distinct prefixes");
        if (_nodes == _values.Length) Array.Resize(ref _values, 2 * _values.Length);
        _values[_nodes] = None;
        return _nodes++;
    }

    private void Grow()
    {
        ulong[] grown = new ulong[2 * _slots.Length];
        int shift = 64 - BitOperations.Log2((uint)grown.Length);
        foreach (ulong slot in _slots)
            if (slot != 0) Insert(grown, shift, slot);
        _slots = grown;
        _shift = shift;
    }

    private static void Insert(ulong[] slots, int shift, ulong slot)
    {
        int i = Slot(slot >> 24, shift);
        while (slots[i] != 0) i = (i + 1) & (slots.Length - 1);
        slots[i] = slot;
    }
}
