using BgeMetal.Kernels.Cpu;

namespace BgeMetal.Tensors;

/// <summary>
/// What training needs of linear layers beside the packed forward weights: each layer's master weight [out, in] and bias [out], and its weight packed
/// the other way round, which turns an output gradient into an input gradient.
/// </summary>
/// <param name="Weights">Master weights, one a layer.</param>
/// <param name="Biases">Master biases, one a layer.</param>
/// <param name="Transposed">Panels of the transposed weights, one layer after another.</param>
internal sealed record LinearMasters(Tensor[] Weights, Tensor[] Biases, nint Transposed)
{
    /// <summary>Floats of one layer's transposed panels.</summary>
    public static long TransposedFloats(LinearSpec spec) => PackedMatrix.Length(spec.InFeatures, spec.OutFeatures);

    /// <summary>Layer <paramref name="index"/>'s transposed panels.</summary>
    public unsafe float* TransposedPanels(LinearSpec spec, int index) => (float*)Transposed + index * TransposedFloats(spec);

    /// <summary>The layers <paramref name="first"/> .. <paramref name="first"/> + <paramref name="count"/> alone.</summary>
    public unsafe LinearMasters Layers(LinearSpec spec, int first, int count) =>
        new(Weights[first..(first + count)], Biases[first..(first + count)], (nint)TransposedPanels(spec, first));
}
