using BgeMetal.Text;

namespace BgeMetal.Tests.Text;

public sealed class UnigramTokenizerTests
{
    private static readonly (string, double)[] s_pieces =
        [("<unk>", 0), ("\u2581", -3), ("\u2581a", -2), ("a", -4), ("b", -4), ("ab", -1.5), ("\u2581ab", -9), ("abc", -20), ("c", -5), ("\u2581\u2581", -30), ("bb", -7)];

    private const string Old = """{"type":"Sequence","pretokenizers":[{"type":"WhitespaceSplit"},{"type":"Metaspace","replacement":"\u2581","add_prefix_space":true}]}""";
    private const string New = """{"type":"Metaspace","replacement":"\u2581","prepend_scheme":"always","split":true}""";

    private static string Map(params (char, string)[] rules) =>
        $$"""{"type":"Precompiled","precompiled_charsmap":"{{Convert.ToBase64String(SmallTokenizers.CharacterMap(rules))}}"}""";

    private static string Tokens(string text, string splitter, string? normalizer = null)
    {
        ModelTokenizer tokenizer = SmallTokenizers.Load(SmallTokenizers.Json(SmallTokenizers.UnigramModel(s_pieces), normalizer ?? Map(('\t', " "), ('A', "a")), splitter));
        TokenizedText slow = tokenizer.EncodeWithOffsets(text);
        Assert.Equal(slow.InputIds, tokenizer.Encode(text).InputIds);
        return string.Join('|', slow.Tokens!);
    }

    [Theory]
    [InlineData("ab", "\u2581|ab")]
    [InlineData("a b", "\u2581a|\u2581|b")]
    [InlineData("aA", "\u2581a|a")]
    [InlineData("azzz", "\u2581a|zzz")]
    [InlineData("zzazz", "\u2581|zz|a|zz")]
    [InlineData("\U0001F600\U0001F601a", "\u2581|\U0001F600\U0001F601|a")]
    [InlineData(" \t ", "")]
    [InlineData("a  b ", "\u2581a|\u2581|b")]
    [InlineData("bb", "\u2581|bb")]
    public void The_best_cut_wins_and_unknowns_join(string text, string tokens) => Assert.Equal(tokens, Tokens(text, Old));

    [Theory]
    [InlineData(" \t ", "\u2581")]
    [InlineData("a  b ", "\u2581a|\u2581|b|\u2581")]
    [InlineData("a\tb", "\u2581a|\u2581|b")]
    public void The_new_metaspace_keeps_one_blank_of_a_run(string text, string tokens) =>
        Assert.Equal(tokens, Tokens(text, New, $$"""{"type":"Sequence","normalizers":[{{Map(('\t', " "))}},{"type":"Replace","pattern":{"Regex":" {2,}"},"content":" "}]}"""));

    [Theory]
    [InlineData("a  b  ", "\u2581a|\u2581|\u2581|b", "Strip")]
    [InlineData("a  b  ", "\u2581a|\u2581|\u2581|b|\u2581|\u2581", "None")]
    public void Without_a_replacement_every_blank_stays(string text, string tokens, string strip) => Assert.Equal(tokens, Tokens(text, New,
        strip == "None" ? Map(('\t', " ")) : $$"""{"type":"Sequence","normalizers":[{{Map(('\t', " "))}},{"type":"Strip","strip_left":false,"strip_right":true}]}"""));

    [Theory]
    [InlineData("never", "a b", "a|\u2581|b")]
    [InlineData("first", "a<x>a", "\u2581a|<x>|a")]
    [InlineData("always", "a<x>a", "\u2581a|<x>|\u2581a")]
    public void The_prepend_scheme_is_honoured(string scheme, string text, string tokens)
    {
        ModelTokenizer tokenizer = SmallTokenizers.Load(SmallTokenizers.Json(SmallTokenizers.UnigramModel(s_pieces), Map(('\t', " ")),
            $$"""{"type":"Metaspace","replacement":"\u2581","prepend_scheme":"{{scheme}}","split":true}""", added: """[{"id":11,"content":"<x>","special":true}]"""));
        TokenizedText slow = tokenizer.EncodeWithOffsets(text);
        Assert.Equal(tokens, string.Join('|', slow.Tokens!));
        Assert.Equal(slow.InputIds, tokenizer.Encode(text).InputIds);
    }

    [Fact]
    public void A_SentencePiece_model_is_read_in_the_fairseq_order()
    {
        using TemporaryFolder folder = new();
        folder.Write("sentencepiece.bpe.model", SmallTokenizers.SentencePiece(
            [("<unk>", 0), ("<s>", 0), ("</s>", 0), ("\u2581", -3f), ("\u2581a", -2f), ("b", -4f)], SmallTokenizers.CharacterMap(('A', "a"))));
        ModelTokenizer tokenizer = ModelTokenizer.Load(folder.Path);
        Assert.Equal((0, 1, 2, 3, 7), (tokenizer.ClsId, tokenizer.PadId, tokenizer.SepId, tokenizer.UnkId, tokenizer.MaskId));
        Assert.Equal([0, 5, 6, 4, 3, 6, 7, 2], tokenizer.Encode("Ab zb <mask>").InputIds);
        TokenizedText pair = tokenizer.Encode("a", "b");
        Assert.Equal([0, 5, 2, 2, 4, 6, 2], pair.InputIds);
        Assert.Equal(new int[7], pair.TokenTypeIds);
        Assert.Equal("ab b", tokenizer.Decode([0, 5, 6, 4, 6, 2]));
    }

    [Fact]
    public void A_cluster_is_mapped_by_its_shortest_rule()
    {
        Assert.Equal("\u2581a", Tokens("A\u0301", Old));
        Assert.Equal("\u2581a|\u0301\u0301\u0301", Tokens("A\u0301\u0301\u0301", Old));
    }
}
