using BgeMetal.Benchmarks.Models;
using BgeMetal.Benchmarks.Onnx;
using BgeMetal.Benchmarks.Timing;

namespace BgeMetal.Benchmarks.Engines;

/// <summary>A loaded engine with the memory that loading it and one fixed batch took.</summary>
internal sealed record LoadedEngine(IEncoderEngine Engine, long? PeakBytes) : IDisposable
{
    /// <inheritdoc/>
    public void Dispose() => Engine.Dispose();
}

/// <summary>Loads the contestants of a comparison over the same folder, the peers first.</summary>
internal sealed record EngineLoading(IReadOnlyList<OnnxForm> Peers, bool Spinning)
{
    /// <summary>Loads every engine with that many threads.</summary>
    public List<LoadedEngine> Load(ModelFolder folder, int threads, Workload warmUp, int hiddenSize) =>
    [
        .. Peers.Select(form => Measured(() => new OnnxEngine(folder.OnnxModel(form), form, threads, Spinning, PaddedBatching.Sorted), warmUp, hiddenSize)),
        Measured(() => new BgeMetalEngine(folder.Path, threads), warmUp, hiddenSize),
    ];

    private static LoadedEngine Measured(Func<IEncoderEngine> load, Workload warmUp, int hiddenSize)
    {
        float[][] output = [.. warmUp.TokenIds.Select(_ => new float[hiddenSize])];
        PeakMemory peak = PeakMemory.Start();
        IEncoderEngine engine = load();
        engine.Embed(warmUp.TokenIds, output);
        return new(engine, peak.GrowthBytes());
    }
}
