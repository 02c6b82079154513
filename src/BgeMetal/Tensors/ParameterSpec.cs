namespace BgeMetal.Tensors;

/// <summary>What a parameter is, which decides its layout, its initialisation and whether weight decay touches it.</summary>
internal enum ParameterRole
{
    /// <summary>A look-up table [rows, columns]: normal initialisation, decayed.</summary>
    Table,

    /// <summary>An nn.Linear weight [out, in]: normal initialisation, decayed, packed for the matmul kernel.</summary>
    Matrix,

    /// <summary>A bias [columns]: zeros, not decayed.</summary>
    Bias,

    /// <summary>A LayerNorm gain [columns]: ones, not decayed.</summary>
    Gain,
}

/// <summary>One parameter as a model declares it.</summary>
/// <param name="Name">The Hugging Face state-dict name without a model prefix, e.g. <c>encoder.layer.0.attention.self.query.weight</c>.</param>
/// <param name="Role">What it is.</param>
/// <param name="Rows">Rows; 1 for a vector.</param>
/// <param name="Columns">Columns.</param>
/// <param name="PaddingRow">The row of a table that starts as zeros and takes no gradient from look-ups; -1 for none.</param>
internal sealed record ParameterSpec(string Name, ParameterRole Role, int Rows, int Columns, int PaddingRow = -1)
{
    /// <summary>Elements.</summary>
    public long Count => (long)Rows * Columns;

    /// <summary>The shape as a checkpoint stores it: [rows, columns], or [columns] for a vector.</summary>
    public long[] Shape => Role is ParameterRole.Bias or ParameterRole.Gain ? [Columns] : [Rows, Columns];
}

/// <summary>Linear layers side by side that share their input (query, key and value), computed as one matmul.</summary>
/// <param name="Layers">State-dict prefixes, e.g. <c>encoder.layer.0.attention.self.query</c>, in column order.</param>
/// <param name="OutFeatures">Columns of each layer's output.</param>
/// <param name="InFeatures">Columns of the common input.</param>
internal sealed record LinearSpec(string[] Layers, int OutFeatures, int InFeatures)
{
    /// <summary>The parameters of these layers: each weight, then each bias.</summary>
    public IEnumerable<ParameterSpec> Parameters() =>
        Layers.Select(layer => new ParameterSpec(layer + ".weight", ParameterRole.Matrix, OutFeatures, InFeatures))
            .Concat(Layers.Select(layer => new ParameterSpec(layer + ".bias", ParameterRole.Bias, 1, OutFeatures)));
}
