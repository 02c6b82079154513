using System.Buffers.Binary;
using System.Text;
using BgeMetal.Checkpoints;

namespace BgeMetal.Tests.Checkpoints;

/// <summary>A temporary folder for one test, with writers of small model files and the one way to look at a refusal.</summary>
public abstract class CheckpointFolder : IDisposable
{
    /// <summary>Every refusal has to come within this many allocated bytes, whatever the file promises.</summary>
    private const long MostAllocated = 4 << 20;

    /// <summary>A valid config.json of a tiny model.</summary>
    internal const string Config = """
        {"model_type": "bert", "architectures": ["BertModel"], "vocab_size": 11, "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 2,
         "intermediate_size": 6, "max_position_embeddings": 7, "type_vocab_size": 2, "layer_norm_eps": 1e-12, "hidden_act": "gelu", "pad_token_id": 0,
         "position_embedding_type": "absolute", "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "classifier_dropout": null,
         "is_decoder": false, "add_cross_attention": false, "id2label": {"0": "A", "1": "B"}}
        """;

    protected string Folder { get; } = Directory.CreateTempSubdirectory("bgemetal-").FullName;

    public void Dispose()
    {
        Directory.Delete(Folder, recursive: true);
        GC.SuppressFinalize(this);
    }

    internal string Write(string name, ReadOnlySpan<byte> bytes)
    {
        string path = Path.Combine(Folder, name);
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        File.WriteAllBytes(path, bytes);
        return path;
    }

    internal string Write(string name, string text) => Write(name, Encoding.UTF8.GetBytes(text));

    /// <summary>A safetensors file of a header, as text, and zeros after it.</summary>
    internal string WriteSafetensors(string header, int dataBytes, string name = "model.safetensors") =>
        Write(name, [.. Length((ulong)Encoding.UTF8.GetByteCount(header)), .. Encoding.UTF8.GetBytes(header), .. new byte[dataBytes]]);

    internal static byte[] Length(ulong value)
    {
        byte[] bytes = new byte[8];
        BinaryPrimitives.WriteUInt64LittleEndian(bytes, value);
        return bytes;
    }

    /// <summary>All tensors of the tiny model, with different values everywhere.</summary>
    internal static List<NamedTensor> TinyTensors(string prefix = "")
    {
        List<NamedTensor> tensors = [];
        Add("embeddings.word_embeddings.weight", 11, 4);
        Add("embeddings.position_embeddings.weight", 7, 4);
        Add("embeddings.token_type_embeddings.weight", 2, 4);
        AddPair("embeddings.LayerNorm", 4);
        foreach (string name in (string[])["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"]) AddPair("encoder.layer.0." + name, 4, 4);
        AddPair("encoder.layer.0.attention.output.LayerNorm", 4);
        AddPair("encoder.layer.0.intermediate.dense", 6, 4);
        AddPair("encoder.layer.0.output.dense", 4, 6);
        AddPair("encoder.layer.0.output.LayerNorm", 4);
        return tensors;

        void AddPair(string module, params long[] shape)
        {
            Add(module + ".weight", shape);
            Add(module + ".bias", shape[0]);
        }

        void Add(string name, params long[] shape) =>
            tensors.Add(new NamedTensor(prefix + name, shape, Enumerable.Range(0, (int)TensorEntry.CountElements(shape)).Select(i => tensors.Count + (i / 128f)).ToArray()));
    }

    /// <summary>The action must be refused in one line that names <paramref name="file"/> and contains all <paramref name="fragments"/>, with little memory.</summary>
    internal static void AssertRefused(Action action, string file, params string[] fragments)
    {
        long before = GC.GetAllocatedBytesForCurrentThread();
        BgeMetalException error = Assert.Throws<BgeMetalException>(action);
        long allocated = GC.GetAllocatedBytesForCurrentThread() - before;
        Assert.Contains(file, error.Message, StringComparison.Ordinal);
        foreach (string fragment in fragments) Assert.Contains(fragment, error.Message, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', error.Message);
        Assert.True(error.Message.Length - file.Length < 800, $"{error.Message.Length} characters");
        Assert.True(allocated < MostAllocated, $"{allocated} bytes were allocated");
    }
}
