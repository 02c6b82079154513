using BgeMetal.Text;

namespace BgeMetal.Tests.Text;

public sealed class WordPieceTokenizerTests
{
    private static string Tokens(ModelTokenizer tokenizer, string text)
    {
        TokenizedText fast = tokenizer.Encode(text, addSpecialTokens: false), slow = tokenizer.EncodeWithOffsets(text, addSpecialTokens: false);
        Assert.Equal(slow.InputIds, fast.InputIds);
        return string.Join(' ', fast.InputIds.Select(tokenizer.IdToToken));
    }

    [Theory]
    [InlineData("unaffable", "un ##aff ##able")]
    [InlineData("HELLO, World!", "hello , world !")]
    [InlineData("Caf\u00E9", "cafe")]
    [InlineData("Cafe\u0301", "cafe")]
    [InlineData("\u6211\u4EECa", "\u6211 \u4EEC a")]
    [InlineData("hello\tworld\r\nhello", "hello world hello")]
    [InlineData("he\u00ADllo", "hello")]
    [InlineData("he\u0000llo\uFFFD", "hello")]
    [InlineData("a_b", "a _ b")]
    [InlineData("zzz a", "[UNK] a")]
    [InlineData("az", "[UNK]")]
    [InlineData("\uD55C", "\u1112 ##\u1161 ##\u11AB")]
    [InlineData("\u0130", "i")]
    [InlineData("\u2028a", "a")]
    [InlineData("[MASK]a[mask]", "[MASK] a [UNK] [UNK] [UNK]")]
    [InlineData("", "")]
    public void An_uncased_vocabulary_alone_cleans_and_splits_like_BERT(string text, string tokens) => Assert.Equal(tokens, Tokens(SmallTokenizers.WordPiece(), text));

    [Theory]
    [InlineData("Hello Caf\u00E9", "Hello [UNK]")]
    [InlineData("hello caf\u00E9", "hello caf\u00E9")]
    public void A_cased_config_keeps_case_and_accents(string text, string tokens) =>
        Assert.Equal(tokens, Tokens(SmallTokenizers.WordPiece("""{"do_lower_case":false,"strip_accents":null}"""), text));

    [Fact]
    public void Accents_may_be_kept_while_lower_casing()
    {
        ModelTokenizer tokenizer = SmallTokenizers.WordPiece("""{"do_lower_case":true,"strip_accents":false}""");
        Assert.Equal("caf\u00E9 hello", Tokens(tokenizer, "CAF\u00C9 Hello"));
    }

    [Fact]
    public void Ideographs_may_stay_in_their_words()
    {
        ModelTokenizer tokenizer = SmallTokenizers.WordPiece("""{"tokenize_chinese_chars":false}""");
        Assert.Equal("[UNK]", Tokens(tokenizer, "\u6211\u4EEC"));
        Assert.Equal("\u6211", Tokens(tokenizer, "\u6211"));
    }

    [Fact]
    public void An_explicit_config_overrides_tokenizer_json()
    {
        using TemporaryFolder folder = new();
        folder.Write("tokenizer.json", SmallTokenizers.Json(SmallTokenizers.WordPieceModel("[UNK]", "a", "A"),
            """{"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":true,"strip_accents":null,"lowercase":true}""", """{"type":"BertPreTokenizer"}"""));
        Assert.Equal("a a", Tokens(ModelTokenizer.Load(folder.Path), "a A"));
        folder.Write("tokenizer_config.json", """{"do_lower_case":false}""");
        Assert.Equal("a A", Tokens(ModelTokenizer.Load(folder.Path), "a A"));
    }

