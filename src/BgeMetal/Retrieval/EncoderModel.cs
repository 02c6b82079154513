using BgeMetal.Checkpoints;
using BgeMetal.Data;
using BgeMetal.Nn;
using BgeMetal.Tensors;
using BgeMetal.Text;

namespace BgeMetal.Retrieval;

/// <summary>
/// A checkpoint ready to compute: configuration, parameters packed for the matmul kernel, and the tokenizer (read on first use, because tokens may
/// come ready-made). Shared by the embedder and the reranker, which differ in what follows the encoder.
/// </summary>
internal sealed class EncoderModel : IDisposable
{
    private readonly Lazy<ModelTokenizer> _tokenizer;

    private EncoderModel(Checkpoint checkpoint, Device device, IReadOnlyList<LinearSpec> head)
    {
        Config = checkpoint.Config;
        Directory = checkpoint.Directory;
        string tokenizerDirectory = checkpoint.TransformerDirectory;
        _tokenizer = new Lazy<ModelTokenizer>(() => ModelTokenizer.Load(tokenizerDirectory));
        FilePooling = checkpoint.Pooling;
        FileQueryInstruction = checkpoint.Prompts.GetValueOrDefault("query");
        FileInstructions = TaskInstructions.FromPrompts(checkpoint.Prompts);
        Shape = Config.ToEncoderShape();
        Positions = Config.ModelType == ModelConfig.XlmRoberta ? new PositionRule(Config.PadTokenId) : PositionRule.Bert;
        MaxPositions = Positions.MaxLength(Config.MaxPositionEmbeddings);
        FileMaxLength = checkpoint.MaxSequenceLength;
        Device = device;
        device.PrepareForward(Shape.HiddenSize, Shape.HiddenSize / Shape.NumHeads, head.Count > 0);
        Parameters = ParameterStore.ForInference(device.Kind == DeviceKind.Cpu ? Device.SingleThread : device, BertEncoder.Specs(Shape), BertEncoder.LinearSpecs(Shape).Concat(head));
        try
        {
            TensorSource tensors = checkpoint.Tensors;
            Parameters.Fill(device.Team, (spec, destination) => tensors.ReadParameter(spec, destination));
        }
        catch
        {
            Parameters.Dispose();
            throw;
        }
        Encoder = new BertEncoder(Parameters, Shape);
    }

    /// <summary>config.json.</summary>
    public ModelConfig Config { get; }

    /// <summary>Where the checkpoint lies.</summary>
    public string Directory { get; }

    /// <summary>The pooling that the model's own files name, if any.</summary>
    public PoolingMode? FilePooling { get; }

    /// <summary>The query prompt that the model's own files name, if any.</summary>
    public string? FileQueryInstruction { get; }

    /// <summary>The instructions by task that the model's own files name; empty for most models.</summary>
    public TaskInstructions FileInstructions { get; }

    /// <summary>The limit that the model's own files name, if any.</summary>
    public int? FileMaxLength { get; }

    /// <summary>Sizes of the encoder.</summary>
    public EncoderShape Shape { get; }

    /// <summary>How positions are numbered.</summary>
    public PositionRule Positions { get; }

    /// <summary>The most tokens a text may have.</summary>
    public int MaxPositions { get; }

    /// <summary>Where it computes.</summary>
    public Device Device { get; }

    /// <summary>The weights.</summary>
    public ParameterStore Parameters { get; }

    /// <summary>The encoder over <see cref="Parameters"/>.</summary>
    public BertEncoder Encoder { get; }

    /// <summary>The tokenizer, read on first use.</summary>
    public ModelTokenizer Tokenizer => _tokenizer.Value;

    /// <summary>Loads a checkpoint directory; <paramref name="head"/> chooses the layers after the encoder by the configuration.</summary>
    public static EncoderModel Load(string directory, ComputeOptions compute, Func<ModelConfig, IReadOnlyList<LinearSpec>> head)
    {
        compute.Validate();
        using Checkpoint checkpoint = Checkpoint.Open(directory);
        IReadOnlyList<LinearSpec> layers = head(checkpoint.Config);
        Device device = compute.OpenDevice();
        try
        {
            return new EncoderModel(checkpoint, device, layers);
        }
        catch (Exception e)
        {
            BgeMetalException? failure = Device.IsFailure(e) ? device.Failure(e) : null;
            device.Dispose();
            if (failure is not null) throw failure;
            throw;
        }
    }

    /// <summary>Ready-made tokens, checked against the vocabulary and the position table.</summary>
    /// <exception cref="BgeMetalException">No token, too many, or an id outside of the vocabulary; names the row's file and line.</exception>
    public TokenSequence FromTokens(int[] ids, string source, long line)
    {
        if (ids.Length == 0) throw new BgeMetalException("input_ids", "the list is empty, expected at least one token", source, line);
        if (ids.Length > MaxPositions)
            throw new BgeMetalException("input_ids", $"{ids.Length} tokens, the model takes at most {MaxPositions}", source, line);
        foreach (int id in ids)
            if ((uint)id >= (uint)Config.VocabSize)
                throw new BgeMetalException("input_ids", $"token id {id} is outside of the vocabulary of {Config.VocabSize}", source, line);
        return new TokenSequence(ids);
    }

    /// <summary>A tokenised text or pair. Checks that tokenizer and embedding table belong together.</summary>
    public TokenSequence FromTokenizer(TokenizedText text)
    {
        foreach (int id in text.InputIds)
            if ((uint)id >= (uint)Config.VocabSize)
                throw new BgeMetalException("cannot embed", $"the tokenizer gives id {id}, the model has {Config.VocabSize} word vectors: "
                    + "tokenizer and weights do not belong together", Directory);
        return new TokenSequence(text.InputIds, Config.TypeVocabSize > 1 ? text.TokenTypeIds : null);
    }

    /// <summary>The length limit: what was asked for, or the model's own, within what the position table allows.</summary>
    public int ResolveMaxLength(int? requested, int limitByDefault)
    {
        if (requested is { } length && (length < 3 || length > MaxPositions))
            throw new BgeMetalException("option --max-length", $"{length} is out of range, this model takes 3 to {MaxPositions}");
        return requested ?? Math.Min(Math.Min(FileMaxLength ?? limitByDefault, limitByDefault), MaxPositions);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Parameters.Dispose();
        Device.Dispose();
    }
}
