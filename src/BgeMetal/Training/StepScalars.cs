using BgeMetal.Kernels;
using BgeMetal.Tensors;

namespace BgeMetal.Training;

/// <summary>
/// The losses of a step's batches and the gradient that each of them starts with, in the device's memory at addresses that stay: written once before a step and read
/// once after it, so that nothing waits in between. All binary32.
/// </summary>
internal sealed class StepScalars : IDisposable
{
    private readonly Device _device;
    private readonly DeviceBlock _memory;
    private readonly float[] _losses;

    /// <summary>Room for a step of <paramref name="batches"/> batches.</summary>
    public StepScalars(Device device, int batches)
    {
        _device = device;
        _memory = device.Allocate((1 + (long)batches) * sizeof(float));
        _losses = new float[batches];
    }

    /// <summary>The gradient that each batch's loss starts with, [1, 1].</summary>
    public Tensor LossGradient => At(0);

    /// <summary>Where a batch's loss goes, [1, 1].</summary>
    public Tensor Loss(int batch) => At(1 + batch);

    /// <summary>Before a step: sets <see cref="LossGradient"/>.</summary>
    public void Begin(double lossGradient)
    {
        Span<float> value = [(float)lossGradient];
        _device.Write<float>(value, LossGradient.Address);
    }

    /// <summary>After a step, waiting for it: the losses of all batches, until the next call.</summary>
    public ReadOnlySpan<float> ReadLosses()
    {
        _device.Read<float>(Loss(0).Address, _losses);
        return _losses;
    }

    /// <inheritdoc/>
    public void Dispose() => _memory.Dispose();

    private Tensor At(int index) => new(_device, _memory.Address + (nint)(index * sizeof(float)), DType.Float32, 1, 1, 1);
}
