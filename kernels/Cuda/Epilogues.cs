using BgeMetal.Kernels.Primitives;

namespace BgeMetal.Kernels.Cuda;

/// <summary>
/// What happens to a finished element of a matrix product, and where it goes. The struct carries its own pointers and is inlined into the
/// kernel; the eight-wide form is called only where eight columns exist and <see cref="Vectorized"/> is set.
/// </summary>
internal interface IEpilogue
{
    /// <summary>Nonzero when all rows that the epilogue touches start at multiples of 16 bytes.</summary>
    int Vectorized { get; }

    /// <summary>Finishes one element.</summary>
    void Write(float value, int row, int column, int split);

    /// <summary>Finishes eight elements of a row, from a column that is a multiple of 8.</summary>
    void Write8(Float8 value, int row, int column, int split);
}

/// <summary>Adds a row vector, where there is one.</summary>
internal readonly struct Bias<T>(DevicePointer<T> values) where T : unmanaged, IElement
{
    public readonly DevicePointer<T> Values = values;

    public bool IsAligned => (Values.Address & 15) == 0;

    public float Apply(float value, int column) => Values.IsNull ? value : value + Values.Load(column);

    public Float8 Apply(Float8 value, int column) => Values.IsNull ? value : value + Values.Load8(column);
}

/// <summary>y = value + bias + residual; bias and residual may be absent, and the residual may be y itself.</summary>
internal readonly struct LinearOutput<T>(DeviceMatrix<T> output, DevicePointer<T> bias, DeviceMatrix<T> residual) : IEpilogue where T : unmanaged, IElement
{
    public readonly DeviceMatrix<T> Output = output, Residual = residual;
    public readonly Bias<T> Bias = new(bias);
    public readonly int Aligned = output.IsAligned & residual.IsAligned & (bias.Address & 15) == 0 ? 1 : 0;

    public int Vectorized => Aligned;

    public void Write(float value, int row, int column, int split)
    {
        value = Bias.Apply(value, column);
        Output.Store(row, column, Residual.IsNull ? value : value + Residual.Load(row, column));
    }

    public void Write8(Float8 value, int row, int column, int split)
    {
        value = Bias.Apply(value, column);
        Output.Store8(row, column, Residual.IsNull ? value : value + Residual.Load8(row, column));
    }
}

/// <summary>y = GELU(value + bias); value + bias itself is kept where there is room for it, for the backward pass.</summary>
internal readonly struct GeluOutput<T>(DeviceMatrix<T> output, DevicePointer<T> bias, DeviceMatrix<T> preActivation) : IEpilogue where T : unmanaged, IElement
{
    public readonly DeviceMatrix<T> Output = output, PreActivation = preActivation;
    public readonly Bias<T> Bias = new(bias);
    public readonly int Aligned = output.IsAligned & preActivation.IsAligned & (bias.Address & 15) == 0 ? 1 : 0;

    public int Vectorized => Aligned;

    public void Write(float value, int row, int column, int split)
    {
        value = Bias.Apply(value, column);
        if (!PreActivation.IsNull) PreActivation.Store(row, column, value);
        Output.Store(row, column, Gelu.Apply(value));
    }

    public void Write8(Float8 value, int row, int column, int split)
    {
        value = Bias.Apply(value, column);
        if (!PreActivation.IsNull) PreActivation.Store8(row, column, value);
        Output.Store8(row, column, value.Map<Gelu>());
    }
}

/// <summary>y = tanh(value + bias).</summary>
internal readonly struct TanhOutput<T>(DeviceMatrix<T> output, DevicePointer<T> bias) : IEpilogue where T : unmanaged, IElement
{
    public readonly DeviceMatrix<T> Output = output;
    public readonly Bias<T> Bias = new(bias);
    public readonly int Aligned = output.IsAligned & (bias.Address & 15) == 0 ? 1 : 0;

    public int Vectorized => Aligned;

    public void Write(float value, int row, int column, int split) => Output.Store(row, column, Tanh.Apply(Bias.Apply(value, column)));

    public void Write8(Float8 value, int row, int column, int split) => Output.Store8(row, column, Bias.Apply(value, column).Map<Tanh>());
}

