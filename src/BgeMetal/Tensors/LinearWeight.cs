using BgeMetal.Kernels;

namespace BgeMetal.Tensors;

/// <summary>
/// The compute copy of one or more linear layers that share their input: packed panels as the matmul kernel reads them, and the bias.
/// Several layers side by side start at multiples of 32 output columns, so that each is a view of the panels and a single matmul serves them all.
/// </summary>
internal sealed class LinearWeight
{
    /// <summary>Output columns of one packed panel.</summary>
    public const int PanelColumns = 32;

    private readonly nint _panels;
    private readonly Tensor _bias;
    private readonly int _layers;

    /// <summary>A view of <paramref name="layers"/> layers whose panels start at <paramref name="panels"/>.</summary>
    public LinearWeight(LinearSpec spec, nint panels, Tensor bias, int layers, LinearMasters? masters = null)
    {
        Spec = spec;
        _panels = panels;
        _bias = bias;
        _layers = layers;
        Masters = masters;
    }

    /// <summary>The layers as the model declares them.</summary>
    public LinearSpec Spec { get; }

    /// <summary>The layers of this view.</summary>
    public int LayerCount => _layers;

    /// <summary>What training needs; null for inference.</summary>
    public LinearMasters? Masters { get; }

    /// <summary>Columns of the input.</summary>
    public int InFeatures => Spec.InFeatures;

    /// <summary>Columns of the whole output, the gaps between layers included.</summary>
    public int OutColumns => _layers == 1 ? Spec.OutFeatures : _layers * Stride(Spec);

    /// <summary>The packed weights.</summary>
    public unsafe float* Panels => (float*)_panels;

    /// <summary>The bias, zero in the gaps between layers.</summary>
    public Tensor Bias => _bias.ColumnRange(0, OutColumns);

    /// <summary>Output columns from one layer's start to the next one's.</summary>
    public static int Stride(LinearSpec spec) => (spec.OutFeatures + PanelColumns - 1) / PanelColumns * PanelColumns;

    /// <summary>The layers <paramref name="first"/> .. <paramref name="first"/> + <paramref name="count"/> alone.</summary>
    public LinearWeight Layers(int first, int count)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(first + count, _layers, nameof(count));
        nint panels = _panels + (nint)first * Stride(Spec) * InFeatures * DType.Float32.SizeBytes;
        return new LinearWeight(Spec, panels, _bias.ColumnRange(first * Stride(Spec), count * Stride(Spec)), count, Masters?.Layers(Spec, first, count));
    }

    /// <summary>Layer <paramref name="index"/>'s columns of an output of this weight.</summary>
    public Tensor Part(Tensor output, int index) => output.ColumnRange(index * Stride(Spec), Spec.OutFeatures);
}
