using System.Text.Json;
using System.Text.Json.Nodes;
using BgeMetal.Checkpoints;

namespace BgeMetal.Tests.Checkpoints;

/// <summary>What is saved opens again with the same values, in exactly the files that transformers and sentence-transformers look for.</summary>
public sealed class SaveTests : CheckpointFolder
{
    private string Target => Path.Combine(Folder, "out", "model");

    [Theory]
    [InlineData(PoolingMode.Cls, true)]
    [InlineData(PoolingMode.Mean, false)]
    public void A_saved_embedder_opens_with_the_same_values_and_settings(PoolingMode pooling, bool normalize)
    {
        string vocabulary = Write("vocab.txt", "[PAD]\n");
        CheckpointWriter.Save(Target, Model(), TinyTensors(), pooling, normalize, 5, [vocabulary], new SaveOptions { Prompts = new Dictionary<string, string> { ["query"] = "为这个句子: " } });
        using Checkpoint checkpoint = Checkpoint.Open(Target);
        AssertTensors(checkpoint);
        Assert.Equal(pooling, checkpoint.Pooling);
        Assert.Equal(normalize, checkpoint.Normalize);
        Assert.Equal(5, checkpoint.MaxSequenceLength);
        Assert.Equal("为这个句子: ", checkpoint.Prompts["query"]);
        Assert.Equal(normalize, Directory.Exists(Path.Combine(Target, "2_Normalize")));
        Assert.Equal("[PAD]\n", File.ReadAllText(Path.Combine(Target, "vocab.txt")));
        Assert.Equal([Target], Directory.GetFileSystemEntries(Path.GetDirectoryName(Target)!));
    }

    [Fact]
    public void The_files_are_those_that_sentence_transformers_writes()
    {
        CheckpointWriter.Save(Target, Model(), TinyTensors(), PoolingMode.Cls, normalize: true, 5, []);
        Assert.Equal(["1_Pooling", "2_Normalize", "config.json", "config_sentence_transformers.json", "model.safetensors", "modules.json", "sentence_bert_config.json"],
            Directory.GetFileSystemEntries(Target).Select(Path.GetFileName).Order(StringComparer.Ordinal));
        JsonArray modules = JsonNode.Parse(File.ReadAllText(Path.Combine(Target, "modules.json")))!.AsArray();
        Assert.Equal(["", "1_Pooling", "2_Normalize"], modules.Select(module => (string?)module!["path"]));
        Assert.Equal(["Transformer", "Pooling", "Normalize"], modules.Select(module => ((string)module!["type"]!).Replace("sentence_transformers.models.", "", StringComparison.Ordinal)));
        JsonNode pooling = JsonNode.Parse(File.ReadAllText(Path.Combine(Target, "1_Pooling", "config.json")))!;
        Assert.Equal(4, (int)pooling["word_embedding_dimension"]!);
        Assert.True((bool)pooling["pooling_mode_cls_token"]!);
        Assert.False((bool)pooling["pooling_mode_mean_tokens"]!);
    }

    [Fact]
    public void The_safetensors_header_is_aligned_and_names_its_format()
    {
        CheckpointWriter.Save(Target, Model(), TinyTensors(), null, normalize: false, 5, []);
        byte[] file = File.ReadAllBytes(Path.Combine(Target, "model.safetensors"));
        int length = (int)BitConverter.ToInt64(file);
        Assert.Equal(0, length % 8);
        using JsonDocument header = JsonDocument.Parse(file.AsMemory(8, length));
        Assert.Equal("pt", header.RootElement.GetProperty("__metadata__").GetProperty("format").GetString());
        Assert.Equal([11L, 4L], header.RootElement.GetProperty("embeddings.word_embeddings.weight").GetProperty("shape").EnumerateArray().Select(n => n.GetInt64()));
        Assert.False(File.Exists(Path.Combine(Target, "modules.json")));
    }

    [Fact]
    public void Large_weights_are_sharded_and_found_again()
    {
        CheckpointWriter.Save(Target, Model(), TinyTensors(), null, normalize: false, 5, [], new SaveOptions { ShardBytes = 300 });
        string[] shards = [.. Directory.GetFiles(Target, "model-*.safetensors").Order(StringComparer.Ordinal)];
        Assert.True(shards.Length > 2);
        Assert.EndsWith($"model-00001-of-{shards.Length:d5}.safetensors", shards[0], StringComparison.Ordinal);
        Assert.All(shards, shard => Assert.True(new FileInfo(shard).Length < 300 + 1200));
        JsonNode index = JsonNode.Parse(File.ReadAllText(Path.Combine(Target, WeightFiles.SafetensorsIndex)))!;
        Assert.Equal(TinyTensors().Sum(tensor => tensor.SizeBytes), (long)index["metadata"]!["total_size"]!);
        using Checkpoint checkpoint = Checkpoint.Open(Target);
        AssertTensors(checkpoint);
    }

    [Theory]
    [InlineData("")]
    [InlineData("bert.")]
    [InlineData("roberta.")]
    [InlineData("lm.bert.")]
    [InlineData("model.")]
    [InlineData("0.auto_model.")]
    public void An_encoder_is_found_below_any_prefix_and_its_heads_beside_it(string prefix)
    {
        string parent = prefix.Length == 0 ? "" : prefix[..(prefix[..^1].LastIndexOf('.') + 1)];
        List<NamedTensor> tensors = TinyTensors(prefix);
        tensors.Add(new NamedTensor(parent + "classifier.weight", [1, 4], new float[4]));
        tensors.Add(new NamedTensor(prefix + "pooler.dense.weight", [4, 4], new float[16]));
        tensors.Add(new NamedTensor("c_head.output.dense.bias", [4], new float[4]));
        CheckpointWriter.Save(Target, Model(), tensors, null, normalize: false, 5, []);
        using Checkpoint checkpoint = Checkpoint.Open(Target);
        Assert.Equal(prefix, checkpoint.Tensors.Prefix);
        AssertTensors(checkpoint);
        Assert.Equal([1, 4], checkpoint.Tensors.Get("classifier.weight").Shape);
        Assert.Equal([4, 4], checkpoint.Tensors.Get("pooler.dense.weight").Shape);
        Assert.Equal([4], checkpoint.Tensors.Get("c_head.output.dense.bias").Shape);
    }

