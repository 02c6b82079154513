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
            using Checkpoint checkpoint = Checkpoint.Open(Path.GetDirectoryName(config)!);
            Assert.NotEmpty(checkpoint.Tensors.Entries);
            foreach (TensorEntry entry in checkpoint.Tensors.Entries.Where(entry => entry.IsFloat))
            {
                float[] values = new float[entry.Elements];
                checkpoint.Tensors.ReadFloats(entry.Name, values);
                Assert.All(values, value => Assert.True(float.IsFinite(value), entry.Name));
            }
            models++;
        }
        Assert.NotEqual(0, models);
    }
}
