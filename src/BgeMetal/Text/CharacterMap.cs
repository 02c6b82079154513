using System.Buffers.Binary;
using System.Collections.Concurrent;
using System.Globalization;
using System.Text;

namespace BgeMetal.Text;

/// <summary>
/// The normalisation rules compiled into a SentencePiece model ("precompiled_charsmap"): a little-endian length, a double-array trie (the darts-clone
/// format) over UTF-8, and the replacements, each ended by a zero byte, that its leaves point at. As in the reference tokenizers, the shortest rule that
/// is a prefix of a piece decides.
/// </summary>
internal sealed class CharacterMap
{
    private const int MaxDepth = 4096;
    private readonly string _file;
    private readonly uint[] _units;
    private readonly byte[] _replacements;
    private readonly ConcurrentDictionary<int, string> _decoded = new();
    private readonly string?[] _single = new string?[0x10000];

    /// <param name="bytes">The compiled rules.</param>
    /// <param name="file">The file they come from, named in errors.</param>
    /// <exception cref="BgeMetalException">The lengths or offsets lead out of the map, or a replacement is no UTF-8.</exception>
    public CharacterMap(ReadOnlySpan<byte> bytes, string file)
    {
        _file = file;
        if (bytes.Length < 4) throw Broken("it has no length");
        uint size = BinaryPrimitives.ReadUInt32LittleEndian(bytes);
        if (size < 4 || size % 4 != 0 || size > bytes.Length - 4) throw Broken($"a trie of {size} bytes does not fit into {bytes.Length} bytes");
        _units = new uint[size / 4];
        for (int i = 0; i < _units.Length; i++) _units[i] = BinaryPrimitives.ReadUInt32LittleEndian(bytes[(4 + 4 * i)..]);
        _replacements = bytes[(int)(4 + size)..].ToArray();
        Span<char> unit = stackalloc char[1];
        for (int c = 0; c < 0x10000; c++)
        {
            unit[0] = (char)c;
            if (!char.IsSurrogate((char)c)) _single[c] = Find(unit);
        }
    }

    /// <summary>The replacement of a single character of the basic plane, null if it stays.</summary>
    public string? this[char c] => _single[c];

    /// <summary>The replacement of <paramref name="piece"/> (a character or a short cluster), null if it stays.</summary>
    /// <exception cref="BgeMetalException">The map's offsets lead out of it.</exception>
    public string? Find(ReadOnlySpan<char> piece)
    {
        Span<byte> utf8 = stackalloc byte[16];
        if (Encoding.UTF8.GetByteCount(piece) > utf8.Length) return null;
        uint position = Offset(_units[0]);
        foreach (byte b in utf8[..Encoding.UTF8.GetBytes(piece, utf8)])
        {
            if (b == 0) break;
            position ^= b;
            uint unit = Unit(position);
            if ((unit & 0x800000FF) != b) return null;
            position ^= Offset(unit);
            if ((unit >> 8 & 1) == 1) return Replacement((int)(Unit(position) & 0x7FFFFFFF));
        }
        return null;
    }

    /// <summary>The number of characters (UTF-16) of the cluster at the beginning of <paramref name="text"/>.</summary>
    public static int ClusterLength(ReadOnlySpan<char> text) => StringInfo.GetNextTextElementLength(text);

    /// <summary>Whether a cluster is looked up whole before its characters: shorter than six bytes of UTF-8.</summary>
    public static bool IsLookedUpWhole(ReadOnlySpan<char> cluster) => cluster.Length < 6 && Encoding.UTF8.GetByteCount(cluster) < 6;

    private static uint Offset(uint unit) => unit >> 10 << (int)((unit & 1u << 9) >> 6);

    private uint Unit(uint position) => position < _units.Length ? _units[position] : throw Broken($"an offset leads to unit {position} of {_units.Length}");

    private string Replacement(int offset) => _decoded.TryGetValue(offset, out string? text) ? text : _decoded.GetOrAdd(offset, Decode(offset));

    private string Decode(int offset)
    {
        if (offset > _replacements.Length) throw Broken($"a replacement at {offset} of {_replacements.Length} bytes");
        ReadOnlySpan<byte> rest = _replacements.AsSpan(offset);
        int end = rest.IndexOf((byte)0);
        if (end > MaxDepth || (end < 0 && rest.Length > MaxDepth)) throw Broken($"the replacement at {offset} does not end");
        try
        {
            return new UTF8Encoding(false, throwOnInvalidBytes: true).GetString(end < 0 ? rest : rest[..end]);
        }
        catch (DecoderFallbackException e)
        {
            throw new BgeMetalException("cannot read the tokenizer's character map", $"the replacement at {offset} is not UTF-8", _file, innerException: e);
        }
    }

    private BgeMetalException Broken(string why) => new("cannot read the tokenizer's character map", why, _file);
}

/// <summary>Applies a <see cref="CharacterMap"/> cluster by cluster (the Precompiled normalizer of Hugging Face tokenizers).</summary>
internal sealed class CharacterMapNormalizer(CharacterMap map) : TextNormalizer
{
    /// <summary>The rules.</summary>
    public CharacterMap Map { get; } = map;

    /// <inheritdoc/>
    public override void Apply(AlignedText text)
    {
        List<(int CodePoint, int Change)> steps = new(text.Length);
        bool changed = false;
        ReadOnlySpan<char> rest = text.ToString();
        while (!rest.IsEmpty)
        {
            ReadOnlySpan<char> cluster = rest[..CharacterMap.ClusterLength(rest)];
            rest = rest[cluster.Length..];
            if (CharacterMap.IsLookedUpWhole(cluster) && Map.Find(cluster) is { } whole)
            {
                Replace(steps, cluster, whole);
                changed = true;
                continue;
            }
            while (!cluster.IsEmpty)
            {
                Rune.DecodeFromUtf16(cluster, out Rune rune, out int length);
                if (Map.Find(cluster[..length]) is { } single)
                {
                    Replace(steps, cluster[..length], single);
                    changed = true;
                }
                else steps.Add((rune.Value, 0));
                cluster = cluster[length..];
            }
        }
        if (changed) text.Transform(steps, 0);
    }

    /// <summary>Records a replacement the way the reference does, its treatment of leading deletions included.</summary>
    private static void Replace(List<(int CodePoint, int Change)> steps, ReadOnlySpan<char> old, string replacement)
    {
        int before = steps.Count, oldCount = 0;
        foreach (Rune _ in old.EnumerateRunes()) oldCount++;
        foreach (Rune rune in replacement.EnumerateRunes()) steps.Add((rune.Value, 0));
        int difference = steps.Count - before - oldCount;
        for (int i = steps.Count - 1; i >= steps.Count - difference; i--) steps[i] = (steps[i].CodePoint, 1);
        if (difference < 0 && steps.Count > 0) steps[^1] = (steps[^1].CodePoint, steps[^1].Change + difference);
    }
}
