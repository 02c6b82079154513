namespace BgeMetal.Checkpoints;

/// <summary>Finds the weights of a model directory: safetensors before PyTorch files, one file before shards.</summary>
internal static class WeightFiles
{
    internal const string Safetensors = "model.safetensors", SafetensorsIndex = "model.safetensors.index.json";

    /// <summary>Opens the best of what is there.</summary>
    /// <exception cref="BgeMetalException">There are no weights, or they are damaged.</exception>
    internal static TensorSource Open(string directory)
    {
        if (Exists(Safetensors, out string path)) return SafetensorsFile.Open(path);
        throw CheckpointErrors.Corrupt(directory, $"the directory has none of {Safetensors}");

        bool Exists(string name, out string path) => File.Exists(path = Path.Combine(directory, name));
    }
}
