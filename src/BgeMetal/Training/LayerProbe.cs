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
        for (int row = 0; row < x.Rows && FirstNotFinite is null; row++)
            foreach (float value in x.RowSpan(row))
            {
                if (float.IsFinite(value)) continue;
                FirstNotFinite = layer;
                break;
            }
    }
}
