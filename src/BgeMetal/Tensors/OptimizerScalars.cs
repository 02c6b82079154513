namespace BgeMetal.Tensors;

/// <summary>
/// What an update on CUDA reads and writes besides the flat buffers, at fixed addresses, so that the host waits for none of it: the schedule, the result of
/// the norm, the loss scale, and where runs of parameters end and whether they decay.
/// </summary>
internal sealed class OptimizerScalars : IDisposable
{
    private const int ScheduleAt = 0, LossScaleAt = 12, NormAt = 16, SpansAt = 64;
    private readonly Device _device;
    private readonly DeviceBlock _memory;

    /// <summary>Room on the device, and the runs of parameters; frozen ones do not decay, and their gradients are zero, so that nothing moves them.</summary>
    public OptimizerScalars(Device device, IReadOnlyList<ParameterSpan> spans)
    {
        _device = device;
        Spans = spans.Count;
        _memory = device.Allocate(SpansAt + (2L * sizeof(int) * spans.Count));
        device.Write<int>([.. spans.Select(span => checked((int)(span.Start + span.Count)))], SpanEnds);
        device.Write<int>([.. spans.Select(span => span is { Decayed: true, Frozen: false } ? 1 : 0)], SpanDecays);
    }

    /// <summary>Runs of parameters.</summary>
    public int Spans { get; }

    /// <summary>Three floats: learning rate, 1 / (1 - beta1^t), 1 / (1 - beta2^t).</summary>
    public nint Schedule => _memory.Address + ScheduleAt;

    /// <summary>Three floats: norm of the unscaled gradients, what to multiply gradients with, 1 where the step must be skipped.</summary>
    public nint Norm => _memory.Address + NormAt;

    /// <summary>One float: what the loss was multiplied with.</summary>
    public nint LossScale => _memory.Address + LossScaleAt;

    /// <summary>int32 [spans].</summary>
    public nint SpanEnds => _memory.Address + SpansAt;

    /// <summary>int32 [spans].</summary>
    public nint SpanDecays => SpanEnds + (sizeof(int) * Spans);

    /// <summary>Enqueues what the next update reads.</summary>
    public void Write(float learningRate, float firstCorrection, float secondCorrection, float lossScale) =>
        _device.Write<float>([learningRate, firstCorrection, secondCorrection, lossScale], Schedule);

    /// <summary>Waits for the norm; not finite where a gradient is not.</summary>
    public double ReadNorm()
    {
        Span<float> result = stackalloc float[3];
        _device.Read(Norm, result);
        return result[2] != 0 && float.IsFinite(result[0]) ? double.NaN : result[0];
    }

    /// <inheritdoc/>
    public void Dispose() => _memory.Dispose();
}
