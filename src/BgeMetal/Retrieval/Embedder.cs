using System.Diagnostics;
using BgeMetal.Autograd;
using BgeMetal.Checkpoints;
using BgeMetal.Data;
using BgeMetal.Ops;
using BgeMetal.Tensors;
using BgeMetal.Text;
using Microsoft.Extensions.AI;

namespace BgeMetal.Retrieval;

/// <summary>
/// Turns texts into vectors with a BGE-family model. Thread-safe: calls from several threads wait for each other, each call uses all threads.
/// On the CPU a text's vector is the same, bit for bit, whatever else is embedded with it and however many threads there are.
/// </summary>
public sealed class Embedder : IEmbeddingGenerator<string, Embedding<float>>
{
    private const int DefaultMaxLength = 512;
    private readonly EncoderModel _model;
    private readonly EncoderRunner _runner;
    private readonly EmbeddingGeneratorMetadata _metadata;

    private Embedder(EncoderModel model, EmbedderOptions options)
    {
        _model = model;
        string?[] names = [model.Directory, model.Config.NameOrPath];
        Pooling = options.Pooling ?? model.FilePooling ?? (QueryInstructions.IsM3E(names) ? PoolingMode.Mean : PoolingMode.Cls);
        Normalize = options.Normalize ?? true;
        MaxLength = model.ResolveMaxLength(options.MaxLength, DefaultMaxLength);
        Dimensions = options.Dimensions ?? model.Shape.HiddenSize;
        if (Dimensions < 1 || Dimensions > model.Shape.HiddenSize)
            throw new BgeMetalException("option --dimensions", $"{Dimensions} is out of range, the model has 1 to {model.Shape.HiddenSize}");
        if (options.BatchTokens < 1) throw new BgeMetalException("option --batch-tokens", $"{options.BatchTokens} is out of range, expected at least 1");
        QueryInstruction = options.QueryInstruction ?? model.FileQueryInstruction ?? QueryInstructions.For(names);
        _runner = new EncoderRunner(model.Device, model.Parameters, model.Positions, options.BatchTokens, Forward);
        _metadata = new EmbeddingGeneratorMetadata("bgemetal", defaultModelId: Path.GetFileName(Path.TrimEndingDirectorySeparator(model.Directory)), defaultModelDimensions: Dimensions);
    }

    /// <summary>The model's configuration.</summary>
    public ModelConfig Config => _model.Config;

    /// <summary>The model's tokenizer, read on first use.</summary>
    /// <exception cref="BgeMetalException">The model has no tokenizer files, or they are broken.</exception>
    public ModelTokenizer Tokenizer => _model.Tokenizer;

    /// <summary>Components of a vector.</summary>
    public int Dimensions { get; }

    /// <summary>Tokens a text is cut to, special tokens included.</summary>
    public int MaxLength { get; }

    /// <summary>How token vectors become one vector.</summary>
    public PoolingMode Pooling { get; }

    /// <summary>Whether vectors have unit length.</summary>
    public bool Normalize { get; }

    /// <summary>What the English BGE models v1 and v1.5 were trained to have before queries.</summary>
    public const string BgeEnglishInstruction = QueryInstructions.English;

    /// <summary>What <see cref="EmbedQueries"/> puts before each query; empty for none.</summary>
    public string QueryInstruction { get; }

    /// <summary>Where the model lies.</summary>
    internal string ModelDirectory => _model.Directory;

    /// <summary>The instructions by task that the model was trained with and saved with; empty for most models.</summary>
    public TaskInstructions TaskInstructions => _model.FileInstructions;

    /// <summary>What a task puts before its texts: the model's own instructions, else the published LLM-Embedder's.</summary>
    /// <exception cref="BgeMetalException">Neither has the task.</exception>
    public TaskInstruction InstructionFor(string task) => Retrieval.TaskInstructions.Published.With(_model.FileInstructions).For(task);

