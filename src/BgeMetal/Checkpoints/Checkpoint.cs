namespace BgeMetal.Checkpoints;

/// <summary>
/// A model directory, opened: its configuration, its tensors under encoder names, and what sentence-transformers' files say about pooling. Opening
/// reads configurations and headers and checks every encoder tensor's shape; weights are read later, through <see cref="Tensors"/>.
/// </summary>
internal sealed class Checkpoint : IDisposable
{
    private Checkpoint(string directory, ModelConfig config, EncoderTensors tensors)
    {
        Directory = directory;
        Config = config;
        Tensors = tensors;
    }

    /// <summary>The directory that was opened.</summary>
    internal string Directory { get; }

    /// <summary>config.json.</summary>
    internal ModelConfig Config { get; }

    /// <summary>The tensors, under encoder names.</summary>
    internal EncoderTensors Tensors { get; }

    /// <summary>Opens a model directory.</summary>
    /// <exception cref="BgeMetalException">Something in it is missing, damaged or not supported; the message names the file.</exception>
    internal static Checkpoint Open(string directory)
    {
        ArgumentException.ThrowIfNullOrEmpty(directory);
        ModelConfig config = ModelConfig.Load(directory);
        TensorSource files = WeightFiles.Open(directory);
        try
        {
            EncoderTensors tensors = new(files);
            EncoderShapes.Check(config, tensors);
            return new Checkpoint(directory, config, tensors);
        }
        catch
        {
            files.Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    public void Dispose() => Tensors.Dispose();
}
