namespace BgeMetal.Checkpoints;

/// <summary>Finds the weights of a model directory: safetensors before PyTorch files, one file before shards.</summary>
internal static class WeightFiles
{
    internal const string Safetensors = "model.safetensors", SafetensorsIndex = "model.safetensors.index.json";
    internal const string Torch = "pytorch_model.bin", TorchIndex = "pytorch_model.bin.index.json";

    /// <summary>Opens the best of what is there.</summary>
    /// <exception cref="BgeMetalException">There are no weights, or they are damaged.</exception>
    internal static TensorSource Open(string directory)
    {
        foreach (string name in (string[])[Safetensors, SafetensorsIndex, Torch, TorchIndex])
            if (File.Exists(Path.Combine(directory, name))) return OpenFile(Path.Combine(directory, name));
        throw CheckpointErrors.Corrupt(directory, $"the directory has no weights: none of {Safetensors}, {SafetensorsIndex}, {Torch}, {TorchIndex}");
    }

    /// <summary>Opens one file of weights or an index of shards; the name's ending says what it is.</summary>
    /// <exception cref="BgeMetalException">It is of another kind, or damaged.</exception>
    internal static TensorSource OpenFile(string path)
    {
        if (Ends(".safetensors")) return SafetensorsFile.Open(path);
        if (Ends(".safetensors.index.json")) return ShardedTensors.Open(path, SafetensorsFile.Open);
        if (Ends(".bin.index.json")) return ShardedTensors.Open(path, TorchArchive.Open);
        if (Ends(".bin") || Ends(".pt") || Ends(".pth")) return TorchArchive.Open(path);
        throw CheckpointErrors.Corrupt(path, "the name ends in none of .safetensors, .safetensors.index.json, .bin, .bin.index.json, .pt, .pth");

        bool Ends(string ending) => path.EndsWith(ending, StringComparison.OrdinalIgnoreCase);
    }
}
