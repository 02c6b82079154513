using BgeMetal.Kernels;

namespace BgeMetal.Tensors;

/// <summary>
/// The compute copy of one or more linear layers that share their input, as the device's matmul reads it, and the bias. On the CPU the weights are packed
/// panels and layers side by side start at multiples of 32 output columns; on CUDA they are row-major, [out, in] one below the other, without gaps. Either
/// way each layer is a view and a single matmul serves them all.
/// </summary>
internal sealed class LinearWeight
{
    /// <summary>Output columns of one packed panel.</summary>
    public const int PanelColumns = 32;

    private readonly nint _address;
    private readonly Tensor _bias;
    private readonly int _layers;

    /// <summary>A view of <paramref name="layers"/> layers whose weights start at <paramref name="address"/>; the bias tells device and storage type.</summary>
    public LinearWeight(LinearSpec spec, nint address, Tensor bias, int layers, LinearMasters? masters = null)
    {
        Spec = spec;
        _address = address;
        _bias = bias;
        _layers = layers;
        Masters = masters;
    }

    /// <summary>The layers as the model declares them.</summary>
    public LinearSpec Spec { get; }

    /// <summary>The layers of this view.</summary>
    public int LayerCount => _layers;

    /// <summary>What training on the CPU needs; null for inference and on CUDA.</summary>
    public LinearMasters? Masters { get; }

    /// <summary>Columns of the input.</summary>
    public int InFeatures => Spec.InFeatures;

    /// <summary>Columns of the whole output, the gaps between layers included.</summary>
    public int OutColumns => _layers == 1 ? Spec.OutFeatures : _layers * ColumnStride;

    /// <summary>Output columns from one layer's start to the next one's.</summary>
    public int ColumnStride => _bias.Device.Kind == DeviceKind.Cpu ? Stride(Spec) : Spec.OutFeatures;

    /// <summary>The packed weights (CPU).</summary>
    public unsafe float* Panels => (float*)_address;

    /// <summary>The weights of all layers of this view, [out, in] (CUDA).</summary>
    public Tensor RowMajor => new(_bias.Device, _address, _bias.DType, OutColumns, InFeatures, InFeatures);

    /// <summary>The bias, zero in the gaps between layers.</summary>
    public Tensor Bias => _bias.ColumnRange(0, OutColumns);

    /// <summary>Output columns from one layer's packed panels to the next one's.</summary>
    public static int Stride(LinearSpec spec) => (spec.OutFeatures + PanelColumns - 1) / PanelColumns * PanelColumns;

    /// <summary>The layers <paramref name="first"/> .. <paramref name="first"/> + <paramref name="count"/> alone.</summary>
    public LinearWeight Layers(int first, int count)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(first + count, _layers, nameof(count));
        nint address = _address + (nint)first * ColumnStride * InFeatures * _bias.DType.SizeBytes;
        return new LinearWeight(Spec, address, _bias.ColumnRange(first * ColumnStride, count * ColumnStride), count, Masters?.Layers(Spec, first, count));
    }

    /// <summary>Layer <paramref name="index"/>'s columns of an output of this weight.</summary>
    public Tensor Part(Tensor output, int index) => output.ColumnRange(index * ColumnStride, Spec.OutFeatures);
}
