using BgeMetal.Data;
using BgeMetal.Data.Training;

namespace BgeMetal.Benchmarks.Models;

/// <summary>Random texts with RetroMAE's masks at the default shares, every word one token: what a pre-training step costs depends on these numbers alone.</summary>
internal static class MaskedTexts
{
    private const int Cls = 2, Sep = 3, Mask = 4, First = 5, NoLabel = -100;
    private const double EncoderShare = 0.3, DecoderShare = 0.5;

    /// <summary>A batch of texts of one length.</summary>
    /// <param name="texts">B.</param>
    /// <param name="length">Tokens of each, special ones included.</param>
    /// <param name="vocabulary">V.</param>
    /// <param name="everyRow">Every position is a row of the losses, as where logits are computed for whole texts; those without a label are ignored there.</param>
    /// <param name="seed">Decides everything.</param>
    public static RetroMaeBatch Draw(int texts, int length, int vocabulary, bool everyRow, int seed)
    {
        Random random = new(seed);
        TokenSequence[] original = new TokenSequence[texts], masked = new TokenSequence[texts];
        List<int> encoderRows = [], encoderLabels = [], decoderRows = [], decoderLabels = [];
        int words = (length + 63) / 64;
        ulong[] visible = new ulong[texts * length * words];
        for (int b = 0; b < texts; b++)
        {
            int[] ids = [Cls, .. Enumerable.Range(0, length - 2).Select(_ => random.Next(First, vocabulary)), Sep], hidden = [.. ids];
            HashSet<int> chosen = [.. Enumerable.Range(1, length - 2).OrderBy(_ => random.Next()).Take((int)Math.Round(length * EncoderShare))];
            for (int i = 0; i < length; i++)
            {
                if (chosen.Contains(i)) hidden[i] = Mask;
                Add(encoderRows, encoderLabels, (b * length) + i, chosen.Contains(i) ? ids[i] : NoLabel, everyRow);
                Add(decoderRows, decoderLabels, (b * length) + i, i > 0 && i < length - 1 ? ids[i] : NoLabel, everyRow);
                for (int key = 0; key < length; key++)
                    if (key != i && (key == 0 || random.NextDouble() >= DecoderShare)) visible[(((b * length) + i) * words) + (key / 64)] |= 1UL << (key % 64);
            }
            (original[b], masked[b]) = (new TokenSequence(ids), new TokenSequence(hidden));
        }
        return new RetroMaeBatch
        {
            Masked = masked,
            Original = original,
            EncoderRows = [.. encoderRows],
            EncoderLabels = [.. encoderLabels],
            DecoderRows = [.. decoderRows],
            DecoderLabels = [.. decoderLabels],
            Visible = visible,
            VisibleStarts = [.. Enumerable.Range(0, texts).Select(b => b * length * words)],
            Places = [.. Enumerable.Range(1, texts).Select(line => new RowPlace("random", line))],
            Tokens = texts * length,
        };
    }

    private static void Add(List<int> rows, List<int> labels, int row, int label, bool everyRow)
    {
        if (label < 0 && !everyRow) return;
        rows.Add(row);
        labels.Add(label);
    }
}
