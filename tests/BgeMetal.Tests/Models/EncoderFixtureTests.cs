using System.Text.Json;
using BgeMetal.Autograd;
using BgeMetal.Checkpoints;
using BgeMetal.Data;
using BgeMetal.Retrieval;
using BgeMetal.Tensors;
using BgeMetal.Testing;

namespace BgeMetal.Tests.Models;

/// <summary>Every encoder case of the fixtures folder, from each weight file it has, against PyTorch's numbers.</summary>
public sealed class EncoderFixtureTests
{
    /// <summary>Folder and weight file of each case found.</summary>
    public static TheoryData<string, string> Cases() => FixtureModel.Cases("encoder");

    [Theory]
    [MemberData(nameof(Cases))]
    public void Vectors_equal_the_reference(string name, string weights)
    {
        string folder = SharedFolder.FixtureOrSkip("encoder", name);
        Assert.SkipWhen(name.Length == 0, "the fixtures folder has no encoder case");
        using FixtureModel model = new(folder, weights);
        SafetensorsReference expected = new(Path.Combine(folder, "expected.safetensors"));
        foreach ((int b, FixtureBatch batch) in FixtureBatch.Read(folder).Index())
        {
            foreach (PoolingMode pooling in new[] { PoolingMode.Cls, PoolingMode.Mean })
                foreach (bool normalize in new[] { false, true })
                {
                    string tensor = $"batch{b}.{(pooling == PoolingMode.Cls ? "cls" : "mean")}{(normalize ? "_normalized" : "")}";
                    Tolerance.AssertClose(expected[tensor], model.Embed(batch.Sequences, pooling, normalize), 1e-5, $"{name} {tensor}");
                }
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Hidden_states_equal_the_reference(string name, string weights)
    {
        string folder = SharedFolder.FixtureOrSkip("encoder", name);
        Assert.SkipWhen(name.Length == 0, "the fixtures folder has no encoder case");
        using FixtureModel fixture = new(folder, weights);
        SafetensorsReference expected = new(Path.Combine(folder, "expected.safetensors"));
        using EncoderModel model = EncoderModel.Load(fixture.Directory, new ComputeOptions(), _ => []);
        using Arena arena = new(Device.SingleThread);
        foreach ((int b, FixtureBatch batch) in FixtureBatch.Read(folder).Index())
        {
            PackedBatch packed = new(model.Positions);
            foreach (TokenSequence sequence in batch.Sequences) packed.Add(sequence);
            using Tape tape = Tape.Inference(arena);
            Tensor hidden = model.Encoder.Forward(tape, packed.Upload(arena));
            for (int i = 0; i < packed.Sequences; i++)
            {
                float[] rows = [.. Enumerable.Range(packed.CuSeqlens[i], batch.Sequences[i].Length).SelectMany(row => hidden.RowSpan(row).ToArray())];
                Tolerance.AssertClose(expected[$"batch{b}.seq{i}.last_hidden_state"], rows, 2e-5, $"{name} batch {b} sequence {i}");
            }
        }
    }
}

/// <summary>A fixture's model copied to a folder that holds one weight file only.</summary>
internal sealed class FixtureModel : IDisposable
{
    public FixtureModel(string folder, string weights)
    {
        Directory = System.IO.Directory.CreateTempSubdirectory("bgemetal-").FullName;
        foreach (string file in new[] { "config.json", weights })
            File.Copy(Path.Combine(folder, file), Path.Combine(Directory, file));
    }

    public string Directory { get; }

    /// <summary>Folder and weight file of each case of a family; a single empty row when there are none, so that the test can skip with its reason.</summary>
    public static TheoryData<string, string> Cases(string family)
    {
        TheoryData<string, string> cases = [];
        string root = Path.Combine(SharedFolder.Fixtures, family);
        if (System.IO.Directory.Exists(root))
            foreach (string folder in System.IO.Directory.GetDirectories(root).Order(StringComparer.Ordinal))
                foreach (string file in new[] { "model.safetensors", "pytorch_model.bin" })
                    if (File.Exists(Path.Combine(folder, file))) cases.Add(Path.GetFileName(folder), file);
        if (cases.Count == 0) cases.Add("", "");
        return cases;
    }

    public float[] Embed(IReadOnlyList<TokenSequence> sequences, PoolingMode pooling, bool normalize, int threads = 0)
    {
        using Embedder embedder = Embedder.Load(Directory, new EmbedderOptions
        {
            Pooling = pooling,
            Normalize = normalize,
            Compute = new ComputeOptions { Threads = threads },
        });
        float[] vectors = new float[sequences.Count * embedder.Dimensions];
        embedder.EmbedSequences(sequences, vectors);
        return vectors;
    }

    public void Dispose() => System.IO.Directory.Delete(Directory, recursive: true);
}

/// <summary>One batch of a fixture's inputs.json.</summary>
internal sealed record FixtureBatch(TokenSequence[] Sequences)
{
    public static IReadOnlyList<FixtureBatch> Read(string folder)
    {
        using JsonDocument inputs = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(folder, "inputs.json")));
        return [.. inputs.RootElement.GetProperty("batches").EnumerateArray().Select(batch =>
            new FixtureBatch(Parse(batch.GetProperty("input_ids"), batch.GetProperty("token_type_ids"))))];
    }

    public static TokenSequence[] Parse(JsonElement ids, JsonElement typeIds) =>
        [.. ids.EnumerateArray().Select((row, i) => new TokenSequence(
            Integers(row), typeIds.ValueKind == JsonValueKind.Null ? null : (ReadOnlyMemory<int>?)Integers(typeIds[i])))];

    private static int[] Integers(JsonElement row) => [.. row.EnumerateArray().Select(id => id.GetInt32())];
}
