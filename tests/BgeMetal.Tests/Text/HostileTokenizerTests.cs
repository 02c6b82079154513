using System.Text;
using BgeMetal.Text;

namespace BgeMetal.Tests.Text;

/// <summary>Damaged or malicious tokenizer files: each ends in one error that names the file and what is wrong.</summary>
public sealed class HostileTokenizerTests
{
    private const string Bert = """{"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":true,"strip_accents":null,"lowercase":true}""";
    private static readonly string s_model = SmallTokenizers.WordPieceModel("[UNK]", "a");

    public static TheoryData<string, string, string> BadJson => new()
    {
        { "cut off", SmallTokenizers.Json(s_model)[..60], "no valid JSON" },
        { "no object", "[1]", "an object was expected" },
        { "too deep", SmallTokenizers.Json(s_model, new string('[', 5000) + new string(']', 5000)), "no valid JSON" },
        { "no model", "{}", "no \"model\"" },
        { "BPE", SmallTokenizers.Json("""{"type":"BPE","vocab":{},"merges":[]}"""), "the model 'BPE' is not supported" },
        { "untyped BPE", SmallTokenizers.Json("""{"vocab":{"a":0},"merges":[]}"""), "without a type" },
        { "normalizer", SmallTokenizers.Json(s_model, """{"type":"ByteLevel"}"""), "the normalizer 'ByteLevel' is not supported" },
        { "nested normalizer", SmallTokenizers.Json(s_model, """{"type":"Sequence","normalizers":[{"type":"Nmt"}]}"""), "the normalizer 'Nmt'" },
        { "pre-tokenizer", SmallTokenizers.Json(s_model, Bert, """{"type":"ByteLevel"}"""), "the pre-tokenizer 'ByteLevel' is not supported" },
        { "post-processor", SmallTokenizers.Json(s_model, template: """{"type":"ByteLevel"}"""), "the post-processor 'ByteLevel' is not supported" },
        { "wrong type", SmallTokenizers.Json(s_model, """{"type":"BertNormalizer","lowercase":"yes"}"""), "true or false was expected, found \"yes\"" },
        { "pattern", SmallTokenizers.Json(s_model, """{"type":"Replace","pattern":{"Regex":"(?=a)b"},"content":""}"""), "the regular expression '(?=a)b'" },
        { "duplicate token", SmallTokenizers.Json("""{"type":"WordPiece","vocab":{"[UNK]":0,"a":1,"a":2}}"""), "'a' (id 2) is in the vocabulary twice" },
        { "duplicate id", SmallTokenizers.Json("""{"type":"WordPiece","vocab":{"[UNK]":0,"a":1,"b":1}}"""), "id 1 is given to 'a' and to 'b'" },
        { "negative id", SmallTokenizers.Json("""{"type":"WordPiece","vocab":{"[UNK]":0,"a":-1}}"""), "a whole number from 0" },
        { "huge id", SmallTokenizers.Json("""{"type":"WordPiece","vocab":{"[UNK]":0,"a":2000000000}}"""), "a whole number from 0" },
        { "no unknown token", SmallTokenizers.Json(SmallTokenizers.WordPieceModel("a")), "the unknown token '[UNK]' is missing" },
        { "empty vocabulary", SmallTokenizers.Json(SmallTokenizers.WordPieceModel()), "the unknown token '[UNK]' is missing" },
        { "half a surrogate", SmallTokenizers.Json("""{"type":"WordPiece","vocab":{"[UNK]":0,"\ud800":1}}"""), "half a surrogate pair" },
        { "empty unigram", SmallTokenizers.Json("""{"type":"Unigram","unk_id":0,"vocab":[]}"""), "it is empty" },
        { "unigram pair", SmallTokenizers.Json("""{"type":"Unigram","unk_id":0,"vocab":[["<unk>",0],["a"]]}"""), "entry 1 is not a pair" },
        { "duplicate piece", SmallTokenizers.Json(SmallTokenizers.UnigramModel(("<unk>", 0), ("a", 1), ("a", 2))), "'a' (id 2) is in the vocabulary twice" },
        { "infinite score", SmallTokenizers.Json("""{"type":"Unigram","unk_id":0,"vocab":[["<unk>",0],["a",-1e999]]}"""), "piece 1 is not finite" },
        { "unk_id", SmallTokenizers.Json("""{"type":"Unigram","unk_id":7,"vocab":[["<unk>",0]]}"""), "a whole number from 0 to 0" },
        { "no unk_id", SmallTokenizers.Json("""{"type":"Unigram","unk_id":null,"vocab":[["<unk>",0]]}"""), "the unknown token is not named" },
        { "byte fallback", SmallTokenizers.Json("""{"type":"Unigram","unk_id":0,"byte_fallback":true,"vocab":[["<unk>",0]]}"""), "byte_fallback is not supported" },
        { "added id taken", SmallTokenizers.Json(s_model, added: """[{"id":1,"content":"<x>"}]"""), "has the id 1 of 'a'" },
        { "added id moved", SmallTokenizers.Json(s_model, added: """[{"id":5,"content":"a"}]"""), "'a' has id 5, but 1 in the vocabulary" },
        { "added twice", SmallTokenizers.Json(s_model, added: """[{"id":5,"content":"x"},{"id":6,"content":"x"}]"""), "is there twice" },
        { "added empty", SmallTokenizers.Json(s_model, added: """[{"id":5,"content":""}]"""), "the token is empty" },
        { "template name", SmallTokenizers.Json(s_model, template: """{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"X","type_id":0}}],"pair":[],"special_tokens":{}}"""), "a name of special_tokens" },
        { "template text", SmallTokenizers.Json(s_model, template: """{"type":"TemplateProcessing","single":[],"pair":[],"special_tokens":{}}"""), "text A once" },
        { "base64", SmallTokenizers.Json(s_model, """{"type":"Precompiled","precompiled_charsmap":"***"}"""), "base64 was expected" },
        { "metaspace", SmallTokenizers.Json(s_model, Bert, """{"type":"Metaspace","replacement":"__"}"""), "one character" },
        { "contradiction", SmallTokenizers.Json(s_model, Bert, """{"type":"Metaspace","replacement":"_","add_prefix_space":false,"prepend_scheme":"always"}"""), "beside add_prefix_space false" },
    };

