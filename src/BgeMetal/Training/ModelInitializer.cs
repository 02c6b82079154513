using BgeMetal.Checkpoints;
using BgeMetal.Nn;
using BgeMetal.Retrieval;
using BgeMetal.Tensors;
using BgeMetal.Text;

namespace BgeMetal.Training;

/// <summary>Makes a fresh BERT: weights and tables normal (<see cref="Initialization"/>), the padding row and all biases zero, LayerNorm gains one.</summary>
public static class ModelInitializer
{
    /// <summary>Saves a fresh model with <paramref name="tokenizer"/>'s files to a new or empty directory, in Hugging Face's layout.</summary>
    /// <param name="directory">Where it goes.</param>
    /// <param name="tokenizer">A BERT WordPiece tokenizer; its vocabulary gives the size of the word table.</param>
    /// <param name="options">Sizes and seed; the same seed gives the same bytes on every machine.</param>
    /// <param name="overwrite">Replace the model that the directory already holds.</param>
    /// <exception cref="BgeMetalException">A size is out of range, or the directory cannot be written.</exception>
    public static ModelConfig Create(string directory, ModelTokenizer tokenizer, FreshModelOptions options, bool overwrite = false)
    {
        ArgumentNullException.ThrowIfNull(tokenizer);
        ArgumentNullException.ThrowIfNull(options);
        options.Validate();
        ModelConfig config = new()
        {
            ModelType = ModelConfig.Bert,
            Architectures = ["BertModel"],
            VocabSize = tokenizer.VocabularySize,
            HiddenSize = options.HiddenSize,
            NumHiddenLayers = options.Layers,
            NumAttentionHeads = options.Heads,
            IntermediateSize = options.IntermediateSize > 0 ? options.IntermediateSize : 4 * options.HiddenSize,
            MaxPositionEmbeddings = options.MaxPositions,
            TypeVocabSize = 2,
            PadTokenId = Math.Max(tokenizer.PadId, 0),
            InitializerRange = InitialDistribution.BertDeviation,
        };
        CheckpointWriter.Save(directory, config, Parameters(config.ToEncoderShape(), options), options.Pooling, normalize: true,
            options.MaxPositions, tokenizer.Files, new SaveOptions { Overwrite = overwrite });
        return config;
    }

    private static List<NamedTensor> Parameters(EncoderShape shape, FreshModelOptions options)
    {
        LinearSpec pooler = new(["pooler.dense"], shape.HiddenSize, shape.HiddenSize);
        List<ParameterSpec> specs = [.. BertEncoder.Specs(shape), .. BertEncoder.LinearSpecs(shape).Append(pooler).SelectMany(linear => linear.Parameters())];
        Dictionary<string, int> streams = specs.Index().ToDictionary(entry => entry.Item.Name, entry => entry.Index);
        return [.. specs.Select(spec => new NamedTensor(spec.Name, spec.Shape, Values(spec)))];

        float[] Values(ParameterSpec spec)
        {
            InitialDistribution distribution = InitialDistribution.Of(spec, shape, options.Initialization);
            float[] values = new float[checked((int)spec.Count)];
            Fill(spec, options.Seed, streams[distribution.Sequence], distribution.StandardDeviation, values);
            return values;
        }
    }

    /// <summary>Fresh values of one parameter, from a random sequence of its own.</summary>
    internal static void Fill(ParameterSpec spec, int seed, int stream, double standardDeviation, Span<float> values)
    {
        values.Clear();
        if (spec.Role == ParameterRole.Gain) values.Fill(1);
        if (spec.Role is ParameterRole.Table or ParameterRole.Matrix) new NormalSampler(seed, stream).Fill(values, standardDeviation);
        if (spec.PaddingRow >= 0) values.Slice(spec.PaddingRow * spec.Columns, spec.Columns).Clear();
    }
}
