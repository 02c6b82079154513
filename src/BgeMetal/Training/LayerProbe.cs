using BgeMetal.Tensors;

namespace BgeMetal.Training;

/// <summary>Looks at every named result of a forward pass and keeps the name of the first that has a NaN or an infinity.</summary>
internal sealed class LayerProbe
{
    /// <summary>The layer, by its Hugging Face name; null when all results so far were finite.</summary>
    public string? FirstNotFinite { get; private set; }

    /// <summary>To be given to <see cref="Autograd.Tape.Record(Arena, TrainableParameters, ulong, Action{string, Tensor}?)"/>.</summary>
    public void Look(string layer, Tensor x)
    {
        if (FirstNotFinite is not null) return;
        float[] values = new float[checked(x.Rows * x.Columns)];
        x.CopyTo(values);
        if (!values.All(float.IsFinite)) FirstNotFinite = layer;
    }
}
