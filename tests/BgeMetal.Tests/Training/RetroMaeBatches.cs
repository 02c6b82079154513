using BgeMetal.Data;
using BgeMetal.Data.Training;
using BgeMetal.Tensors;
using BgeMetal.Tests.Models;
using BgeMetal.Training;

namespace BgeMetal.Tests.Training;

/// <summary>Masked batches of a few texts, and a model in which nothing but the masks is random.</summary>
internal static class RetroMaeBatches
{
    /// <summary>The texts with masks at the default shares.</summary>
    public static RetroMaeBatch Masked(TrainableModel trained, IReadOnlyList<string> texts)
    {
        TokenSequence[] sequences = [.. texts.Select(text => new TokenSequence(trained.Tokenizer.Encode(text).InputIds))];
        return new RetroMaeMasker(WordPieces.Of(trained.Tokenizer, trained.Config.VocabSize), 0.3, 0.5, 7).Mask(new TextBatch
        {
            Epoch = 0,
            Index = 0,
            Texts = sequences,
            Rows = Enumerable.Range(0, sequences.Length).ToArray(),
            Places = [.. sequences.Select((_, i) => new RowPlace("test", i + 1))],
            Tokens = sequences.Sum(text => text.Length),
        });
    }

    /// <summary>A copy of the model without dropout.</summary>
    public static string WithoutDropout(TinyModel model)
    {
        string copy = Path.Combine(model.Root, "without-dropout");
        Directory.CreateDirectory(copy);
        foreach (string file in Directory.GetFiles(model.Directory).Where(file => Path.GetFileName(file) != "modules.json")) File.Copy(file, Path.Combine(copy, Path.GetFileName(file)), overwrite: true);
        string config = Path.Combine(copy, "config.json"), text = File.ReadAllText(config), changed = text.Replace("_dropout_prob\": 0.1", "_dropout_prob\": 0.0", StringComparison.Ordinal);
        Assert.NotEqual(text, changed);
        File.WriteAllText(config, changed);
        return copy;
    }

    /// <summary>A tensor's values without padding.</summary>
    public static float[] Values(Tensor tensor) => [.. Enumerable.Range(0, tensor.Rows).SelectMany(row => tensor.RowSpan(row).ToArray())];
}
