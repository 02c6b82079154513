using System.Globalization;
using System.Text.Json;

namespace BgeMetal.Benchmarks.Models;

/// <summary>
/// The parameters of one BERT encoder in memory, from which the checkpoint folder and the ONNX model of the peer are written, so that both engines
/// compute with the same numbers.
/// </summary>
internal sealed class EncoderWeights
{
    private readonly IReadOnlyDictionary<string, NamedTensor> tensors;

    private EncoderWeights(EncoderShape shape, IReadOnlyDictionary<string, NamedTensor> tensors)
    {
        Shape = shape;
        this.tensors = tensors;
    }

    /// <summary>The sizes of the encoder.</summary>
    public EncoderShape Shape { get; }

    /// <summary>The values of a parameter, row-major, by its Hugging Face name.</summary>
    public float[] this[string name] => tensors[name].Values;

    /// <summary>
    /// Random parameters of the scale of a trained model: uniform with standard deviation 0.04 (linear weights and embeddings) and 0.02 (biases),
    /// LayerNorm gains around 1. The same seed gives the same weights.
    /// </summary>
    public static EncoderWeights Random(EncoderShape shape, int seed)
    {
        Random random = new(seed);
        Dictionary<string, NamedTensor> tensors = [];
        foreach ((string name, int[] dimensions) in shape.Parameters())
        {
            bool gain = name.EndsWith("LayerNorm.weight", StringComparison.Ordinal);
            bool bias = name.EndsWith(".bias", StringComparison.Ordinal);
            float centre = gain ? 1f : 0f;
            float halfWidth = (bias ? 0.02f : 0.04f) * MathF.Sqrt(3f);
            float[] values = new float[dimensions.Aggregate(1, (product, size) => product * size)];
            for (int i = 0; i < values.Length; i++)
                values[i] = centre + (2f * random.NextSingle() - 1f) * halfWidth;
            tensors.Add(name, new(name, dimensions, values));
        }
        return new(shape, tensors);
    }

    /// <summary>Reads config.json and model.safetensors (float32, BERT) of a folder; parameters that the encoder does not have (pooler) are left out.</summary>
    /// <exception cref="BgeMetalException">A parameter is missing or has another shape than the configuration says.</exception>
    public static EncoderWeights Load(string directory)
    {
        using JsonDocument document = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(directory, "config.json")));
        JsonElement config = document.RootElement;
        int Size(string name) => config.GetProperty(name).GetInt32();
        EncoderShape shape = new(Path.GetFileName(Path.TrimEndingDirectorySeparator(directory)), Size("num_hidden_layers"), Size("hidden_size"),
            Size("num_attention_heads"), Size("intermediate_size"), Size("vocab_size"), Size("max_position_embeddings"), Size("type_vocab_size"),
            config.GetProperty("layer_norm_eps").GetDouble());
        string file = Path.Combine(directory, "model.safetensors");
        Dictionary<string, NamedTensor> tensors = SafetensorsFile.Read(file);
        foreach ((string name, int[] dimensions) in shape.Parameters())
            if (!tensors.TryGetValue(name, out NamedTensor? tensor) || !tensor.Dimensions.SequenceEqual(dimensions))
                throw new BgeMetalException($"tensor '{name}'", $"missing, or not of shape [{string.Join(", ", dimensions)}]", file);
        return new(shape, tensors);
    }

    /// <summary>
    /// Writes a checkpoint folder that any reader of Hugging Face BERT models loads: config.json, model.safetensors, and a WordPiece vocabulary of the
    /// right size (special tokens, printable ASCII, then fillers).
    /// </summary>
    public void Save(string directory)
    {
        Directory.CreateDirectory(directory);
        SafetensorsFile.Write(Path.Combine(directory, "model.safetensors"), Shape.Parameters().Select(parameter => tensors[parameter.Name]));
        File.WriteAllLines(Path.Combine(directory, "vocab.txt"), Vocabulary().Take(Shape.VocabularySize));
        File.WriteAllText(Path.Combine(directory, "tokenizer_config.json"),
            $$"""{"do_lower_case": true, "model_max_length": {{Shape.Positions}}, "tokenizer_class": "BertTokenizer"}""" + "\n");
        File.WriteAllText(Path.Combine(directory, "config.json"), string.Create(CultureInfo.InvariantCulture, $$"""
            {
              "architectures": ["BertModel"],
              "model_type": "bert",
              "hidden_act": "gelu",
              "hidden_size": {{Shape.HiddenSize}},
              "num_hidden_layers": {{Shape.Layers}},
              "num_attention_heads": {{Shape.Heads}},
              "intermediate_size": {{Shape.IntermediateSize}},
              "vocab_size": {{Shape.VocabularySize}},
              "max_position_embeddings": {{Shape.Positions}},
              "type_vocab_size": {{Shape.TokenTypes}},
              "layer_norm_eps": {{Shape.Epsilon:R}},
              "initializer_range": 0.02,
              "hidden_dropout_prob": 0.1,
              "attention_probs_dropout_prob": 0.1,
              "pad_token_id": 0,
              "position_embedding_type": "absolute",
              "torch_dtype": "float32"
            }

            """));
    }

    private static IEnumerable<string> Vocabulary()
    {
        foreach (string special in (string[])["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
            yield return special;
        for (char letter = '!'; letter <= '~'; letter++)
            if (!char.IsAsciiLetterUpper(letter))
                yield return letter.ToString();
        for (char letter = 'a'; letter <= 'z'; letter++)
            yield return "##" + letter;
        for (int i = 0; ; i++)
            yield return "filler" + i.ToString(CultureInfo.InvariantCulture);
    }
}
