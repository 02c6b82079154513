using BgeMetal.Checkpoints;
using BgeMetal.Nn;
using BgeMetal.Retrieval;
using BgeMetal.Tensors;

namespace BgeMetal.Training;

/// <summary>
/// An encoder with masked-LM head and RetroMAE decoder. The head comes from the checkpoint or is made; the decoder comes from
/// <see cref="DecoderFile"/> beside the model, from a checkpoint of the whole RetroMAE model (<c>c_head.*</c>), or is made. Saved as BertForMaskedLM or
/// XLMRobertaForMaskedLM, with the decoder in a file of its own.
/// </summary>
internal static class RetroMaeModel
{
    /// <summary>The decoder's weights, beside the model.</summary>
    public const string DecoderFile = "decoder_head.safetensors";

    private const string TiedWeight = "cls.predictions.decoder.weight";
    private const string TiedBias = "cls.predictions.decoder.bias";

    /// <summary>The head's names in a model of this type.</summary>
    public static MaskedLanguageHeadNames Names(ModelConfig config) =>
        config.ModelType == ModelConfig.XlmRoberta ? MaskedLanguageHeadNames.XlmRoberta : MaskedLanguageHeadNames.Bert;

    /// <summary>Loads a model; <paramref name="note"/> hears what had to be made.</summary>
    /// <exception cref="BgeMetalException">The checkpoint is damaged, or a head or decoder in it has another shape.</exception>
    public static TrainableModel Load(string directory, ComputeOptions compute, int seed, Action<string>? note) =>
        TrainableModel.Load(directory, compute, checkpoint => Extra(checkpoint, seed, note), new HashSet<string>());

    /// <summary>How it is saved.</summary>
    public static SavedLayout Layout(ModelConfig config)
    {
        bool roberta = config.ModelType == ModelConfig.XlmRoberta;
        string encoder = roberta ? "roberta." : "bert.", head = roberta ? "lm_head." : "cls.predictions.";
        string[] tied = roberta ? ["lm_head.decoder.weight", "lm_head.decoder.bias"] : [TiedWeight, TiedBias];
        return new SavedLayout(roberta ? "XLMRobertaForMaskedLM" : "BertForMaskedLM", NameOf, DecoderFile);

        string? NameOf(string name)
        {
            if (name.StartsWith(head, StringComparison.Ordinal)) return tied.Contains(name) ? null : name;
            return name.StartsWith("embeddings.", StringComparison.Ordinal) || name.StartsWith("encoder.", StringComparison.Ordinal) ? encoder + name : null;
        }
    }

    private static ExtraParameters Extra(Checkpoint checkpoint, int seed, Action<string>? note)
    {
        ModelConfig config = checkpoint.Config;
        EncoderShape shape = config.ToEncoderShape();
        MaskedLanguageHeadNames names = Names(config);
        List<ParameterSpec> dense = [.. MaskedLanguageHead.Specs(shape, names), .. RetroMaeDecoder.Specs(shape)];
        List<LinearSpec> linears = [.. MaskedLanguageHead.LinearSpecs(shape, names), .. RetroMaeDecoder.LinearSpecs(shape)];
        Dictionary<string, int> streams = new(StringComparer.Ordinal);
        foreach (ParameterSpec spec in new ExtraParameters(dense, linears).All) streams.Add(spec.Name, streams.Count);
        string decoder = Path.Combine(checkpoint.TransformerDirectory, DecoderFile);
        TellWhatIsMade(checkpoint, streams.Keys, File.Exists(decoder), note);
        SavedLayout layout = Layout(config);
        return new ExtraParameters(dense, linears, Read) { Keeps = name => layout.NameOf(name) is not null };

        void Read(ParameterSpec spec, Span<float> destination)
        {
            if (spec.Name == MaskedLanguageHeadNames.Bert.Bias && checkpoint.Tensors.TryGet(TiedBias, out _))
                checkpoint.Tensors.ReadParameter(spec with { Name = TiedBias }, destination);
            else if (spec.Name.StartsWith(RetroMaeDecoder.Prefix, StringComparison.Ordinal) && File.Exists(decoder))
                ReadDecoder(decoder, spec, destination);
            else
                ModelInitializer.Fill(spec, seed, streams[spec.Name], config.InitializerRange, destination);
        }
    }

    private static void ReadDecoder(string path, ParameterSpec spec, Span<float> destination)
    {
        using SafetensorsFile file = SafetensorsFile.Open(path);
        file.ReadParameter(spec, destination);
    }

    private static void TellWhatIsMade(Checkpoint checkpoint, IEnumerable<string> names, bool hasDecoderFile, Action<string>? note)
    {
        string[] missing = [.. names.Where(name => !checkpoint.Tensors.TryGet(name, out _))];
        bool Lacks(bool decoder) => missing.Any(name => name.StartsWith(RetroMaeDecoder.Prefix, StringComparison.Ordinal) == decoder
            && !(name == MaskedLanguageHeadNames.Bert.Bias && checkpoint.Tensors.TryGet(TiedBias, out _)));
        if (Lacks(decoder: false)) note?.Invoke("the checkpoint has no whole masked-LM head: what is missing starts fresh, its output matrix tied to the word embeddings");
        if (Lacks(decoder: true)) note?.Invoke(hasDecoderFile ? $"the decoder goes on from {DecoderFile}" : "the decoder starts fresh");
    }
}
