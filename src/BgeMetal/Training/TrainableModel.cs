using BgeMetal.Checkpoints;
using BgeMetal.Data;
using BgeMetal.Files;
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
internal sealed record SavedForm(PoolingMode? Pooling, bool Normalize, int MaxLength, string QueryInstruction, IReadOnlyDictionary<string, string>? TaskPrompts = null)
{
    /// <summary>Another class and other names; null for the encoder with its head as they were loaded.</summary>
    public SavedLayout? Layout { get; init; }
}

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

    private TrainableModel(Checkpoint checkpoint, Device device, ExtraParameters extra, IReadOnlySet<string> frozen)
    {
        Config = checkpoint.Config;
        Directory = checkpoint.Directory;
        FilePooling = checkpoint.Pooling;
        FileQueryInstruction = checkpoint.Prompts.GetValueOrDefault("query");
        _tokenizerDirectory = checkpoint.TransformerDirectory;
        Shape = Config.ToEncoderShape();
        Positions = Config.ModelType == ModelConfig.XlmRoberta ? new PositionRule(Config.PadTokenId) : PositionRule.Bert;
        TrainingMemory.RequireParameters(device, TrainableParameters.SizeOf(device, BertEncoder.Specs(Shape).Concat(extra.Dense), BertEncoder.LinearSpecs(Shape).Concat(extra.Linears)));
        Device = device;
        Parameters = new TrainableParameters(Device, BertEncoder.Specs(Shape).Concat(extra.Dense), BertEncoder.LinearSpecs(Shape).Concat(extra.Linears), frozen);
        Parameters.Fill(Device.Team, extra.Reader(checkpoint.Tensors));
        Encoder = new BertEncoder(Parameters, Shape);
        KeepUntouched(checkpoint.Tensors, extra.Keeps);
    }

    /// <summary>config.json.</summary>
    public ModelConfig Config { get; set; }

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
        return Load(directory, compute, checkpoint => new ExtraParameters([], head(checkpoint.Config)), frozen);
    }

    /// <summary>The same with parameters of any kind after the encoder, some of which the checkpoint may lack.</summary>
    public static TrainableModel Load(string directory, ComputeOptions compute, Func<Checkpoint, ExtraParameters> extra, IReadOnlySet<string> frozen)
    {
        compute.Validate();
        using Checkpoint checkpoint = Checkpoint.Open(directory);
        ExtraParameters parameters = extra(checkpoint);
        Device device = compute.OpenDevice();
        try
        {
            return new TrainableModel(checkpoint, device, parameters, frozen);
        }
        catch (Exception e)
        {
            BgeMetalException? failure = Device.IsFailure(e) ? device.Failure(e) : null;
            device.Dispose();
            if (failure is not null) throw failure;
            throw;
        }
    }

    /// <summary>Saves the weights as they are now, in Hugging Face's and sentence-transformers' layout.</summary>
    public unsafe void Save(string directory, SavedForm form, bool overwrite)
    {
        List<NamedTensor> tensors = [], aside = [];
        foreach ((ParameterSpec spec, Tensor _) in Parameters.All)
        {
            string? name = form.Layout is null ? spec.Name : form.Layout.NameOf(spec.Name);
            (name is null ? aside : tensors).Add(Parameters.Stored(name ?? spec.Name, spec, Parameters.Master));
        }
        foreach ((string own, long[] shape, float[] values) in _untouched)
            if ((form.Layout is null ? own : form.Layout.NameOf(own)) is { } name) tensors.Add(new NamedTensor(name, shape, values));
        Dictionary<string, string> prompts = form.QueryInstruction.Length == 0 ? [] : new() { ["query"] = form.QueryInstruction };
        foreach ((string name, string text) in form.TaskPrompts ?? new Dictionary<string, string>()) prompts[name] = text;
        ModelConfig config = form.Layout is null ? Config : Config with { Architectures = [form.Layout.Architecture] };
        CheckpointWriter.Save(directory, config, [.. tensors.OrderBy(tensor => tensor.Name, StringComparer.Ordinal)], form.Pooling, form.Normalize,
            form.MaxLength, HasTokenizer ? Tokenizer.Files : [], new SaveOptions { Overwrite = overwrite, Prompts = prompts });
        if (form.Layout is { } layout && aside.Count > 0) WriteAside(Path.Combine(directory, layout.SideFile), aside);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Parameters.Dispose();
        Device.Dispose();
    }

    private static void WriteAside(string path, List<NamedTensor> tensors)
    {
        using AtomicFile file = AtomicFile.Create(path);
        SafetensorsWriter.Write(file.Stream, tensors);
        file.Commit();
    }

    private void KeepUntouched(EncoderTensors tensors, Func<string, bool> keeps)
    {
        HashSet<string> trained = [.. Parameters.All.Select(parameter => parameter.Spec.Name)];
        foreach (TensorEntry entry in tensors.Entries.Where(entry => entry.IsFloat && !trained.Contains(entry.Name) && keeps(entry.Name)))
        {
            float[] values = new float[checked((int)entry.Elements)];
            tensors.ReadFloats(entry.Name, values);
            _untouched.Add((entry.Name, entry.Shape, values));
        }
    }
}
