using System.Diagnostics;
using System.Text;
using BgeMetal.Text;

namespace BgeMetal.Tests.Text;

/// <summary>What must hold for any text: the fast encoders equal the general pipeline, threads do not matter, nothing explodes.</summary>
public sealed class TokenizerInvarianceTests
{
    private static readonly string[] s_parts =
    [
        "a", "b", "ab", "Hello", " ", "  ", "\t", "\n", "\r\n", "\r", "!", "_", "\u3002", "\u6211", "\u4EEC", "\uF900", "\uFACF", "\u00E9", "e\u0301", "\u0130", "\u1E9E",
        "\u1112\u1161\u11AB", "\uD55C", "\uD55C\u0301", "\u1112", "\u302E", "\u302F", "\u0323\u0301", "\u0301\u0323", "\U0001D15F", "\U0001D165\U0001D16D", "\U0001F600",
        "\U0001F468\u200D\U0001F469", "\u00A9\uFE0F", "\u0600a", "\u0915\u094D\u0915", "\u00AD", "\u200B", "\u200D", "\uFEFF", "\uE000", "\uE001", "\uFFFD", "\u0000",
        "\u2028", "\u3000", "\u00A0", "\uFF21", "\uFF21\u0301", "\uFDFA", "\u2581", "\u2581\u2581", "[CLS]", "[MASK]", "<mask>", " <mask> ", "<s>", "##a", "\uD800", "\uDC00",
        "\U00020000", "\U0002F800", "\U00010400", "\U000E0001", "\u0378", "z\u030C\u0327", "\u226E", "\u1FEF", "\u2126", "\u037E",
    ];

    public static TheoryData<string> Shared => new("bert-base-uncased", "bert-base-chinese.cased", "xlm-roberta", "xlm-roberta.metaspace");

    [Theory]
    [MemberData(nameof(Shared))]
    public void The_fast_path_equals_the_general_pipeline_on_random_texts(string name) => CompareOnRandomTexts(SharedTokenizers.LoadOrSkip(name), 1500);

    [Theory]
    [InlineData("""{"do_lower_case":true}""")]
    [InlineData("""{"do_lower_case":false,"tokenize_chinese_chars":false}""")]
    [InlineData("""{"do_lower_case":true,"strip_accents":false}""")]
    [InlineData("""{"do_lower_case":false,"strip_accents":true}""")]
    public void The_fast_path_equals_the_general_pipeline_on_a_small_vocabulary(string config)
    {
        ModelTokenizer tokenizer = SmallTokenizers.WordPiece(config);
        Assert.True(((PipelineTokenizer)tokenizer).IsFast);
        CompareOnRandomTexts(tokenizer, 1000);
    }

    public static TheoryData<string, string> Unigrams => new()
    {
        { "old metaspace", """{"type":"Sequence","pretokenizers":[{"type":"WhitespaceSplit"},{"type":"Metaspace","replacement":"\u2581","add_prefix_space":true}]}""" },
        { "new metaspace", """{"type":"Metaspace","replacement":"\u2581","prepend_scheme":"always","split":true}""" },
    };

    [Theory]
    [MemberData(nameof(Unigrams))]
    public void The_fast_path_equals_the_general_pipeline_on_small_unigrams(string what, string splitter)
    {
        string map = $$"""{"type":"Precompiled","precompiled_charsmap":"{{Convert.ToBase64String(SmallTokenizers.CharacterMap(('\t', " "), ('\n', " "), ('!', ""), ('H', "hhh"), ('\r', "  ")))}}"}""";
        string model = SmallTokenizers.UnigramModel(("<unk>", 0), ("\u2581", -3), ("\u2581a", -2), ("a", -4), ("b", -4), ("ab", -1.5), ("hh", -2), ("\u2581\u2581", -1));
        string[] normalizers =
        [
            map,
            $$"""{"type":"Sequence","normalizers":[{{map}},{"type":"Replace","pattern":{"Regex":" {2,}"},"content":" "}]}""",
            $$"""{"type":"Sequence","normalizers":[{{map}},{"type":"Strip","strip_left":true,"strip_right":true},{"type":"Replace","pattern":{"Regex":" {2,}"},"content":"\u2581"}]}""",
        ];
        string[] added =
        [
            "[]",
            """[{"id":8,"content":"<mask>","lstrip":true,"normalized":true},{"id":5,"content":"ab","rstrip":true,"single_word":true,"normalized":true},{"id":9,"content":"<s>","rstrip":true}]""",
        ];
        foreach (string normalizer in normalizers)
        {
            foreach (string tokens in added)
            {
                ModelTokenizer tokenizer = SmallTokenizers.Load(SmallTokenizers.Json(model, normalizer, splitter, added: tokens));
                Assert.True(((PipelineTokenizer)tokenizer).IsFast, what);
                CompareOnRandomTexts(tokenizer, 400);
            }
        }
    }

