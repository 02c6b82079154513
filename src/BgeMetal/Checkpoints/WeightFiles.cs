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
        if (Exists(Safetensors, out string path)) return SafetensorsFile.Open(path);
        if (Exists(SafetensorsIndex, out path)) return ShardedTensors.Open(path, SafetensorsFile.Open);
        if (Exists(Torch, out path)) return TorchArchive.Open(path);
        if (Exists(TorchIndex, out path)) return ShardedTensors.Open(path, TorchArchive.Open);
        throw CheckpointErrors.Corrupt(directory, $"the directory has no weights: none of {Safetensors}, {SafetensorsIndex}, {Torch}, {TorchIndex}");

        bool Exists(string name, out string path) => File.Exists(path = Path.Combine(directory, name));
    }
}