    [Theory]
    [MemberData(nameof(BadJson))]
    public void A_bad_tokenizer_json_is_refused(string what, string json, string why)
    {
        BgeMetalException e = Assert.Throws<BgeMetalException>(() => SmallTokenizers.Load(json));
        Assert.Contains(why, e.Message, StringComparison.Ordinal);
        Assert.Contains("tokenizer.json", e.Message, StringComparison.Ordinal);
        Assert.False(e.Message.Contains('\n', StringComparison.Ordinal), what);
    }

    public static TheoryData<string, byte[], string> BadMaps => new()
    {
        { "empty", [], "it has no length" },
        { "too long a trie", [255, 255, 255, 255, 0, 0, 0, 0], "does not fit" },
        { "odd trie", [6, 0, 0, 0, 0, 0, 0, 0, 0, 0], "does not fit" },
        { "root leads out", [4, 0, 0, 0, 0, 4, 255, 255], "leads to unit" },
        { "leaf leads out", WithUnit(256 ^ 'A', 'A' | 1u << 8 | 0x1FFFFFu << 10), "leads to unit" },
        { "replacement outside", WithUnit(1024, 9999), "a replacement at 9999" },
        { "replacement is no UTF-8", [.. SmallTokenizers.CharacterMap(('A', "a"))[..^2], 255, 0], "is not UTF-8" },
    };

    [Theory]
    [MemberData(nameof(BadMaps))]
    public void A_bad_character_map_is_refused(string what, byte[] map, string why)
    {
        string normalizer = $$"""{"type":"Precompiled","precompiled_charsmap":"{{Convert.ToBase64String(map)}}"}""";
        BgeMetalException e = Assert.Throws<BgeMetalException>(() => SmallTokenizers.Load(SmallTokenizers.Json(s_model, normalizer)));
        Assert.True(e.Message.Contains(why, StringComparison.Ordinal) && e.Message.Contains("tokenizer.json", StringComparison.Ordinal), $"{what}: {e.Message}");
    }

    private static byte[] WithUnit(int index, uint unit)
    {
        byte[] map = SmallTokenizers.CharacterMap(('A', "a"));
        BitConverter.GetBytes(unit).CopyTo(map, 4 + 4 * index);
        return map;
    }

    public static TheoryData<string, byte[], string> BadVocabularies => new()
    {
        { "empty", [], "it is empty" },
        { "duplicate", "[UNK]\n[CLS]\n[SEP]\na\na\n"u8.ToArray(), "the token 'a' is already in line 4" },
        { "no unknown token", "[CLS]\n[SEP]\na\n"u8.ToArray(), "the unk token '[UNK]' is missing" },
        { "no separator", "[CLS]\n[UNK]\na\n"u8.ToArray(), "the sep token '[SEP]' is missing" },
        { "not UTF-8", [(byte)'a', 10, 255, 254, 10], "it is not UTF-8" },
    };

