namespace BgeMetal.Training;

/// <summary>What a trainer minimises: everything between the parameters and their gradients. One file each in Objectives/.</summary>
/// <typeparam name="TBatch">What the data pipeline makes for one forward pass.</typeparam>
internal interface ITrainingObjective<TBatch>
{
    /// <summary>Bytes of activations taken so far.</summary>
    long ReservedBytes { get; }

    /// <summary>
    /// Loss of one batch; <paramref name="scale"/> times its gradient is added to the parameters' gradients, unless the loss is not finite.
    /// The same seed draws the same dropout masks.
    /// </summary>
    double Backpropagate(TBatch batch, float scale, ulong seed);

    /// <summary>The first layer whose result is not finite in the forward pass of <paramref name="batch"/>; null when all are, or when it cannot be told.</summary>
    string? FirstNotFinite(TBatch batch, ulong seed) => null;

    /// <summary>Tokens of the batch, without padding: there is none.</summary>
    long Tokens(TBatch batch);

    /// <summary>Where the batch's rows stand, for messages.</summary>
    string Describe(TBatch batch);
}
