using System.Text.Json;
using BgeMetal.Data;
using BgeMetal.Data.Training;

namespace BgeMetal.Tests.Training;

/// <summary>A padded RetroMAE batch of the fixtures, packed.</summary>
internal static class RetroMaeFixture
{
    private const int NoLabel = -100;

    public static RetroMaeBatch Read(JsonElement json)
    {
        int[] lengths = Ints(json.GetProperty("lengths"));
        List<int> encoderRows = [], encoderLabels = [], decoderRows = [], decoderLabels = [], starts = [];
        List<ulong> visible = [];
        for (int b = 0, first = 0; b < lengths.Length; first += lengths[b++])
        {
            int[] encoder = Ints(json.GetProperty("encoder_labels")[b]), decoder = Ints(json.GetProperty("decoder_labels")[b]);
            for (int i = 0; i < lengths[b]; i++)
            {
                if (encoder[i] != NoLabel)
                {
                    encoderRows.Add(first + i);
                    encoderLabels.Add(encoder[i]);
                }
                if (decoder[i] == NoLabel) continue;
                decoderRows.Add(first + i);
                decoderLabels.Add(decoder[i]);
            }
            starts.Add(visible.Count);
            foreach (JsonElement row in json.GetProperty("decoder_attention_mask")[b].EnumerateArray().Take(lengths[b])) visible.AddRange(Bits(Ints(row), lengths[b]));
        }
        TokenSequence[] original = Texts(json.GetProperty("decoder_input_ids"), lengths);
        return new RetroMaeBatch
        {
            Masked = Texts(json.GetProperty("encoder_input_ids"), lengths),
            Original = original,
            EncoderRows = [.. encoderRows],
            EncoderLabels = [.. encoderLabels],
            DecoderRows = [.. decoderRows],
            DecoderLabels = [.. decoderLabels],
            Visible = [.. visible],
            VisibleStarts = [.. starts],
            Places = [.. original.Select((_, i) => new RowPlace("fixture", i + 1))],
            Tokens = lengths.Sum(),
        };
    }

    private static ulong[] Bits(int[] row, int length)
    {
        ulong[] words = new ulong[(length + 63) / 64];
        for (int j = 0; j < length; j++)
            if (row[j] == 1) words[j / 64] |= 1UL << (j % 64);
        return words;
    }

    private static TokenSequence[] Texts(JsonElement rows, int[] lengths) => [.. rows.EnumerateArray().Zip(lengths, (row, length) => new TokenSequence(Ints(row).AsMemory(0, length)))];

    private static int[] Ints(JsonElement list) => [.. list.EnumerateArray().Select(item => item.GetInt32())];
}