    [Fact]
    public void The_fast_path_equals_the_general_pipeline_with_normalized_tokens()
    {
        ModelTokenizer tokenizer = SmallTokenizers.Load(SmallTokenizers.Json(SmallTokenizers.WordPieceModel(SmallTokenizers.WordPieces),
            """{"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":true,"strip_accents":null,"lowercase":true}""", """{"type":"BertPreTokenizer"}""",
            added: """[{"id":100,"content":"HELLO","normalized":true},{"id":101,"content":"ab","lstrip":true,"rstrip":true,"normalized":true},{"id":102,"content":"\u00E9","single_word":true}]"""));
        Assert.True(((PipelineTokenizer)tokenizer).IsFast);
        CompareOnRandomTexts(tokenizer, 1000);
    }

    private static string RandomText(Random random)
    {
        StringBuilder text = new();
        for (int parts = random.Next(1, 30); parts > 0; parts--) text.Append(s_parts[random.Next(s_parts.Length)]);
        if (random.Next(200) == 0)
            for (int i = 0; i < 3000; i++) text.Append(s_parts[random.Next(s_parts.Length)]);
        return text.ToString();
    }

    private static void CompareOnRandomTexts(ModelTokenizer tokenizer, int count)
    {
        Random random = new(7);
        TokenBuffer buffer = default;
        for (int i = 0; i < count; i++)
        {
            string text = RandomText(random);
            string? pair = random.Next(3) == 0 ? RandomText(random) : null;
            int? maxLength = random.Next(2) == 0 ? random.Next(4, 40) : null;
            TokenizedText slow = tokenizer.EncodeWithOffsets(text, pair, true, maxLength), fast = tokenizer.Encode(text, pair, true, maxLength);
            Assert.True(slow.InputIds.SequenceEqual(fast.InputIds), $"text {i}: {Show(text)} | {Show(pair)}\n{string.Join(' ', slow.InputIds)}\n{string.Join(' ', fast.InputIds)}");
            Assert.Equal(slow.TokenTypeIds, fast.TokenTypeIds);
            Assert.Equal(fast.InputIds.Length, slow.Offsets!.Length);
            Assert.Equal(fast.InputIds.Length, slow.Tokens!.Length);
            if (pair is not null) continue;
            buffer.Clear();
            tokenizer.EncodeTo(text, maxLength ?? 0, ref buffer);
            Assert.True(buffer.Ids.SequenceEqual(fast.InputIds), $"EncodeTo, text {i}: {Show(text)}");
        }
    }

    private static string Show(string? text) => text is null ? "-" : string.Concat(text.Select(c => c is >= ' ' and <= '~' ? c.ToString() : $"\\u{(int)c:X4}"));

    [Fact]
    public void Many_threads_give_what_one_gives()
    {
        ModelTokenizer tokenizer = SmallTokenizers.Load(SmallTokenizers.Json(
            SmallTokenizers.UnigramModel(("<unk>", 0), ("\u2581", -3), ("\u2581a", -2), ("a", -4), ("b", -4), ("ab", -1.5)),
            $$"""{"type":"Precompiled","precompiled_charsmap":"{{Convert.ToBase64String(SmallTokenizers.CharacterMap(('\t', " ")))}}"}""",
            """{"type":"Metaspace","replacement":"\u2581","prepend_scheme":"always","split":true}"""));
        Random random = new(3);
        string[] texts = [.. Enumerable.Range(0, 400).Select(_ => RandomText(random))];
        int[][] expected = [.. texts.Select(text => tokenizer.EncodeWithOffsets(text).InputIds)];
        Parallel.For(0, 4000, i => Assert.Equal(expected[i % 400], tokenizer.Encode(texts[i % 400]).InputIds));
    }

