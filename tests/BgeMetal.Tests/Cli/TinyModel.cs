using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text.Json;

namespace BgeMetal.Tests.Cli;

/// <summary>Writes a small BERT checkpoint with random weights and a vocabulary of letters and a few words, by nothing but the file formats.</summary>
internal static class TinyModel
{
    public const int HiddenSize = 16;
    private const int Layers = 2, Intermediate = 32, Positions = 64;

    public static readonly string[] Vocabulary =
    [
        "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "dog", "sat", "on", "a", "mat", "ship", "sea", "sails", "stars", "night", "shine", "at", "?",
        .. Enumerable.Range('a', 26).Select(c => ((char)c).ToString()).Where(c => c != "a"), .. Enumerable.Range('a', 26).Select(c => "##" + (char)c),
    ];

    /// <summary>Makes the model in <paramref name="directory"/> and returns that.</summary>
    public static string Write(string directory, bool classifier = false, bool tokenizer = true, int seed = 1)
    {
        Directory.CreateDirectory(directory);
        File.WriteAllText(Path.Combine(directory, "config.json"), JsonSerializer.Serialize(new Dictionary<string, object>
        {
            ["model_type"] = "bert",
            ["architectures"] = new[] { classifier ? "BertForSequenceClassification" : "BertModel" },
            ["vocab_size"] = Vocabulary.Length,
            ["hidden_size"] = HiddenSize,
            ["num_hidden_layers"] = Layers,
            ["num_attention_heads"] = 2,
            ["intermediate_size"] = Intermediate,
            ["max_position_embeddings"] = Positions,
            ["type_vocab_size"] = 2,
            ["layer_norm_eps"] = 1e-12,
            ["hidden_act"] = "gelu",
            ["pad_token_id"] = 0,
            ["id2label"] = new Dictionary<string, string> { ["0"] = "LABEL_0" },
        }));
        File.WriteAllBytes(Path.Combine(directory, "model.safetensors"), Weights(classifier, seed));
        if (tokenizer)
        {
            File.WriteAllText(Path.Combine(directory, "vocab.txt"), string.Join('\n', Vocabulary) + "\n");
            File.WriteAllText(Path.Combine(directory, "tokenizer_config.json"), "{\"tokenizer_class\": \"BertTokenizer\", \"do_lower_case\": true}");
        }
        return directory;
    }

    private static byte[] Weights(bool classifier, int seed)
    {
        Random random = new(seed);
        Dictionary<string, object> header = [];
        List<float> values = [];
        foreach ((string name, int[] shape) in Shapes(classifier))
        {
            int start = values.Count;
            bool gain = name.EndsWith("LayerNorm.weight", StringComparison.Ordinal);
            for (int i = shape.Aggregate(1, (a, b) => a * b); i > 0; i--) values.Add(gain ? 1 : (float)(random.NextDouble() - 0.5));
            header[name] = new { dtype = "F32", shape, data_offsets = new[] { start * 4, values.Count * 4 } };
        }
        byte[] json = JsonSerializer.SerializeToUtf8Bytes(header);
        byte[] file = new byte[8 + json.Length + (values.Count * 4)];
        BinaryPrimitives.WriteInt64LittleEndian(file, json.Length);
        json.CopyTo(file, 8);
        MemoryMarshal.AsBytes(CollectionsMarshal.AsSpan(values)).CopyTo(file.AsSpan(8 + json.Length));
        return file;
    }

    private static IEnumerable<(string, int[])> Shapes(bool classifier)
    {
        string prefix = classifier ? "bert." : "";
        IEnumerable<(string, int[])> Norm(string name) => [(name + ".weight", [HiddenSize]), (name + ".bias", [HiddenSize])];
        IEnumerable<(string, int[])> Linear(string name, int rows, int columns) => [(name + ".weight", [rows, columns]), (name + ".bias", [rows])];
        IEnumerable<(string, int[])> Layer(string name) =>
        [
            .. ((string[])["query", "key", "value"]).SelectMany(part => Linear($"{name}attention.self.{part}", HiddenSize, HiddenSize)),
            .. Linear(name + "attention.output.dense", HiddenSize, HiddenSize), .. Norm(name + "attention.output.LayerNorm"),
            .. Linear(name + "intermediate.dense", Intermediate, HiddenSize), .. Linear(name + "output.dense", HiddenSize, Intermediate), .. Norm(name + "output.LayerNorm"),
        ];
        return
        [
            (prefix + "embeddings.word_embeddings.weight", [Vocabulary.Length, HiddenSize]), (prefix + "embeddings.position_embeddings.weight", [Positions, HiddenSize]),
            (prefix + "embeddings.token_type_embeddings.weight", [2, HiddenSize]), .. Norm(prefix + "embeddings.LayerNorm"),
            .. Enumerable.Range(0, Layers).SelectMany(i => Layer($"{prefix}encoder.layer.{i}.")),
            .. Linear(prefix + "pooler.dense", HiddenSize, HiddenSize),
            .. classifier ? Linear("classifier", 1, HiddenSize) : [],
        ];
    }
}
