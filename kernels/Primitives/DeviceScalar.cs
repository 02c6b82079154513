namespace BgeMetal.Kernels.Primitives;

/// <summary>
/// A number that a kernel multiplies with: a factor known to the host times, where there is one, a binary32 in device memory, so that a captured graph
/// can change it from step to step (a loss scale, the gradient of a loss).
/// </summary>
public readonly struct DeviceScalar
{
    private readonly DevicePointer<FP32> _value;
    private readonly float _factor;

    /// <summary><paramref name="factor"/> times the number at <paramref name="value"/>, or the factor alone where that is absent.</summary>
    public DeviceScalar(float factor, DevicePointer<FP32> value = default)
    {
        _value = value;
        _factor = factor;
    }

    /// <summary>A number that the host knows.</summary>
    public static implicit operator DeviceScalar(float factor) => new(factor);

    /// <summary>The same number times <paramref name="factor"/>.</summary>
    public static DeviceScalar operator *(DeviceScalar scalar, float factor) => new(scalar._factor * factor, scalar._value);

    /// <inheritdoc cref="op_Implicit(float)"/>
    public static DeviceScalar FromSingle(float factor) => new(factor);

    /// <inheritdoc cref="op_Multiply(DeviceScalar, float)"/>
    public static DeviceScalar Multiply(DeviceScalar left, float right) => left * right;

    /// <summary>The number, on the device.</summary>
    internal float Load() => _value.IsNull ? _factor : _factor * _value.Load(0);
}
