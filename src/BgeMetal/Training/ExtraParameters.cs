using BgeMetal.Checkpoints;
using BgeMetal.Retrieval;
using BgeMetal.Tensors;

namespace BgeMetal.Training;

/// <summary>Parameters that a task trains besides the encoder's.</summary>
/// <param name="Dense">Vectors and tables.</param>
/// <param name="Linears">Linear layers.</param>
/// <param name="ReadMissing">Gives the values of those that the checkpoint lacks; null where lacking one is an error.</param>
internal sealed record ExtraParameters(IReadOnlyList<ParameterSpec> Dense, IReadOnlyList<LinearSpec> Linears, ParameterReader? ReadMissing = null)
{
    /// <summary>Which of the checkpoint's other tensors are kept in memory, to be saved again; all unless given.</summary>
    public Func<string, bool> Keeps { get; init; } = _ => true;

    /// <summary>All of them.</summary>
    public IEnumerable<ParameterSpec> All => Dense.Concat(Linears.SelectMany(linear => linear.Parameters()));

    /// <summary>How the model reads: from the checkpoint, else from <see cref="ReadMissing"/>.</summary>
    public ParameterReader Reader(TensorSource tensors)
    {
        HashSet<string> extra = [.. All.Select(spec => spec.Name)];
        return (spec, destination) =>
        {
            if (ReadMissing is not null && extra.Contains(spec.Name) && !tensors.TryGet(spec.Name, out _)) ReadMissing(spec, destination);
            else tensors.ReadParameter(spec, destination);
        };
    }
}

/// <summary>How a model is written where it is not the encoder with its head as they are.</summary>
/// <param name="Architecture">The class that config.json names.</param>
/// <param name="NameOf">The name in the model file of a parameter or an untouched tensor; null for what does not belong there.</param>
/// <param name="SideFile">A safetensors file beside the model for trained parameters that do not belong in it, under their own names.</param>
internal sealed record SavedLayout(string Architecture, Func<string, string?> NameOf, string SideFile);
