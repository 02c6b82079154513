using BgeMetal.Checkpoints;
using BgeMetal.Testing;

namespace BgeMetal.Tests.Checkpoints;

/// <summary>Every model folder of the fixtures opens, and holds the same values in every format it is stored in.</summary>
public sealed class FixtureCheckpointTests
{
    [Fact]
    public void Every_model_folder_opens_and_all_its_floats_are_finite()
    {
        int models = 0;
        foreach (string config in Directory.EnumerateFiles(SharedFolder.FixtureOrSkip(), "config.json", SearchOption.AllDirectories))
        {
            string folder = Path.GetDirectoryName(config)!;
            foreach (string? weights in (string?[])[null, .. Directory.GetFiles(folder, "pytorch_model.bin")])
            {
                using Checkpoint checkpoint = Checkpoint.Open(folder, weights);
                foreach (TensorEntry entry in checkpoint.Tensors.Entries.Where(entry => entry.IsFloat))
                {
                    float[] values = new float[entry.Elements];
                    checkpoint.Tensors.ReadFloats(entry.Name, values);
                    Assert.All(values, value => Assert.True(float.IsFinite(value), entry.Name));
                }
                models++;
            }
        }
        Assert.NotEqual(0, models);
    }

    [Fact]
    public void The_same_model_in_safetensors_and_in_a_PyTorch_file_has_equal_values()
    {
        int compared = 0;
        foreach (string bin in Directory.EnumerateFiles(SharedFolder.FixtureOrSkip(), "pytorch_model.bin", SearchOption.AllDirectories))
        {
            string beside = Path.Combine(Path.GetDirectoryName(bin)!, "model.safetensors");
            if (!File.Exists(beside)) continue;
            using TorchArchive torch = TorchArchive.Open(bin);
            using SafetensorsFile safetensors = SafetensorsFile.Open(beside);
            foreach (TensorEntry entry in safetensors.Entries) AssertEqual(safetensors, entry, torch, entry.Name);
            Assert.All(torch.Entries.Where(entry => entry.IsFloat), entry => Assert.True(safetensors.TryGet(entry.Name, out _), entry.Name));
            compared++;
        }
        Assert.NotEqual(0, compared);
    }

    [Fact]
    public void A_whole_RetroMAE_checkpoint_opens_as_the_encoder_with_its_heads()
    {
        using Checkpoint whole = Checkpoint.Open(SharedFolder.FixtureOrSkip("retromae", "model"), SharedFolder.FixtureOrSkip("retromae", "checkpoint", "pytorch_model.bin"));
        EncoderTensors checkpoint = whole.Tensors;
        using EncoderTensors model = new(SafetensorsFile.Open(SharedFolder.FixtureOrSkip("retromae", "model", "model.safetensors")));
        using SafetensorsFile head = SafetensorsFile.Open(SharedFolder.FixtureOrSkip("retromae", "model", "decoder_head.safetensors"));
        Assert.Equal("lm.bert.", checkpoint.Prefix);
        Assert.Equal("bert.", model.Prefix);
        foreach (TensorEntry entry in model.Entries) AssertEqual(model, entry, checkpoint, entry.Name);
        foreach (TensorEntry entry in head.Entries) AssertEqual(head, entry, checkpoint, entry.Name);
        Assert.True(checkpoint.TryGet("cls.predictions.transform.dense.weight", out _));
        AssertEqual(checkpoint, checkpoint.Get("embeddings.word_embeddings.weight"), checkpoint, "cls.predictions.decoder.weight");
    }

    private static void AssertEqual(TensorSource expected, TensorEntry entry, TensorSource actual, string name)
    {
        Assert.Equal(entry.Shape, actual.Get(name).Shape);
        float[] left = new float[entry.Elements], right = new float[entry.Elements];
        expected.ReadFloats(entry.Name, left);
        actual.ReadFloats(name, right);
        Assert.Equal(left, right);
    }
}