    /// <summary>Where it computes.</summary>
    public ComputeDevice Device => ComputeDevice.Of(_model.Device);

    /// <summary>The device itself; its gate is taken while texts are embedded.</summary>
    internal Device ComputesOn => _model.Device;

    /// <summary>What each kernel has taken so far, the longest first; empty without <see cref="ComputeOptions.Profile"/>.</summary>
    public IReadOnlyList<Kernels.KernelTime> KernelTimes => _model.Device.KernelTimes();

    /// <summary>CPU threads: they compute, or prepare texts for the GPU.</summary>
    public int Threads => _model.Device.Team.Threads;

    /// <summary>Bytes of weights and activations held.</summary>
    public long ReservedBytes => _model.Parameters.SizeBytes + _runner.ReservedBytes;

    /// <summary>Loads a checkpoint directory (config.json, weights, tokenizer, pooling).</summary>
    /// <exception cref="BgeMetalException">Something in the directory is missing or wrong; the message names the file.</exception>
    public static Embedder Load(string directory, EmbedderOptions? options = null)
    {
        options ??= new EmbedderOptions();
        EncoderModel model = EncoderModel.Load(directory, options.Compute, _ => []);
        try
        {
            return new Embedder(model, options);
        }
        catch
        {
            model.Dispose();
            throw;
        }
    }

    /// <summary>Vectors of queries, the model's <see cref="QueryInstruction"/> put before each.</summary>
    public float[][] EmbedQueries(IReadOnlyList<string> texts, CancellationToken cancellationToken = default) =>
        EmbedTexts(texts, QueryInstruction, Dimensions, cancellationToken);

    /// <summary>Vectors of passages, as they are.</summary>
    public float[][] EmbedPassages(IReadOnlyList<string> texts, CancellationToken cancellationToken = default) =>
        EmbedTexts(texts, "", Dimensions, cancellationToken);

    /// <summary>Vectors of texts or ready-made tokens, into the rows of one matrix.</summary>
    /// <param name="inputs">Texts, or tokens with their special tokens, to which no instruction is added.</param>
    /// <param name="instruction">Put before each text; null or empty for none.</param>
    /// <param name="destination">Room for [inputs, <see cref="Dimensions"/>] floats.</param>
    /// <param name="progress">Told how many more texts are done; called from several threads.</param>
    /// <param name="cancellationToken">Stops between chunks.</param>
    /// <exception cref="BgeMetalException">A row's tokens do not fit the model; names its file and line.</exception>
    public EmbeddingRun Embed(IReadOnlyList<TextInput> inputs, string? instruction, Memory<float> destination,
        IProgress<long>? progress = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(inputs);
        if (destination.Length < (long)inputs.Count * Dimensions)
            throw new ArgumentException($"{destination.Length} floats, expected {inputs.Count} x {Dimensions}", nameof(destination));
        long start = Stopwatch.GetTimestamp();
        long tokens = TokenizedBlocks.Run(inputs.Count, _runner.Gpu is not null, (first, count) => Tokenize(inputs, first, count, instruction ?? "", cancellationToken),
            (first, sequences) => _runner.Run(sequences, destination[(first * Dimensions)..], Dimensions, progress, cancellationToken));
        return new EmbeddingRun(inputs.Count, tokens, Stopwatch.GetElapsedTime(start).TotalSeconds);
    }

