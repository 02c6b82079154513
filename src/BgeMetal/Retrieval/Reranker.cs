using System.Diagnostics;
using BgeMetal.Checkpoints;
using BgeMetal.Data;
using BgeMetal.Nn;
using BgeMetal.Tensors;
using BgeMetal.Text;

namespace BgeMetal.Retrieval;

/// <summary>
/// A cross-encoder: one score for a query and a passage read together (bge-reranker-base, -large and their BERT kin). Thread-safe; a pair's score
/// is the same on the CPU, bit for bit, whatever is scored with it.
/// </summary>
public sealed class Reranker : IDisposable
{
    private const int DefaultMaxLength = 512;
    private readonly EncoderModel _model;
    private readonly EncoderRunner _runner;
    private readonly bool _normalize;

    private Reranker(EncoderModel model, RerankerOptions options)
    {
        _model = model;
        _normalize = options.Normalize;
        MaxLength = model.ResolveMaxLength(options.MaxLength, DefaultMaxLength);
        if (options.BatchTokens < 1) throw new BgeMetalException("option --batch-tokens", $"{options.BatchTokens} is out of range, expected at least 1");
        ClassificationHead head = new(model.Parameters, HeadNames(model.Config));
        _runner = new EncoderRunner(model.Device, model.Parameters, model.Positions, options.BatchTokens, (tape, batch) => head.Forward(tape, model.Encoder.ForwardCls(tape, batch)));
    }

    /// <summary>The model's configuration.</summary>
    public ModelConfig Config => _model.Config;

    /// <summary>The model's tokenizer, read on first use.</summary>
    public ModelTokenizer Tokenizer => _model.Tokenizer;

    /// <summary>Tokens a pair is cut to, special tokens included.</summary>
    public int MaxLength { get; }

    /// <summary>Where the model lies.</summary>
    internal string ModelDirectory => _model.Directory;

    /// <summary>Where it computes.</summary>
    public ComputeDevice Device => ComputeDevice.Of(_model.Device);

    /// <summary>What each kernel has taken so far, the longest first; empty without <see cref="ComputeOptions.Profile"/>.</summary>
    public IReadOnlyList<Kernels.KernelTime> KernelTimes => _model.Device.KernelTimes();

    /// <summary>CPU threads: they compute, or prepare texts for the GPU.</summary>
    public int Threads => _model.Device.Team.Threads;

    /// <summary>Bytes of weights and activations held.</summary>
    public long ReservedBytes => _model.Parameters.SizeBytes + _runner.ReservedBytes;

    /// <summary>Loads a checkpoint directory of a sequence classifier with one label.</summary>
    /// <exception cref="BgeMetalException">Something in the directory is missing or wrong, or the model is no reranker.</exception>
    public static Reranker Load(string directory, RerankerOptions? options = null)
    {
        options ??= new RerankerOptions();
        EncoderModel model = EncoderModel.Load(directory, options.Compute, config => HeadSpecs(config, directory));
        try
        {
            return new Reranker(model, options);
        }
        catch
        {
            model.Dispose();
            throw;
        }
    }

    /// <summary>Scores of <paramref name="passages"/> for one query; the higher the more relevant.</summary>
    public float[] Score(string query, IReadOnlyList<string> passages, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(query);
        ArgumentNullException.ThrowIfNull(passages);
        return ScorePairs([.. passages.Select(passage => (query, passage))], null, cancellationToken).Scores;
    }

    /// <summary>Scores of pairs, each of its own query.</summary>
    /// <param name="pairs">Query and passage.</param>
    /// <param name="progress">Told how many more pairs are done; called from several threads.</param>
    /// <param name="cancellationToken">Stops between chunks.</param>
    public (float[] Scores, EmbeddingRun Run) ScorePairs(
        IReadOnlyList<(string Query, string Passage)> pairs, IProgress<long>? progress = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(pairs);
        long start = Stopwatch.GetTimestamp();
        _ = Tokenizer;
        return Run(pairs.Count, Tokenize, start, progress, cancellationToken);

        TokenSequence[] Tokenize(int first, int count)
        {
            TokenSequence[] sequences = new TokenSequence[count];
            ParallelOptions parallel = new() { MaxDegreeOfParallelism = count < 16 ? 1 : Threads, CancellationToken = cancellationToken };
            Parallel.For(0, count, parallel, i => sequences[i] =
                _model.FromTokenizer(Tokenizer.Encode(pairs[first + i].Query, pairs[first + i].Passage, maxLength: MaxLength)));
            return sequences;
        }
    }

    /// <summary>Scores of pairs that are already joined into tokens, special tokens included, all of token type 0.</summary>
    /// <exception cref="BgeMetalException">A row's tokens do not fit the model; names its file and line.</exception>
    public (float[] Scores, EmbeddingRun Run) ScoreTokens(
        IReadOnlyList<TextInput> pairs, IProgress<long>? progress = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(pairs);
        long start = Stopwatch.GetTimestamp();
        TokenSequence[] sequences = [.. pairs.Select(pair => _model.FromTokens(pair.InputIds ?? [], pair.Source, pair.Line))];
        return Run(sequences.Length, (first, count) => sequences[first..(first + count)], start, progress, cancellationToken);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _runner.Dispose();
        _model.Dispose();
    }

    /// <summary>Scores of pairs as token sequences with their token types.</summary>
    internal (float[] Scores, EmbeddingRun Run) ScoreSequences(IReadOnlyList<TokenSequence> sequences) =>
        Run(sequences.Count, (first, count) => [.. sequences.Skip(first).Take(count)], Stopwatch.GetTimestamp(), null, CancellationToken.None);

    private (float[] Scores, EmbeddingRun Run) Run(
        int pairs, Func<int, int, TokenSequence[]> tokenize, long start, IProgress<long>? progress, CancellationToken cancellationToken)
    {
        float[] scores = new float[pairs];
        long tokens = TokenizedBlocks.Run(pairs, _runner.Gpu is not null, tokenize, (first, sequences) => _runner.Run(sequences, scores.AsMemory(first), 1, progress, cancellationToken));
        if (_normalize)
            for (int i = 0; i < scores.Length; i++) scores[i] = VectorMath.Sigmoid(scores[i]);
        return (scores, new EmbeddingRun(pairs, tokens, Stopwatch.GetElapsedTime(start).TotalSeconds));
    }

    /// <summary>The head of a model type.</summary>
    internal static ClassificationHeadNames HeadNames(ModelConfig config) =>
        config.ModelType == ModelConfig.XlmRoberta ? ClassificationHeadNames.XlmRoberta : ClassificationHeadNames.Bert;

    private static IReadOnlyList<LinearSpec> HeadSpecs(ModelConfig config, string directory)
    {
        if (config.NumLabels != 1)
            throw new BgeMetalException("cannot rerank", $"the model has {config.NumLabels} labels, a reranker has 1", Path.Combine(directory, "config.json"));
        return [.. ClassificationHead.LinearSpecs(HeadNames(config), config.HiddenSize, 1)];
    }
}