/// <summary>dx = value, or dx += value.</summary>
internal readonly struct GradientOutput<T>(DeviceMatrix<T> output, bool accumulate) : IEpilogue where T : unmanaged, IElement
{
    public readonly DeviceMatrix<T> Output = output;
    public readonly int Accumulate = accumulate ? 1 : 0, Aligned = output.IsAligned ? 1 : 0;

    public int Vectorized => Aligned;

    public void Write(float value, int row, int column, int split) =>
        Output.Store(row, column, Accumulate != 0 ? value + Output.Load(row, column) : value);

    public void Write8(Float8 value, int row, int column, int split) =>
        Output.Store8(row, column, Accumulate != 0 ? value + Output.Load8(row, column) : value);
}

/// <summary>dx = value * GELU'(pre-activation): the gradient goes through the activation in front of the layer on its way out.</summary>
internal readonly struct GeluGradientOutput<T>(DeviceMatrix<T> output, DeviceMatrix<T> preActivation) : IEpilogue where T : unmanaged, IElement
{
    public readonly DeviceMatrix<T> Output = output, PreActivation = preActivation;
    public readonly int Aligned = output.IsAligned & preActivation.IsAligned ? 1 : 0;

    public int Vectorized => Aligned;

    public void Write(float value, int row, int column, int split) =>
        Output.Store(row, column, value * GeluDerivative.Apply(PreActivation.Load(row, column)));

    public void Write8(Float8 value, int row, int column, int split) =>
        Output.Store8(row, column, value * PreActivation.Load8(row, column).Map<GeluDerivative>());
}

/// <summary>dW += value, binary32.</summary>
internal readonly struct WeightGradientOutput(DeviceMatrix<FP32> output) : IEpilogue
{
    public readonly DeviceMatrix<FP32> Output = output;
    public readonly long Aligned = output.IsAligned ? 1 : 0;

    public int Vectorized => (int)Aligned;

    public void Write(float value, int row, int column, int split) => Output.Store(row, column, value + Output.Load(row, column));

    public void Write8(Float8 value, int row, int column, int split) => Output.Store8(row, column, value + Output.Load8(row, column));
}

/// <summary>
/// dx = the sum of several products times a number, one after the other: sums gather in binary32 and the last product's epilogue writes dx, or adds to it. The
/// first product ignores what is in the sums, and where there is only one they are not touched.
/// </summary>
internal readonly struct SummedGradientOutput<T>(DeviceMatrix<FP32> sums, bool first, bool last, DeviceScalar scale, DeviceMatrix<T> output, bool accumulate) : IEpilogue
    where T : unmanaged, IElement
{
    public readonly DeviceMatrix<FP32> Sums = sums;
    public readonly DeviceMatrix<T> Output = output;
    public readonly DeviceScalar Scale = scale;
    public readonly int First = first ? 1 : 0, Last = last ? 1 : 0, Accumulate = accumulate ? 1 : 0;
    public readonly int Aligned = (sums.IsNull || sums.IsAligned) && output.IsAligned ? 1 : 0;

    public int Vectorized => Aligned;

    public void Write(float value, int row, int column, int split)
    {
        if (First == 0) value += Sums.Load(row, column);
        if (Last == 0)
        {
            Sums.Store(row, column, value);
            return;
        }
        value *= Scale.Load();
        Output.Store(row, column, Accumulate != 0 ? value + Output.Load(row, column) : value);
    }

    public void Write8(Float8 value, int row, int column, int split)
    {
        if (First == 0) value += Sums.Load8(row, column);
        if (Last == 0)
        {
            Sums.Store8(row, column, value);
            return;
        }
        value *= Scale.Load();
        Output.Store8(row, column, Accumulate != 0 ? value + Output.Load8(row, column) : value);
    }
}

/// <summary>The partial product of one split, binary32, [splits, M, N] without gaps; <see cref="SplitSum"/> adds them up and runs the epilogue proper.</summary>
internal readonly struct Partial(DevicePointer<FP32> sums, int rows, int columns) : IEpilogue
{
    public readonly DevicePointer<FP32> Sums = sums;
    public readonly long SplitStride = (long)rows * columns;
    public readonly int Columns = columns, Aligned = columns % 4 == 0 ? 1 : 0;

    public int Vectorized => Aligned;

    public void Write(float value, int row, int column, int split) => Sums.Store(split * SplitStride + (long)row * Columns + column, value);

    public void Write8(Float8 value, int row, int column, int split) => Sums.Store8(split * SplitStride + (long)row * Columns + column, value);
}