    [Fact]
    public void The_old_names_of_LayerNorm_parameters_are_understood()
    {
        List<NamedTensor> tensors = [.. TinyTensors("bert.").Select(tensor => Renamed(tensor, tensor.Name
            .Replace("LayerNorm.weight", "LayerNorm.gamma", StringComparison.Ordinal).Replace("LayerNorm.bias", "LayerNorm.beta", StringComparison.Ordinal)))];
        CheckpointWriter.Save(Target, Model(), tensors, null, normalize: false, 5, []);
        using Checkpoint checkpoint = Checkpoint.Open(Target);
        AssertTensors(checkpoint);
    }

    [Fact]
    public void A_checkpoint_without_an_encoder_or_with_two_is_refused()
    {
        CheckpointWriter.Save(Target, Model(), [new NamedTensor("x", [1], new float[1])], null, normalize: false, 5, []);
        AssertRefused(() => Checkpoint.Open(Target).Dispose(), Target, "tensor 'embeddings.word_embeddings.weight'", "there is no BERT or XLM-RoBERTa encoder");
        CheckpointWriter.Save(Target, Model(), [.. TinyTensors("question."), .. TinyTensors("context.")], null, normalize: false, 5, [], new SaveOptions { Overwrite = true });
        AssertRefused(() => Checkpoint.Open(Target).Dispose(), Target, "2 encoders, below 'context.' and 'question.'");
    }

    [Fact]
    public void A_directory_with_anything_in_it_is_refused_unless_it_may_be_overwritten()
    {
        Directory.CreateDirectory(Target);
        CheckpointWriter.Save(Target, Model(), TinyTensors(), PoolingMode.Cls, normalize: true, 5, [], new SaveOptions { ShardBytes = 300 });
        AssertRefused(() => CheckpointWriter.Save(Target, Model(), TinyTensors(), null, normalize: false, 5, []), Target, "the directory is not empty");
        File.WriteAllText(Path.Combine(Target, "train_log.csv"), "step");
        CheckpointWriter.Save(Target, Model(), TinyTensors(), null, normalize: false, 5, [], new SaveOptions { Overwrite = true });
        Assert.Equal(["1_Pooling", "2_Normalize", "config.json", "model.safetensors", "train_log.csv"],
            Directory.GetFileSystemEntries(Target).Select(Path.GetFileName).Order(StringComparer.Ordinal));
        using Checkpoint checkpoint = Checkpoint.Open(Target);
        AssertTensors(checkpoint);
        Assert.Null(checkpoint.Pooling);
        Assert.Null(checkpoint.Normalize);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_save_that_fails_leaves_the_directory_as_it_was(bool existing)
    {
        if (existing) CheckpointWriter.Save(Target, Model(), TinyTensors(), null, normalize: false, 5, []);
        string gone = Path.Combine(Folder, "gone.json");
        AssertRefused(() => CheckpointWriter.Save(Target, Model(), TinyTensors(), PoolingMode.Cls, normalize: true, 5, [gone], new SaveOptions { Overwrite = true }), Target, "cannot save the model");
        Assert.Equal(existing, Directory.Exists(Target));
        Assert.Equal(existing ? ["config.json", "model.safetensors"] : [],
            Directory.EnumerateFileSystemEntries(Path.GetDirectoryName(Target)!, "*", SearchOption.AllDirectories).Where(File.Exists).Select(Path.GetFileName).Order(StringComparer.Ordinal));
    }

    [Fact]
    public unsafe void Values_behind_a_pointer_are_saved_and_names_may_appear_once()
    {
        float* values = stackalloc float[] { 1, 2, 3 };
        NamedTensor tensor = new("a", [3], values);
        CheckpointWriter.Save(Target, Model(), [tensor], null, normalize: false, 5, []);
        using SafetensorsFile file = SafetensorsFile.Open(Path.Combine(Target, "model.safetensors"));
        float[] read = new float[3];
        file.ReadFloats("a", read);
        Assert.Equal([1, 2, 3], read);
        Assert.Throws<ArgumentException>(() => new NamedTensor("a", [4], new float[3]));
        Assert.Throws<ArgumentException>(() => CheckpointWriter.Save(Target, Model(), [.. TinyTensors(), .. TinyTensors()], null, false, 5, []));
    }

    private ModelConfig Model()
    {
        string folder = Path.GetDirectoryName(Write("source/config.json", CheckpointFolder.Config))!;
        return ModelConfig.Load(folder);
    }

    private static NamedTensor Renamed(NamedTensor tensor, string name) => new(name, tensor.Shape, tensor.Values(0, (int)tensor.Elements).ToArray());

    private static void AssertTensors(Checkpoint checkpoint)
    {
        foreach (NamedTensor expected in TinyTensors())
        {
            Assert.Equal(expected.Shape, checkpoint.Tensors.Get(expected.Name).Shape);
            float[] values = new float[expected.Elements];
            checkpoint.Tensors.ReadFloats(expected.Name, values);
            Assert.Equal(expected.Values(0, values.Length).ToArray(), values);
        }
    }
}