    /// <summary>
    /// Vectors of <paramref name="values"/> as passages. <see cref="EmbeddingGenerationOptions.Dimensions"/> cuts and renormalises; the additional
    /// property <c>instruction</c> (a string) is put before each text, for instance <see cref="QueryInstruction"/> for queries.
    /// </summary>
    public Task<GeneratedEmbeddings<Embedding<float>>> GenerateAsync(
        IEnumerable<string> values, EmbeddingGenerationOptions? options = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(values);
        string[] texts = [.. values];
        string instruction = options?.AdditionalProperties?.TryGetValue("instruction", out object? given) == true ? given as string ?? "" : "";
        int dimensions = options?.Dimensions ?? Dimensions;
        if (dimensions < 1 || dimensions > Dimensions)
            throw new ArgumentOutOfRangeException(nameof(options), dimensions, $"Dimensions: expected 1 to {Dimensions}");
        return Task.Run(() =>
        {
            float[][] vectors = EmbedTexts(texts, instruction, dimensions, cancellationToken);
            return new GeneratedEmbeddings<Embedding<float>>(vectors.Select(vector =>
                new Embedding<float>(vector) { CreatedAt = DateTimeOffset.UtcNow, ModelId = _metadata.DefaultModelId }));
        }, cancellationToken);
    }

    /// <inheritdoc/>
    public object? GetService(Type serviceType, object? serviceKey = null)
    {
        ArgumentNullException.ThrowIfNull(serviceType);
        return serviceKey is not null ? null
            : serviceType == typeof(EmbeddingGeneratorMetadata) ? _metadata
            : serviceType.IsInstanceOfType(this) ? this : null;
    }

    /// <summary>Vectors of token sequences with their token types, [sequences, Dimensions].</summary>
    internal void EmbedSequences(IReadOnlyList<TokenSequence> sequences, Memory<float> destination) =>
        _runner.Run(sequences, destination, Dimensions, null, CancellationToken.None);

    /// <inheritdoc/>
    public void Dispose()
    {
        _runner.Dispose();
        _model.Dispose();
    }

    /// <summary>The forward pass: encoder, pooling, cut, normalisation; [T] tokens -> [B, Dimensions].</summary>
    private Tensor Forward(Tape tape, PackedTensors batch)
    {
        Tensor pooled = Pooling == PoolingMode.Cls
            ? _model.Encoder.ForwardCls(tape, batch)
            : tape.MeanPooling(_model.Encoder.Forward(tape, batch), batch.CuSeqlens);
        Tensor kept = pooled.ColumnRange(0, Dimensions);
        return Normalize ? tape.NormalizeRows(kept) : kept;
    }

    private float[][] EmbedTexts(IReadOnlyList<string> texts, string instruction, int dimensions, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(texts);
        float[] flat = new float[checked(texts.Count * Dimensions)];
        Embed([.. texts.Select((text, index) => new TextInput { Text = text, Source = "texts", Line = index + 1 })], instruction, flat, null, cancellationToken);
        float[][] vectors = new float[texts.Count][];
        for (int i = 0; i < vectors.Length; i++)
        {
            vectors[i] = flat.AsSpan(i * Dimensions, dimensions).ToArray();
            if (dimensions < Dimensions && Normalize) VectorMath.NormalizeInPlace(vectors[i]);
        }
        return vectors;
    }

    private TokenSequence[] Tokenize(IReadOnlyList<TextInput> inputs, int first, int count, string instruction, CancellationToken cancellationToken)
    {
        TokenSequence[] sequences = new TokenSequence[count];
        ParallelOptions parallel = new() { MaxDegreeOfParallelism = count < 16 ? 1 : Threads, CancellationToken = cancellationToken };
        try
        {
            Parallel.For(0, count, parallel, i => sequences[i] = Tokenize(inputs[first + i], instruction));
        }
        catch (AggregateException e) when (e.InnerExceptions.FirstOrDefault(inner => inner is BgeMetalException) is { } bad)
        {
            System.Runtime.ExceptionServices.ExceptionDispatchInfo.Throw(bad);
        }
        return sequences;
    }

    private TokenSequence Tokenize(TextInput input, string instruction) => input.InputIds is { } ids
        ? _model.FromTokens(ids, input.Source, input.Line)
        : _model.FromTokenizer(Tokenizer.Encode(instruction.Length == 0 ? input.Text ?? "" : instruction + input.Text, maxLength: MaxLength));
}
