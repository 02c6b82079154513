using System.Text.RegularExpressions;

namespace BgeMetal.Hub;

/// <summary>
/// Which of a repository's files a model needs: configuration, tokenizer, pooling and one form of the weights, safetensors before pickles. Other
/// frameworks' weights, ONNX exports and training left-overs stay where they are.
/// </summary>
internal static partial class HubFileSelection
{
    private static readonly string[] Small =
    [
        "config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt", "sentencepiece.bpe.model",
        "modules.json", "sentence_bert_config.json", "config_sentence_transformers.json",
    ];

    /// <summary>The needed files, weights last, so that a snapshot that has weights has everything.</summary>
    /// <exception cref="BgeMetalException">A name leads out of the model's folder, or there is no config.json or no weights.</exception>
    public static List<string> Select(string repository, IReadOnlyCollection<string> files)
    {
        foreach (string file in files)
            if (!HubName.IsSafePath(file))
                throw new BgeMetalException($"cannot download {repository}", $"the hub lists a file name that may lead out of the model's folder: '{Printable(file)}'");
        if (!files.Contains("config.json")) throw new BgeMetalException($"cannot download {repository}", "the repository has no config.json, so it is no model");
        List<string> chosen = [.. Small.Where(files.Contains), .. files.Where(f => ModuleConfig().IsMatch(f)).Order(StringComparer.Ordinal)];
        List<string> weights = Weights(files);
        if (weights.Count == 0) throw new BgeMetalException($"cannot download {repository}", "the repository has neither model.safetensors nor pytorch_model.bin");
        return [.. chosen, .. weights];
    }

    /// <summary>The files that hold the weights, an index last; empty when there are none.</summary>
    public static List<string> Weights(IReadOnlyCollection<string> files)
    {
        foreach ((string whole, string index, Regex shard) in ((string, string, Regex)[])[
            ("model.safetensors", "model.safetensors.index.json", SafetensorsShard()), ("pytorch_model.bin", "pytorch_model.bin.index.json", PickleShard())])
        {
            if (files.Contains(whole)) return [whole];
            if (!files.Contains(index)) continue;
            string[] shards = [.. files.Where(f => shard.IsMatch(f)).Order(StringComparer.Ordinal)];
            if (shards.Length > 0) return [.. shards, index];
        }
        return [];
    }

    private static string Printable(string name) => string.Concat(name.Take(200).Select(c => char.IsControl(c) ? '?' : c));

    [GeneratedRegex(@"\A[0-9]+_[A-Za-z0-9]+/config\.json\z")]
    private static partial Regex ModuleConfig();

    [GeneratedRegex(@"\Amodel-[0-9]{5}-of-[0-9]{5}\.safetensors\z")]
    private static partial Regex SafetensorsShard();

    [GeneratedRegex(@"\Apytorch_model-[0-9]{5}-of-[0-9]{5}\.bin\z")]
    private static partial Regex PickleShard();
}