    [Fact]
    public void A_warm_EncodeTo_allocates_nothing()
    {
        ModelTokenizer tokenizer = SmallTokenizers.WordPiece();
        TokenBuffer buffer = new(1024);
        string text = string.Concat(Enumerable.Repeat("Hello unaffable \u6211\u4EEC, caf\u00E9! ", 40));
        void Run()
        {
            buffer.Clear();
            tokenizer.EncodeTo(text, 512, ref buffer);
        }
        // Unoptimised code boxes what optimised code does not, and a busy machine compiles late: warm is when the JIT is done.
        long allocated = -1;
        for (int attempt = 0; attempt < 1500 && allocated != 0; attempt++)
        {
            long before = GC.GetAllocatedBytesForCurrentThread();
            for (int i = 0; i < 50; i++) Run();
            allocated = GC.GetAllocatedBytesForCurrentThread() - before;
            if (allocated != 0) Thread.Sleep(20);
        }
        Assert.Equal(0, allocated);
        Assert.True(buffer.Count > 300);
    }

    public static TheoryData<string, string, int> Repeated => new()
    {
        { "one word", "a", 10_000_000 },
        { "ideographs", "\u6211", 3_000_000 },
        { "marks", "\u0301", 1_000_000 },
        { "Hangul", "\u1112\u1161", 500_000 },
        { "blanks", " ", 5_000_000 },
        { "blanks and literal tokens", "    [MASK]", 300_000 },
        { "half literal tokens", "[MAS", 1_000_000 },
        { "lone surrogates", "\uD800", 2_000_000 },
        { "zeros", "\0", 2_000_000 },
        { "emoji", "\U0001F468\u200D", 500_000 },
    };

    [Theory]
    [MemberData(nameof(Repeated))]
    public void A_huge_monotonous_text_takes_linear_time(string what, string part, int count)
    {
        string text = new StringBuilder(part.Length * count).Insert(0, part, count).ToString();
        foreach (ModelTokenizer tokenizer in (ModelTokenizer[])[SmallTokenizers.WordPiece(), Unigram()])
        {
            Stopwatch clock = Stopwatch.StartNew();
            TokenBuffer buffer = default;
            tokenizer.EncodeTo(text, 0, ref buffer);
            Assert.True(buffer.Count >= 2, what);
            tokenizer.EncodeTo(text, 512, ref buffer);
            Assert.True(clock.Elapsed < TimeSpan.FromSeconds(30), $"{what}: {clock.Elapsed}");
        }
    }

    private static ModelTokenizer Unigram()
    {
        using TemporaryFolder folder = new();
        folder.Write("sentencepiece.bpe.model", SmallTokenizers.SentencePiece(
            [("<unk>", 0), ("<s>", 0), ("</s>", 0), ("\u2581", -3f), ("a", -2f), ("aa", -2.5f), ("\u6211", -4f)], SmallTokenizers.CharacterMap(('A', "a"))));
        return ModelTokenizer.Load(folder.Path);
    }

    [Theory]
    [InlineData(7, 5, 6)]
    [InlineData(5, 7, 6)]
    [InlineData(1, 9, 6)]
    [InlineData(9, 1, 6)]
    [InlineData(9, 9, 7)]
    [InlineData(10, 9, 7)]
    [InlineData(3, 3, 1)]
    public void The_longest_is_cut_first(int first, int second, int limit)
    {
        (int a, int b) = (first, second);
        while (a + b > limit)
        {
            if (a > b) a--;
            else b--;
        }
        if (Math.Min(first, second) > limit / 2) (a, b) = first > second ? (limit - limit / 2, limit / 2) : (limit / 2, limit - limit / 2);
        Assert.Equal((a, b), PairTruncation.Lengths(first, second, limit, TruncationStrategy.LongestFirst));
    }
}