    [Theory]
    [MemberData(nameof(BadVocabularies))]
    public void A_bad_vocabulary_is_refused(string what, byte[] vocabulary, string why)
    {
        using TemporaryFolder folder = new();
        folder.Write("vocab.txt", vocabulary);
        BgeMetalException e = Assert.Throws<BgeMetalException>(() => ModelTokenizer.Load(folder.Path));
        Assert.True(e.Message.Contains(why, StringComparison.Ordinal) && e.Message.Contains("vocab.txt", StringComparison.Ordinal), $"{what}: {e.Message}");
    }

    private static readonly (string, float)[] s_pieces = [("<unk>", 0), ("<s>", 0), ("</s>", 0), ("a", -1)];

    public static TheoryData<string, byte[], string> BadSentencePieces => new()
    {
        { "empty", [], "it has no pieces" },
        { "cut off", SmallTokenizers.SentencePiece(s_pieces)[..^9], "cut off" },
        { "no protocol buffer", "<!DOCTYPE html>"u8.ToArray(), "damaged or cut off" },
        { "byte-pair encoding", SmallTokenizers.SentencePiece(s_pieces, modelType: 2), "model type 2 is not supported" },
        { "order", SmallTokenizers.SentencePiece([("a", 0), ("b", 0), ("c", 0)]), "not <unk>, <s>, </s>" },
        { "score", SmallTokenizers.SentencePiece([.. s_pieces, ("b", float.NaN)]), "is not finite" },
        { "duplicate", SmallTokenizers.SentencePiece([.. s_pieces, ("a", 0)]), "in the vocabulary twice" },
        { "map", SmallTokenizers.SentencePiece(s_pieces, [1, 2, 3, 4, 5]), "does not fit" },
    };

    [Theory]
    [MemberData(nameof(BadSentencePieces))]
    public void A_bad_SentencePiece_model_is_refused(string what, byte[] model, string why)
    {
        using TemporaryFolder folder = new();
        folder.Write("sentencepiece.bpe.model", model);
        BgeMetalException e = Assert.Throws<BgeMetalException>(() => ModelTokenizer.Load(folder.Path));
        Assert.True(e.Message.Contains(why, StringComparison.Ordinal) && e.Message.Contains("sentencepiece.bpe.model", StringComparison.Ordinal), $"{what}: {e.Message}");
    }

    [Fact]
    public void Every_prefix_of_a_SentencePiece_model_is_refused_or_read()
    {
        byte[] model = SmallTokenizers.SentencePiece(s_pieces, SmallTokenizers.CharacterMap(('A', "a")));
        using TemporaryFolder folder = new();
        for (int length = 0; length < 120; length++)
        {
            folder.Write("sentencepiece.bpe.model", model[..length]);
            Exception? e = Record.Exception(() => ModelTokenizer.Load(folder.Path));
            Assert.True(e is null or BgeMetalException, $"{length} bytes: {e}");
        }
    }

    [Fact]
    public void A_directory_without_a_tokenizer_is_named()
    {
        using TemporaryFolder folder = new();
        Assert.Contains("there is no tokenizer.json", Assert.Throws<BgeMetalException>(() => ModelTokenizer.Load(folder.Path)).Message, StringComparison.Ordinal);
        string missing = Path.Combine(folder.Path, "none");
        Assert.Contains(missing, Assert.Throws<BgeMetalException>(() => ModelTokenizer.Load(missing)).Message, StringComparison.Ordinal);
        folder.Write("vocab.txt", "[UNK]\n[CLS]\n[SEP]\n");
        folder.Write("tokenizer_config.json", """{"do_lower_case":3}""");
        Assert.Contains("tokenizer_config.json", Assert.Throws<BgeMetalException>(() => ModelTokenizer.Load(folder.Path)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_vocabulary_of_one_huge_token_is_linear()
    {
        using TemporaryFolder folder = new();
        folder.Write("vocab.txt", Encoding.ASCII.GetBytes("[UNK]\n[CLS]\n[SEP]\n" + new string('a', 2_000_000) + "\n"));
        Assert.Equal([1, 0, 2], ModelTokenizer.Load(folder.Path).Encode(new string('a', 200)).InputIds);
    }
}
