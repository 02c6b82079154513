using System.Runtime.InteropServices;
using BgeMetal.Tensors;

namespace BgeMetal.Data.Training;

/// <summary>
/// Draws RetroMAE's masks as FlagEmbedding's RetroMAECollator does: whole words up to a share of the tokens for the encoder (80 % hidden, 10 % replaced, 10 %
/// kept), and for the decoder up to 128 whole-word masks a text, one of which each position picks. A text's masks depend on seed, epoch and row alone.
/// </summary>
internal sealed class RetroMaeMasker(WordPieces pieces, double encoderProbability, double decoderProbability, int seed)
{
    private const int MostPredictions = 512;
    private const int MostDecoderMasks = 128;

    /// <summary>How many tokens of a text are chosen if its words allow it: between 1 and 512, a half rounded to even as in Python.</summary>
    public static int Predictions(int length, double probability) => Math.Min(MostPredictions, Math.Max(1, (int)Math.Round(length * probability)));

    /// <summary>The masks of a batch.</summary>
    public RetroMaeBatch Mask(TextBatch batch)
    {
        Collected collected = new(batch.Texts.Count);
        List<(int Start, int Length)> words = [];
        for (int i = 0; i < batch.Texts.Count; i++)
        {
            TokenSequence text = batch.Texts[i];
            CounterRandom random = new(seed, RandomPurpose.Masks, batch.Epoch, batch.Rows.Span[i]);
            pieces.Split(text.Ids.Span, words);
            int[] order = [.. Enumerable.Range(0, words.Count)];
            collected.Masked[i] = new TokenSequence(Encoder(text.Ids.Span, words, order, ref random, collected));
            Decoder(text.Ids.Span, words, order, ref random, collected);
            collected.FirstRow += text.Length;
        }
        return new RetroMaeBatch
        {
            Masked = collected.Masked,
            Original = batch.Texts,
            EncoderRows = [.. collected.EncoderRows],
            EncoderLabels = [.. collected.EncoderLabels],
            DecoderRows = [.. collected.DecoderRows],
            DecoderLabels = [.. collected.DecoderLabels],
            Visible = [.. collected.Visible],
            VisibleStarts = [.. collected.VisibleStarts],
            Places = batch.Places,
            Tokens = batch.Tokens,
        };
    }

    private int[] Encoder(ReadOnlySpan<int> ids, List<(int Start, int Length)> words, int[] order, ref CounterRandom random, Collected collected)
    {
        int[] masked = ids.ToArray();
        ulong[] chosen = new ulong[(ids.Length + 63) / 64];
        Choose(words, order, Predictions(ids.Length, encoderProbability), ref random, chosen);
        for (int i = 0; i < ids.Length; i++)
        {
            if ((chosen[i / 64] >> (i % 64) & 1) == 0 || !pieces.IsLabel(ids[i])) continue;
            collected.EncoderRows.Add(collected.FirstRow + i);
            collected.EncoderLabels.Add(ids[i]);
            double fate = random.Uniform();
            if (fate < 0.8) masked[i] = pieces.MaskId;
            else if (fate < 0.9) masked[i] = random.Below(pieces.VocabularySize);
        }
        return masked;
    }

    private void Decoder(ReadOnlySpan<int> ids, List<(int Start, int Length)> words, int[] order, ref CounterRandom random, Collected collected)
    {
        int length = ids.Length, rowWords = (length + 63) / 64, masks = Math.Min(length, MostDecoderMasks), predictions = Predictions(length, decoderProbability);
        for (int i = 1; i < length - 1; i++)
        {
            collected.DecoderRows.Add(collected.FirstRow + i);
            collected.DecoderLabels.Add(ids[i]);
        }
        ulong[] hidden = new ulong[masks * rowWords];
        for (int mask = 0; mask < masks; mask++) Choose(words, order, predictions, ref random, hidden.AsSpan(mask * rowWords, rowWords));
        collected.VisibleStarts.Add(collected.Visible.Count);
        CollectionsMarshal.SetCount(collected.Visible, checked(collected.Visible.Count + (length * rowWords)));
        Span<ulong> visible = CollectionsMarshal.AsSpan(collected.Visible)[collected.VisibleStarts[^1]..];
        for (int row = 0; row < length; row++)
        {
            ReadOnlySpan<ulong> mask = hidden.AsSpan(random.Below(masks) * rowWords, rowWords);
            Span<ulong> bits = visible.Slice(row * rowWords, rowWords);
            for (int w = 0; w < rowWords; w++) bits[w] = ~mask[w];
            if (length % 64 != 0) bits[^1] &= (1UL << (length % 64)) - 1;
            bits[row / 64] &= ~(1UL << (row % 64));
        }
    }

    // Words in random order, each taken unless it would exceed the number.
    private static void Choose(List<(int Start, int Length)> words, int[] order, int predictions, ref CounterRandom random, Span<ulong> chosen)
    {
        random.Shuffle(order);
        int taken = 0;
        foreach (int word in order)
        {
            if (taken >= predictions) return;
            (int start, int length) = words[word];
            if (taken + length > predictions) continue;
            for (int i = start; i < start + length; i++) chosen[i / 64] |= 1UL << (i % 64);
            taken += length;
        }
    }

    /// <summary>What grows from text to text.</summary>
    private sealed class Collected(int texts)
    {
        public TokenSequence[] Masked { get; } = new TokenSequence[texts];

        public List<int> EncoderRows { get; } = [];

        public List<int> EncoderLabels { get; } = [];

        public List<int> DecoderRows { get; } = [];

        public List<int> DecoderLabels { get; } = [];

        public List<ulong> Visible { get; } = [];

        public List<int> VisibleStarts { get; } = [];

        public int FirstRow { get; set; }
    }
}
