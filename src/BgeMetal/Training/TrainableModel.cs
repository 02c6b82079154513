using BgeMetal.Checkpoints;
using BgeMetal.Data;
using BgeMetal.Nn;
using BgeMetal.Retrieval;
using BgeMetal.Tensors;
using BgeMetal.Text;

namespace BgeMetal.Training;

/// <summary>What a model is saved with besides its weights.</summary>
/// <param name="Pooling">How token vectors become one vector; null for a model that is no embedder.</param>
/// <param name="Normalize">Whether vectors have unit length.</param>
/// <param name="MaxLength">The most tokens of a text.</param>
/// <param name="QueryInstruction">What is put before queries; empty for none.</param>
/// <param name="TaskPrompts">Instructions of tasks by their prompt names (<see cref="TaskInstructions.ToPrompts"/>); null for none.</param>
internal sealed record SavedForm(PoolingMode? Pooling, bool Normalize, int MaxLength, string QueryInstruction, IReadOnlyDictionary<string, string>? TaskPrompts = null);

/// <summary>
/// A checkpoint loaded for training: trainable parameters, the encoder over them, and the tensors that the task does not touch, which are kept as
/// they are and saved again.
/// </summary>
internal sealed class TrainableModel : IDisposable
{
    private static readonly string[] s_tokenizerFiles = ["tokenizer.json", "vocab.txt", "sentencepiece.bpe.model"];
    private readonly List<(string Name, long[] Shape, float[] Values)> _untouched = [];
    private readonly string _tokenizerDirectory;
    private ModelTokenizer? _tokenizer;

    private TrainableModel(Checkpoint checkpoint, ComputeOptions compute, IReadOnlyList<LinearSpec> head, IReadOnlySet<string> frozen)
    {
        Config = checkpoint.Config;
        Directory = checkpoint.Directory;
        FilePooling = checkpoint.Pooling;
        FileQueryInstruction = checkpoint.Prompts.GetValueOrDefault("query");
        _tokenizerDirectory = checkpoint.TransformerDirectory;
        Shape = Config.ToEncoderShape();
        Positions = Config.ModelType == ModelConfig.XlmRoberta ? new PositionRule(Config.PadTokenId) : PositionRule.Bert;
        Device = Device.CpuThreads(compute.EffectiveThreads);
        Parameters = new TrainableParameters(Device, BertEncoder.Specs(Shape), BertEncoder.LinearSpecs(Shape).Concat(head), frozen);
        Parameters.Fill(Device.Team, checkpoint.Tensors.ReadParameter);
        Encoder = new BertEncoder(Parameters, Shape);
        KeepUntouched(checkpoint.Tensors);
    }

    /// <summary>config.json.</summary>
    public ModelConfig Config { get; }

    /// <summary>Where the model came from.</summary>
    public string Directory { get; }

    /// <summary>The pooling that the model's own files name, if any.</summary>
    public PoolingMode? FilePooling { get; }

    /// <summary>The query prompt that the model's own files name, if any.</summary>
    public string? FileQueryInstruction { get; }

    /// <summary>Sizes of the encoder.</summary>
    public EncoderShape Shape { get; }

    /// <summary>How positions are numbered.</summary>
    public PositionRule Positions { get; }

    /// <summary>The device, whose operations are split over all its threads.</summary>
    public Device Device { get; }

    /// <summary>What is trained.</summary>
    public TrainableParameters Parameters { get; }

    /// <summary>The encoder over <see cref="Parameters"/>.</summary>
    public BertEncoder Encoder { get; }

    /// <summary>The most tokens of a text.</summary>
    public int MaxLength => Positions.MaxLength(Config.MaxPositionEmbeddings);

    /// <summary>Whether there are tokenizer files; a model without any trains on tokens already made.</summary>
    public bool HasTokenizer => s_tokenizerFiles.Any(file => File.Exists(Path.Combine(_tokenizerDirectory, file)));

    /// <summary>The tokenizer, read on first use.</summary>
    public ModelTokenizer Tokenizer => _tokenizer ??= ModelTokenizer.Load(_tokenizerDirectory);

    /// <summary>Loads a checkpoint directory; <paramref name="head"/> names layers after the encoder, <paramref name="frozen"/> what no update touches.</summary>
    public static TrainableModel Load(string directory, ComputeOptions compute, Func<ModelConfig, IReadOnlyList<LinearSpec>> head, IReadOnlySet<string> frozen)
    {
        compute.Validate();
        using Checkpoint checkpoint = Checkpoint.Open(directory);
        return new TrainableModel(checkpoint, compute, head(checkpoint.Config), frozen);
    }

    /// <summary>Saves the weights as they are now, in Hugging Face's and sentence-transformers' layout.</summary>
    public unsafe void Save(string directory, SavedForm form, bool overwrite)
    {
        List<NamedTensor> tensors = [.. Parameters.All.Select(parameter => new NamedTensor(parameter.Spec.Name, parameter.Spec.Shape, parameter.Master.Floats))];
        tensors.AddRange(_untouched.Select(tensor => new NamedTensor(tensor.Name, tensor.Shape, tensor.Values)));
        Dictionary<string, string> prompts = form.QueryInstruction.Length == 0 ? [] : new() { ["query"] = form.QueryInstruction };
        foreach ((string name, string text) in form.TaskPrompts ?? new Dictionary<string, string>()) prompts[name] = text;
        CheckpointWriter.Save(directory, Config, [.. tensors.OrderBy(tensor => tensor.Name, StringComparer.Ordinal)], form.Pooling, form.Normalize,
            form.MaxLength, HasTokenizer ? Tokenizer.Files : [], new SaveOptions { Overwrite = overwrite, Prompts = prompts });
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Parameters.Dispose();
        Device.Dispose();
    }

    private void KeepUntouched(EncoderTensors tensors)
    {
        HashSet<string> trained = [.. Parameters.All.Select(parameter => parameter.Spec.Name)];
        foreach (TensorEntry entry in tensors.Entries.Where(entry => entry.IsFloat && !trained.Contains(entry.Name)))
        {
            float[] values = new float[checked((int)entry.Elements)];
            tensors.ReadFloats(entry.Name, values);
            _untouched.Add((entry.Name, entry.Shape, values));
        }
    }
}
