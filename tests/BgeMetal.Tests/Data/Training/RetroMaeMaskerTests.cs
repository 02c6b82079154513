using System.Text.Json;
using BgeMetal.Data;
using BgeMetal.Data.Training;
using BgeMetal.Testing;
using BgeMetal.Tests.Text;
using BgeMetal.Text;

namespace BgeMetal.Tests.Data.Training;

/// <summary>RetroMAE's masks: numbers against the reference's table, shares over many draws, and what may never be masked.</summary>
public sealed class RetroMaeMaskerTests
{
    private const int Cls = 2, Sep = 3, Unk = 1, Mask = 4, First = 5;
    private const int VocabularySize = 60;

    /// <summary>Ids from 5 are words, but every third one (7, 10, 13, ..) goes on with the word before it.</summary>
    private static readonly string[] s_vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]",
        .. Enumerable.Range(First, VocabularySize - First).Select(id => IsPiece(id) ? $"##p{id}" : $"w{id}")];

    private static readonly WordPieces s_pieces = WordPieces.Of(SmallTokenizers.WordPiece(vocabulary: s_vocabulary), VocabularySize);

    [Fact]
    public void The_number_of_predictions_is_the_references()
    {
        string path = SharedFolder.FixtureOrSkip("masking", "expected.json");
        using JsonDocument expected = JsonDocument.Parse(File.ReadAllBytes(path));
        JsonElement[] table = [.. expected.RootElement.GetProperty("predictions_table").EnumerateArray()];
        Assert.NotEmpty(table);
        foreach (JsonElement row in table)
        {
            int length = row.GetProperty("length").GetInt32(), masked = row.GetProperty("masked").GetInt32();
            double probability = row.GetProperty("probability").GetDouble();
            int[] text = [Cls, .. Enumerable.Range(0, length - 2).Select(i => First + (i % 2)), Sep];
            Assert.Equal(masked, Draw(text, 0, encoder: probability).EncoderRows.Length);
        }
    }

    [Fact]
    public void Shares_over_many_draws_are_the_references()
    {
        const int Draws = 100_000;
        int[] text = [Cls, .. Enumerable.Range(0, 40).Select(i => First + (i * 7 % (VocabularySize - First))), Sep];
        long labels = 0, hidden = 0, replaced = 0, kept = 0, invisible = 0, pairs = 0;
        for (int draw = 0; draw < Draws; draw++)
        {
            RetroMaeBatch batch = Draw(text, draw);
            AssertLegal(text, batch, checkRows: draw < 200);
            ReadOnlySpan<int> masked = batch.Masked[0].Ids.Span;
            labels += batch.EncoderRows.Length;
            foreach (int row in batch.EncoderRows)
            {
                if (masked[row] == Mask) hidden++;
                else if (masked[row] == text[row]) kept++;
                else replaced++;
            }
            if (draw % 50 != 0) continue;
            for (int row = 0; row < text.Length; row++)
                for (int key = 1; key < text.Length - 1; key++)
                {
                    if (row == key) continue;
                    pairs++;
                    if (!Sees(batch, row, key)) invisible++;
                }
        }
        double words = text.Length * 0.3;
        Assert.InRange((double)labels / Draws, Math.Round(words) - 1.2, Math.Round(words));
        double random = 0.1 * (1 - (1.0 / VocabularySize));
        Assert.Equal(0.8 + (0.1 / VocabularySize), (double)hidden / labels, 2e-3);
        Assert.Equal(random - (0.1 / VocabularySize), (double)replaced / labels, 2e-3);
        Assert.Equal(0.1 + (0.1 / VocabularySize), (double)kept / labels, 2e-3);
        Assert.Equal(21.0 / 40, (double)invisible / pairs, 0.02);
    }

    [Fact]
    public void Over_100_000_sampled_texts_every_rule_holds_and_every_word_has_the_same_chance()
    {
        const int Texts = 100_000;
        Random random = new(5);
        List<(int Start, int Length)> words = [];
        double[] surplus = new double[3];
        long labels = 0, hidden = 0, kept = 0, compared = 0;
        for (int row = 0; row < Texts; row++)
        {
            int[] text = [Cls, .. Enumerable.Range(0, random.Next(1, 60)).Select(_ => random.Next(20) == 0 ? Unk : random.Next(First, VocabularySize)), Sep];
            RetroMaeBatch batch = Draw(text, row);
            HashSet<int> chosen = [.. batch.EncoderRows];
            s_pieces.Split(text, words);
            int limit = RetroMaeMasker.Predictions(text.Length, 0.3);
            Assert.DoesNotContain(batch.EncoderRows, place => text[place] is Cls or Sep or Unk);
            foreach ((int start, int length) in words)
                Assert.True(Enumerable.Range(start, length).Where(i => text[i] != Unk).Select(chosen.Contains).Distinct().Count() <= 1, "half a word was chosen");
            if (!text.Contains(Unk)) Assert.All(words.Where(word => !chosen.Contains(word.Start)), word => Assert.True(chosen.Count + word.Length > limit, "a word that fits was left out"));
            Assert.True(chosen.Count <= limit);
            for (int i = 0; i < text.Length; i++)
            {
                Assert.False(Sees(batch, i, i));
                Assert.True((i == 0 || Sees(batch, i, 0)) && (i == text.Length - 1 || Sees(batch, i, text.Length - 1)));
            }
            foreach (int place in chosen) (labels, hidden, kept) = Count(batch.Masked[0].Ids.Span[place], text[place], labels, hidden, kept);
            (int Start, int Length)[] single = [.. words.Where(word => word.Length == 1 && text[word.Start] != Unk)];
            if (single.Length < 3) continue;
            compared++;
            double share = (double)single.Count(word => chosen.Contains(word.Start)) / single.Length;
            for (int i = 0; i < 3; i++) surplus[i] += (chosen.Contains(single[i * (single.Length - 1) / 2].Start) ? 1 : 0) - share;
        }
        Assert.All(surplus, sum => Assert.Equal(0, sum / compared, 0.008));
        Assert.Equal(0.8 + (0.1 / VocabularySize), (double)hidden / labels, 2e-3);
        Assert.Equal(0.1 + (0.1 / VocabularySize), (double)kept / labels, 2e-3);
    }

    [Fact]
    public void The_shares_of_single_piece_words_meet_the_measured_reference()
    {
        string path = SharedFolder.FixtureOrSkip("masking", "expected.json");
        using JsonDocument expected = JsonDocument.Parse(File.ReadAllBytes(path));
        JsonElement measured = expected.RootElement.GetProperty("measured");
        int[] text = [Cls, .. Enumerable.Repeat(First, measured.GetProperty("sequence_length").GetInt32() - 2), Sep];
        long labels = 0, invisible = 0, pairs = 0;
        for (int draw = 0; draw < 100; draw++)
        {
            RetroMaeBatch batch = Draw(text, draw);
            labels += batch.EncoderRows.Length;
            for (int row = 0; row < text.Length; row++)
                for (int key = 0; key < text.Length; key++)
                    if (row != key && ++pairs > 0 && !Sees(batch, row, key)) invisible++;
        }
        Assert.Equal(measured.GetProperty("encoder_masked_mean").GetDouble(), labels / 100.0);
        Assert.Equal(measured.GetProperty("decoder_hidden_share_off_diagonal").GetDouble(), (double)invisible / pairs, 0.005);
    }

    [Fact]
    public void Unknown_words_use_up_their_share_and_are_labels_of_the_decoder_only()
    {
        int[] text = [Cls, .. Enumerable.Range(0, 60).Select(i => i % 2 == 0 ? Unk : First), Sep];
        long labels = 0;
        for (int draw = 0; draw < 500; draw++)
        {
            RetroMaeBatch batch = Draw(text, draw);
            Assert.DoesNotContain(Unk, batch.EncoderLabels);
            Assert.Equal(30, batch.DecoderLabels.Count(label => label == Unk));
            labels += batch.EncoderRows.Length;
        }
        Assert.Equal(9.5, labels / 500.0, 0.4);
    }

    [Fact]
    public void A_draw_depends_on_seed_epoch_and_row_and_on_nothing_else()
    {
        int[] text = [Cls, .. Enumerable.Range(First, 30), Sep], other = [Cls, 8, 9, Sep];
        RetroMaeMasker masker = new(s_pieces, 0.3, 0.5, 1);
        RetroMaeBatch alone = masker.Mask(Batch(3, (text, 7))), second = masker.Mask(Batch(3, (other, 2), (text, 7)));
        Assert.Equal(alone.Masked[0].Ids.ToArray(), second.Masked[1].Ids.ToArray());
        Assert.Equal(alone.Visible, second.Visible[second.VisibleStarts[1]..]);
        Assert.Equal(alone.EncoderRows, second.EncoderRows.Where(row => row >= 4).Select(row => row - 4));
        Assert.NotEqual(alone.Visible, masker.Mask(Batch(4, (text, 7))).Visible);
        Assert.NotEqual(alone.Visible, masker.Mask(Batch(3, (text, 8))).Visible);
        Assert.NotEqual(alone.Visible, new RetroMaeMasker(s_pieces, 0.3, 0.5, 2).Mask(Batch(3, (text, 7))).Visible);
    }

    [Fact]
    public void A_text_picks_its_rows_from_at_most_128_masks()
    {
        int[] text = [Cls, .. Enumerable.Repeat(First, 498), Sep];
        RetroMaeBatch batch = Draw(text, 0);
        HashSet<string> masks = [];
        for (int row = 0; row < text.Length; row++)
        {
            ulong[] bits = batch.Visible[(row * 8)..((row + 1) * 8)];
            Assert.Equal(0UL, bits[row / 64] & (1UL << (row % 64)));
            if (row >= 64) masks.Add($"{bits[0]:x}");      // these rows hide their own place in a later word
        }
        Assert.InRange(masks.Count, 100, 128);
    }

    [Theory]
    [InlineData(new[] { Cls })]
    [InlineData(new[] { Cls, Sep })]
    [InlineData(new[] { Cls, First, Sep })]
    public void Short_texts_are_masked_without_harm(int[] text) => AssertLegal(text, Draw(text, 0), checkRows: true);

    [Fact]
    public void SentencePiece_words_begin_at_the_mark_and_unspaced_scripts_stand_alone()
    {
        ModelTokenizer tokenizer = SmallTokenizers.Load(SmallTokenizers.Json(
            SmallTokenizers.UnigramModel(("<unk>", 0), ("\u2581good", -1), ("ness", -2), (",", -2), ("\u6211", -2), ("\u2581day", -1), ("<mask>", -9), ("\u2581", -3)),
            added: """[{"id":6,"content":"<mask>","special":true,"single_word":false,"lstrip":false,"rstrip":false,"normalized":false}]"""));
        Assert.SkipWhen(tokenizer.MaskId < 0, "this tokenizer.json names no mask token");
        List<(int, int)> words = [];
        WordPieces.Of(tokenizer, 8).Split([1, 2, 3, 4, 2, 2, 5], words);
        Assert.Equal([(0, 2), (2, 1), (3, 1), (4, 2), (6, 1)], words);
    }

    private static (long Labels, long Hidden, long Kept) Count(int masked, int original, long labels, long hidden, long kept) =>
        (labels + 1, hidden + (masked == Mask ? 1 : 0), kept + (masked == original ? 1 : 0));

    private static bool IsPiece(int id) => id % 3 == 1;

    private static RetroMaeBatch Draw(int[] text, int row, double encoder = 0.3) => new RetroMaeMasker(s_pieces, encoder, 0.5, 42).Mask(Batch(0, (text, row)));

    private static TextBatch Batch(int epoch, params (int[] Text, int Row)[] rows) => new()
    {
        Epoch = epoch,
        Index = 0,
        Texts = [.. rows.Select(row => new TokenSequence(row.Text))],
        Rows = rows.Select(row => row.Row).ToArray(),
        Places = [.. rows.Select(row => new RowPlace("test", row.Row))],
        Tokens = rows.Sum(row => row.Text.Length),
    };

    private static bool Sees(RetroMaeBatch batch, int row, int key)
    {
        int words = (batch.Original[0].Length + 63) / 64;
        return ((batch.Visible[(row * words) + (key / 64)] >> (key % 64)) & 1) != 0;
    }

    /// <summary>Whole words only, no special token, own position never visible, ends visible to all others.</summary>
    private static void AssertLegal(int[] text, RetroMaeBatch batch, bool checkRows)
    {
        HashSet<int> chosen = [.. batch.EncoderRows];
        for (int i = 0; i < text.Length; i++)
        {
            if (text[i] is Cls or Sep) Assert.DoesNotContain(i, chosen);
            if (!chosen.Contains(i)) Assert.Equal(text[i], batch.Masked[0].Ids.Span[i]);
            if (i > 1 && text[i] >= First && IsPiece(text[i]) && text[i - 1] >= First) Assert.Equal(chosen.Contains(i - 1), chosen.Contains(i));
        }
        Assert.Equal(text[1..Math.Max(1, text.Length - 1)], batch.DecoderLabels);
        for (int row = 0; row < text.Length && checkRows; row++)
        {
            Assert.False(Sees(batch, row, row));
            if (row > 0) Assert.True(Sees(batch, row, 0));
            if (row < text.Length - 1) Assert.True(Sees(batch, row, text.Length - 1));
        }
    }
}
