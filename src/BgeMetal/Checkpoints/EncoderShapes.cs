namespace BgeMetal.Checkpoints;

/// <summary>
/// Checks that a checkpoint holds every tensor of the encoder that its config.json describes, in the right shape, before anything is allocated for
/// it. Tensors beyond those, as of heads or of layers that the config leaves out, are no error.
/// </summary>
internal static class EncoderShapes
{
    /// <exception cref="BgeMetalException">A tensor is missing or has another shape; the message names it and both shapes.</exception>
    internal static void Check(ModelConfig config, TensorSource tensors)
    {
        long hidden = config.HiddenSize, inner = config.IntermediateSize;
        tensors.Expect("embeddings.word_embeddings.weight", config.VocabSize, hidden);
        tensors.Expect("embeddings.position_embeddings.weight", config.MaxPositionEmbeddings, hidden);
        tensors.Expect("embeddings.token_type_embeddings.weight", config.TypeVocabSize, hidden);
        CheckPair(tensors, "embeddings.LayerNorm", hidden);
        for (int layer = 0; layer < config.NumHiddenLayers; layer++)
        {
            string prefix = $"encoder.layer.{layer}.";
            CheckPair(tensors, prefix + "attention.self.query", hidden, hidden);
            CheckPair(tensors, prefix + "attention.self.key", hidden, hidden);
            CheckPair(tensors, prefix + "attention.self.value", hidden, hidden);
            CheckPair(tensors, prefix + "attention.output.dense", hidden, hidden);
            CheckPair(tensors, prefix + "attention.output.LayerNorm", hidden);
            CheckPair(tensors, prefix + "intermediate.dense", inner, hidden);
            CheckPair(tensors, prefix + "output.dense", hidden, inner);
            CheckPair(tensors, prefix + "output.LayerNorm", hidden);
        }
    }

    private static void CheckPair(TensorSource tensors, string module, params ReadOnlySpan<long> weight)
    {
        tensors.Expect(module + ".weight", weight);
        tensors.Expect(module + ".bias", weight[0]);
    }
}
