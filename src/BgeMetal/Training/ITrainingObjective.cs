using BgeMetal.Tensors;

namespace BgeMetal.Training;

/// <summary>What a trainer minimises: everything between the parameters and their gradients. One file each in Objectives/.</summary>
/// <typeparam name="TBatch">What the data pipeline makes for one forward pass.</typeparam>
internal interface ITrainingObjective<TBatch>
{
    /// <summary>Bytes of activations taken so far.</summary>
    long ReservedBytes { get; }

    /// <summary>Where it computes.</summary>
    Device Device { get; }

    /// <summary>
    /// The loss of one batch goes to <paramref name="loss"/>, [1, 1] in the device's memory; <paramref name="gradient"/>, [1, 1] there too, times its gradient is added to the
    /// parameters' gradients, on the CPU unless the loss is not finite. On CUDA everything is enqueued and nothing waits. The same seed draws the same dropout masks.
    /// </summary>
    void Backpropagate(TBatch batch, Tensor gradient, ulong seed, Tensor loss);

    /// <summary>The first layer whose result is not finite in the forward pass of <paramref name="batch"/>; null when all are, or when it cannot be told.</summary>
    string? FirstNotFinite(TBatch batch, ulong seed) => null;

    /// <summary>Tokens of the batch, without padding: there is none.</summary>
    long Tokens(TBatch batch);

    /// <summary>Where the batch's rows stand, for messages.</summary>
    string Describe(TBatch batch);
}

/// <summary>What all objectives share.</summary>
internal static class TrainingObjectives
{
    /// <summary>The same for one batch alone: waits for the loss and returns it.</summary>
    public static double Backpropagate<TBatch>(this ITrainingObjective<TBatch> objective, TBatch batch, float scale, ulong seed)
    {
        using StepScalars scalars = new(objective.Device, 1);
        scalars.Begin(scale);
        objective.Backpropagate(batch, scalars.LossGradient, seed, scalars.Loss(0));
        return scalars.ReadLosses()[0];
    }

    /// <summary>Keeps <paramref name="loss"/> in <paramref name="kept"/> and goes back from it; on the CPU, where looking costs nothing, only from a finite one.</summary>
    public static void Finish(Autograd.Tape tape, Tensor loss, Tensor gradient, Tensor kept)
    {
        tape.Device.Copy(loss.Address, kept.Address, sizeof(float));
        if (tape.Device.Kind == DeviceKind.Cuda || float.IsFinite(kept.Value)) tape.Backward(loss, gradient);
    }
}
