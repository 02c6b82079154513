using System.Buffers.Binary;
using System.Text;
using System.Text.Json;
using BgeMetal.Text;

namespace BgeMetal.Tests.Text;

/// <summary>Tokenizer files made in the test.</summary>
internal static class SmallTokenizers
{
    public static readonly string[] WordPieces =
    [
        "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "un", "##aff", "##able", "hello", "world", "Hello", "cafe", "caf\u00E9", "\u6211", "\u4EEC", "!", ",",
        "##s", "a", "b", "##b", "i", "\u2028", "##\u2028", "_", "x", "##y", "\u1112", "##\u1161", "##\u11AB", "ss", "\u00DF", "(", ")", "in", "##in", "##g",
    ];

    public static ModelTokenizer WordPiece(string? config = null, string[]? vocabulary = null)
    {
        using TemporaryFolder folder = new();
        folder.Write("vocab.txt", string.Join('\n', vocabulary ?? WordPieces) + "\n");
        if (config is not null) folder.Write("tokenizer_config.json", config);
        return ModelTokenizer.Load(folder.Path);
    }

    /// <summary>A tokenizer.json; each part is JSON text.</summary>
    public static string Json(string model, string normalizer = "null", string splitter = "null", string template = "null", string added = "[]") =>
        $$"""{"version":"1.0","truncation":null,"padding":null,"added_tokens":{{added}},"normalizer":{{normalizer}},"pre_tokenizer":{{splitter}},"post_processor":{{template}},"decoder":null,"model":{{model}}}""";

    public static string WordPieceModel(params string[] vocabulary) =>
        $$"""{"type":"WordPiece","unk_token":"[UNK]","continuing_subword_prefix":"##","max_input_chars_per_word":100,"vocab":{{Ids(vocabulary)}}}""";

    public static string UnigramModel(params (string Piece, double Score)[] pieces) =>
        $$"""{"type":"Unigram","unk_id":0,"vocab":[{{string.Join(',', pieces.Select(p => $"[{JsonSerializer.Serialize(p.Piece)},{JsonSerializer.Serialize(p.Score)}]"))}}]}""";

    public static ModelTokenizer Load(string json)
    {
        using TemporaryFolder folder = new();
        folder.Write("tokenizer.json", json);
        return ModelTokenizer.Load(folder.Path);
    }

    /// <summary>A compiled character map of single ASCII characters.</summary>
    public static byte[] CharacterMap(params (char From, string To)[] rules)
    {
        const int Children = 256;
        uint[] units = new uint[4096];
        units[0] = Children << 10;
        List<byte> replacements = [];
        uint leaf = 1024;
        foreach ((char from, string to) in rules)
        {
            uint position = (uint)(Children ^ from);
            units[position] = from | 1u << 8 | (position ^ leaf) << 10;
            units[leaf++] = (uint)replacements.Count;
            replacements.AddRange(Encoding.UTF8.GetBytes(to));
            replacements.Add(0);
        }
        byte[] bytes = new byte[4 + 4 * units.Length + replacements.Count];
        BinaryPrimitives.WriteInt32LittleEndian(bytes, 4 * units.Length);
        for (int i = 0; i < units.Length; i++) BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(4 + 4 * i), units[i]);
        replacements.CopyTo(bytes, 4 + 4 * units.Length);
        return bytes;
    }

    /// <summary>A SentencePiece model file.</summary>
    public static byte[] SentencePiece(IEnumerable<(string Piece, float Score)> pieces, byte[]? map = null, int modelType = 1)
    {
        List<byte> file = [];
        foreach ((string piece, float score) in pieces)
        {
            List<byte> message = [];
            Field(message, 1, Encoding.UTF8.GetBytes(piece));
            message.Add(2 << 3 | 5);
            message.AddRange(BitConverter.GetBytes(score));
            Field(file, 1, [.. message]);
        }
        Field(file, 2, [3 << 3, (byte)modelType]);
        List<byte> normalizer = [];
        if (map is not null) Field(normalizer, 2, map);
        Field(file, 3, [.. normalizer]);
        return [.. file];
    }

    private static string Ids(string[] vocabulary) => "{" + string.Join(',', vocabulary.Select((token, id) => $"{JsonSerializer.Serialize(token)}:{id}")) + "}";

    private static void Field(List<byte> target, int number, byte[] bytes)
    {
        target.Add((byte)(number << 3 | 2));
        for (int length = bytes.Length; ; length >>= 7)
        {
            target.Add((byte)(length < 128 ? length : length & 127 | 128));
            if (length < 128) break;
        }
        target.AddRange(bytes);
    }
}
