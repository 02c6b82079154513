namespace BgeMetal.Benchmarks.Engines;

/// <summary>What is compared: something that turns token ids (special tokens included) into CLS-pooled, L2-normalised vectors.</summary>
internal interface IEncoderEngine : IDisposable
{
    /// <summary>The name in tables, the peer's form of model and settings included.</summary>
    string Name { get; }

    /// <summary>The version of the library.</summary>
    string Version { get; }

    /// <summary>Writes the vectors of the texts, in their order, to the rows of <paramref name="output"/>. Batching is the engine's own business and part of the measured time.</summary>
    void Embed(int[][] tokenIds, float[][] output);
}
