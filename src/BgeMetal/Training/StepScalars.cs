using BgeMetal.Kernels;
using BgeMetal.Tensors;

namespace BgeMetal.Training;

/// <summary>
/// The numbers of a step that go between host and device, at addresses that stay: what the step is given is written once before it, what it gives is read once at
/// its end, so nothing waits in between. All binary32.
/// </summary>
internal sealed class StepScalars : IDisposable
{
    private const int LossGradientAt = 0, LossScaleAt = 1, ScheduleAt = 4, ScheduleLength = 3, ResultAt = 8, ResultLength = 3, LossesAt = 16;
    private readonly Device _device;
    private readonly DeviceBlock _memory;
    private readonly float[] _results;

    /// <summary>Room for a step of <paramref name="batches"/> batches.</summary>
    public StepScalars(Device device, int batches)
    {
        _device = device;
        _memory = device.Allocate((LossesAt + (long)batches) * sizeof(float));
        device.Clear(_memory.Address, _memory.SizeBytes);
        _results = new float[LossesAt - ResultAt + batches];
    }

    /// <summary>The gradient that each batch's loss starts with, [1, 1].</summary>
    public Tensor LossGradient => At(LossGradientAt, 1);

    /// <summary>What all gradients are scaled with, [1, 1].</summary>
    public Tensor LossScale => At(LossScaleAt, 1);

    /// <summary>Learning rate and bias corrections of the update, [1, 3] (CUDA).</summary>
    public Tensor Schedule => At(ScheduleAt, ScheduleLength);

    /// <summary>What the update came to: the norm, the factor of the gradients, whether it was left out, [1, 3] (CUDA).</summary>
    public Tensor Result => At(ResultAt, ResultLength);

    /// <summary>Where a batch's loss goes, [1, 1].</summary>
    public Tensor Loss(int batch) => At(LossesAt + batch, 1);

    /// <summary>Before a step: the scale of the loss, and the share of it that each batch has.</summary>
    public void Begin(float lossScale, float share)
    {
        Span<float> values = [lossScale * share, lossScale];
        _device.Write<float>(values, LossGradient.Address);
    }

    /// <summary>After a step, waiting for it: all results.</summary>
    public void Read() => _device.Read<float>(Result.Address, _results);

    /// <summary>A batch's loss, as last read.</summary>
    public double ReadLoss(int batch) => _results[LossesAt - ResultAt + batch];

    /// <summary>An element of <see cref="Result"/>, as last read.</summary>
    public double ReadResult(int element) => _results[element];

    /// <inheritdoc/>
    public void Dispose() => _memory.Dispose();

    private Tensor At(int index, int count) => new(_device, _memory.Address + (nint)(index * sizeof(float)), DType.Float32, 1, count, count);
}
