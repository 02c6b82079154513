using System.Reflection;
using BgeMetal.Checkpoints;
using BgeMetal.Data;
using BgeMetal.Retrieval;

namespace BgeMetal.Benchmarks.Engines;

/// <summary>Ours: <see cref="Embedder"/> over the checkpoint folder, with its default settings on the CPU.</summary>
internal sealed class BgeMetalEngine(string directory, int threads) : IEncoderEngine
{
    private readonly Embedder embedder = Embedder.Load(directory, new()
    {
        Pooling = PoolingMode.Cls,
        Normalize = true,
        Compute = new() { Device = "cpu", DType = "fp32", Threads = threads },
    });

    private float[] flat = [];

    /// <inheritdoc/>
    public string Name { get; } = "bgemetal";

    /// <inheritdoc/>
    public string Version { get; } = typeof(Embedder).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()!.InformationalVersion.Split('+')[0];

    /// <inheritdoc/>
    public void Embed(int[][] tokenIds, float[][] output)
    {
        int size = embedder.Dimensions, needed = tokenIds.Length * size;
        if (flat.Length < needed)
            flat = new float[needed];
        embedder.Embed([.. tokenIds.Select(ids => new TextInput { InputIds = ids, Source = "benchmark" })], null, flat.AsMemory(0, needed));
        for (int text = 0; text < tokenIds.Length; text++)
            flat.AsSpan(text * size, size).CopyTo(output[text]);
    }

    /// <inheritdoc/>
    public void Dispose() => embedder.Dispose();
}
