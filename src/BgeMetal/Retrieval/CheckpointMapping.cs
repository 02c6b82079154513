using System.Text.Json;
using BgeMetal.Checkpoints;
using BgeMetal.Nn;
using BgeMetal.Tensors;

namespace BgeMetal.Retrieval;

/// <summary>How a checkpoint's files become the model's shapes and parameters.</summary>
internal static class CheckpointMapping
{
    extension(ModelConfig config)
    {
        /// <summary>The encoder's sizes.</summary>
        public EncoderShape ToEncoderShape() => new(
            config.VocabSize, config.HiddenSize, config.NumHiddenLayers, config.NumAttentionHeads, config.IntermediateSize,
            config.MaxPositionEmbeddings, config.TypeVocabSize, config.PadTokenId,
            config.ModelType == ModelConfig.XlmRoberta ? config.PadTokenId : -1, (float)config.LayerNormEps, (float)config.HiddenDropoutProb, (float)config.AttentionDropoutProb);

        /// <summary>The name the model was published or saved under, if config.json has one.</summary>
        public string? NameOrPath => config.OtherFields.TryGetValue("_name_or_path", out JsonElement name) && name.ValueKind == JsonValueKind.String
            ? name.GetString() : null;
    }

    extension(TensorSource tensors)
    {
        /// <summary>Reads one parameter after checking its shape against what the configuration says.</summary>
        /// <exception cref="BgeMetalException">The tensor is missing or has another shape.</exception>
        public void ReadParameter(ParameterSpec spec, Span<float> destination)
        {
            tensors.Expect(spec.Name, spec.Shape);
            tensors.ReadFloats(spec.Name, destination);
        }
    }
}