    [Fact]
    public void Special_tokens_take_their_names_from_the_config_and_their_ids_from_the_vocabulary()
    {
        using TemporaryFolder folder = new();
        folder.Write("vocab.txt", "<u>\n<c>\n<e>\n<m>\n<p>\na\n<x>\n");
        folder.Write("special_tokens_map.json", """{"unk_token":"<u>","cls_token":{"content":"<c>","lstrip":false},"sep_token":"wrong","additional_special_tokens":["<x>","<new>"]}""");
        folder.Write("tokenizer_config.json", """{"sep_token":"<e>","mask_token":"<m>","pad_token":"<p>"}""");
        ModelTokenizer tokenizer = ModelTokenizer.Load(folder.Path);
        Assert.Equal((0, 1, 2, 3, 4), (tokenizer.UnkId, tokenizer.ClsId, tokenizer.SepId, tokenizer.MaskId, tokenizer.PadId));
        Assert.Equal([1, 5, 3, 6, 7, 0, 2], tokenizer.Encode("a<m><x><new>z").InputIds);
        Assert.Equal(8, tokenizer.VocabularySize);
        Assert.Equal(3, tokenizer.Files.Count);
    }

    [Fact]
    public void Tokens_added_later_are_found_in_any_of_their_files()
    {
        using TemporaryFolder folder = new();
        folder.Write("vocab.txt", "[UNK]\n[CLS]\n[SEP]\na\n");
        folder.Write("added_tokens.json", """{"<old>":4}""");
        folder.Write("tokenizer_config.json", """{"added_tokens_decoder":{"1":{"content":"[CLS]","special":true},"5":{"content":"<new>","lstrip":true,"special":false}}}""");
        ModelTokenizer tokenizer = ModelTokenizer.Load(folder.Path);
        Assert.Equal([1, 3, 4, 5, 3, 2], tokenizer.Encode("a<old> <new>a").InputIds);
        folder.Write("added_tokens.json", """{"<old>":3}""");
        Assert.Contains("'<old>' has id 3", Assert.Throws<BgeMetalException>(() => ModelTokenizer.Load(folder.Path)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_vocabulary_line_ends_at_a_line_feed_alone()
    {
        ModelTokenizer tokenizer = SmallTokenizers.WordPiece();
        Assert.Equal(SmallTokenizers.WordPieces.Length, tokenizer.VocabularySize);
        Assert.Equal(Array.IndexOf(SmallTokenizers.WordPieces, "\u2028"), tokenizer.TokenToId("\u2028"));
    }

    [Theory]
    [InlineData(100, "a ##b*99")]
    [InlineData(101, "[UNK]")]
    public void A_word_longer_than_the_limit_is_unknown(int length, string kind)
    {
        int[] ids = SmallTokenizers.WordPiece().Encode("a" + new string('b', length - 1), addSpecialTokens: false).InputIds;
        Assert.Equal(kind == "[UNK]" ? 1 : 100, ids.Length);
    }

    [Fact]
    public void Pairs_carry_type_ids_and_truncate_in_three_ways()
    {
        ModelTokenizer tokenizer = SmallTokenizers.WordPiece();
        TokenizedText pair = tokenizer.Encode("a a", "b");
        Assert.Equal([2, 18, 18, 3, 19, 3], pair.InputIds);
        Assert.Equal([0, 0, 0, 0, 1, 1], pair.TokenTypeIds);
        Assert.Equal([1, 0, 0, 1, 0, 1], pair.SpecialTokensMask);
        Assert.Equal([2, 18, 18, 18, 3, 19, 19, 3], tokenizer.Encode("a a a a a", "b b", maxLength: 8).InputIds);
        Assert.Equal([2, 18, 3, 19, 19, 3], tokenizer.Encode("a a a a a", "b b", maxLength: 6, truncation: TruncationStrategy.OnlyFirst).InputIds);
        Assert.Equal([18, 18, 18, 19], tokenizer.Encode("a a a", "b b", false, 4, TruncationStrategy.OnlySecond).InputIds);
        Assert.Equal([18, 18, 18, 19, 19], tokenizer.Encode("a a a", "b b", false, 4, TruncationStrategy.None).InputIds);
        Assert.Equal([2, 3, 3], tokenizer.Encode("a", "b", maxLength: 3).InputIds);
    }

    [Theory]
    [InlineData("a a a", "b", 4, TruncationStrategy.OnlySecond, "the second text has 1 tokens")]
    [InlineData("a", "b b b b", 4, TruncationStrategy.OnlyFirst, "the first text has 1 tokens")]
    [InlineData("a a a a", null, 3, TruncationStrategy.OnlySecond, "there is none")]
    [InlineData("a", "b", 2, TruncationStrategy.LongestFirst, "no room for the 3 special tokens")]
    public void An_impossible_truncation_says_why(string text, string? pair, int maxLength, TruncationStrategy strategy, string why)
    {
        ModelTokenizer tokenizer = SmallTokenizers.WordPiece();
        Assert.Contains(why, Assert.Throws<BgeMetalException>(() => tokenizer.Encode(text, pair, true, maxLength, strategy)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Offsets_count_code_points_of_the_original_text()
    {
        TokenizedText text = SmallTokenizers.WordPiece().EncodeWithOffsets("\U0001F600 Cafe\u0301s \u6211");
        Assert.Equal(["[CLS]", "[UNK]", "cafe", "##s", "\u6211", "[SEP]"], text.Tokens!);
        Assert.Equal([(0, 0), (0, 1), (2, 6), (7, 8), (9, 10), (0, 0)], text.Offsets!);
    }

    [Fact]
    public void Added_tokens_obey_their_flags()
    {
        const string Added = """
            [{"id":1,"content":"<l>","lstrip":true,"rstrip":false,"single_word":false,"normalized":false,"special":true},
             {"id":2,"content":"<r>","lstrip":false,"rstrip":true,"single_word":false,"normalized":false,"special":true},
             {"id":3,"content":"word","lstrip":false,"rstrip":false,"single_word":true,"normalized":false,"special":false},
             {"id":4,"content":"DAY","lstrip":false,"rstrip":false,"single_word":false,"normalized":true,"special":false},
             {"id":5,"content":"<r>x","lstrip":false,"rstrip":false,"single_word":false,"normalized":false,"special":true}]
            """;
        ModelTokenizer tokenizer = SmallTokenizers.Load(SmallTokenizers.Json(SmallTokenizers.WordPieceModel("[UNK]"),
            """{"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":true,"strip_accents":null,"lowercase":true}""", """{"type":"BertPreTokenizer"}""", added: Added));
        (string Text, string Tokens)[] cases = [("a  <l>b", "a|  <l>|b"), ("a<r>  b", "a|<r>  |b"), ("word sword word.", "word|sword|word|."), ("Monday", "mon|day"), ("a<r>xb", "a|<r>x|b")];
        foreach ((string text, string tokens) in cases)
        {
            TokenizedText got = tokenizer.EncodeWithOffsets(text);
            Assert.Equal(got.InputIds, tokenizer.Encode(text).InputIds);
            Assert.Equal(tokens.Split('|').Length, got.InputIds.Length);
            Assert.Equal(tokens.Split('|').Select(token => tokenizer.TokenToId(token.Trim().Replace("day", "DAY", StringComparison.Ordinal)) is var id and > 0 ? id : 0), got.InputIds);
        }
    }

    [Fact]
    public void The_members_of_the_base_class_work_on_the_text_alone()
    {
        ModelTokenizer tokenizer = SmallTokenizers.WordPiece();
        Assert.Equal([5, 6, 7, 15], tokenizer.EncodeToIds("Unaffable!"));
        Assert.Equal(4, tokenizer.CountTokens("Unaffable!"));
        Assert.Equal(["un", "##aff"], tokenizer.EncodeToTokens("Unaffable!", out _).Take(2).Select(token => token.Value));
        Assert.Equal(2..5, tokenizer.EncodeToTokens("Unaffable!", out _)[1].Offset);
        Assert.Equal("unaffable !", tokenizer.Decode([2, 5, 6, 7, 15, 3]));
        Assert.Equal(5, tokenizer.GetIndexByTokenCount("unaffable!", 2, out _, out int count));
        Assert.Equal(2, count);
        Assert.Equal("hello", tokenizer.Normalizer!.Normalize("HELLO"));
        Assert.Equal([(0, 1), (1, 1), (3, 2)], tokenizer.PreTokenizer!.PreTokenize("a, bc"));
    }
}
