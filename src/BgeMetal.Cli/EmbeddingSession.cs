using System.Diagnostics;
using BgeMetal.Cli.Output;
using BgeMetal.Data;
using BgeMetal.Retrieval;

namespace BgeMetal.Cli;

/// <summary>A loaded embedder with the accounts of a command: how long loading took, how much was embedded, how long the work takes.</summary>
internal sealed class EmbeddingSession : IDisposable
{
    private readonly Terminal _terminal;
    private readonly Stopwatch _work;
    private readonly Lock _gate = new();
    private EmbeddingRun _done;

    public EmbeddingSession(Terminal terminal, string directory, EmbedderOptions options)
    {
        _terminal = terminal;
        Stopwatch loading = Stopwatch.StartNew();
        Embedder = Embedder.Load(directory, options);
        LoadSeconds = loading.Elapsed.TotalSeconds;
        ComputeOptionSet.Tell(terminal, Embedder.Device);
        _work = Stopwatch.StartNew();
    }

    /// <summary>The model.</summary>
    public Embedder Embedder { get; }

    /// <summary>Seconds that loading took.</summary>
    public double LoadSeconds { get; }

    /// <summary>Says where exact search for so many hits a query runs that was to run on the embedder's GPU.</summary>
    public void TellSearch(int hits, string prefix = "") => _terminal.Say(prefix + (!Embedder.Device.IsGpu ? "the model computes on the CPU, the search runs there too"
        : hits > FlatIndex.MostHitsOnGpu ? $"the search runs on the CPU: a GPU finds at most {FlatIndex.MostHitsOnGpu} hits a query, {hits} are wanted"
        : $"the search runs on {Embedder.Device.Name}"));

    /// <summary>Lets an index be searched on the embedder's GPU, if it computes on one, and says so.</summary>
    public void Search(FlatIndex index, int hits)
    {
        if (!Embedder.Device.IsGpu) return;
        index.SearchOn(Embedder);
        TellSearch(hits);
    }

    /// <summary>Embeds one chunk, [texts, Dimensions] row-major.</summary>
    public float[] Embed(IReadOnlyList<TextInput> texts, string? instruction, IProgress<long>? progress)
    {
        float[] vectors = new float[checked(texts.Count * Embedder.Dimensions)];
        EmbeddingRun run = Embedder.Embed(texts, instruction, vectors, progress, _terminal.Cancellation);
        lock (_gate) _done += run;
        return vectors;
    }

    /// <summary>Embeds all chunks in order, with progress.</summary>
    /// <param name="chunks">The texts; only one chunk is in memory at a time, or on a GPU two, so that reading, tokenising and writing go on beside its work.</param>
    /// <param name="instruction">Put before each text.</param>
    /// <param name="what">What the progress line says.</param>
    /// <param name="write">Takes each chunk with its vectors.</param>
    public void EmbedAll(TextChunks chunks, string? instruction, string what, Action<IReadOnlyList<TextInput>, float[]> write)
    {
        using Progress progress = _terminal.Watch(what, "texts", chunks.Total);
        foreach ((IReadOnlyList<TextInput> texts, float[] vectors) in PiecesAhead.Run(Next, texts => Embed(texts, instruction, progress), Embedder.Device.IsGpu ? 2 : 1))
            write(texts, vectors);

        IReadOnlyList<TextInput>? Next()
        {
            _terminal.Cancellation.ThrowIfCancellationRequested();
            return chunks.Next() is { } texts ? chunks.Fitting(texts, Embedder.Config) : null;
        }
    }

    /// <summary>What was done so far.</summary>
    public RunStatistics Statistics() => new()
    {
        Texts = _done.Texts,
        Tokens = _done.Tokens,
        Seconds = _work.Elapsed.TotalSeconds,
        LoadSeconds = LoadSeconds,
        Device = Embedder.Device.Name,
        Dtype = Embedder.Device.DType,
        Threads = Embedder.Threads,
        KernelTimes = Embedder.KernelTimes,
    };

    /// <inheritdoc/>
    public void Dispose() => Embedder.Dispose();
}
