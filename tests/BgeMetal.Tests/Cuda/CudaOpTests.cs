using BgeMetal.Autograd;
using BgeMetal.Data;
using BgeMetal.Kernels;
using BgeMetal.Ops;
using BgeMetal.Tensors;
using Activation = BgeMetal.Ops.Activation;

namespace BgeMetal.Tests.Cuda;

/// <summary>Each operation's CUDA branch against its CPU branch, kernels on the emulated GPU.</summary>
[Collection("emulated gpu")]
public sealed class CudaOpTests
{
    private const int Hidden = 24, Wide = 40, Positions = 12;

    private static readonly ParameterSpec[] Dense =
    [
        new("word", ParameterRole.Table, 11, Hidden), new("position", ParameterRole.Table, Positions, Hidden), new("type", ParameterRole.Table, 2, Hidden),
        new("gamma", ParameterRole.Gain, 1, Hidden), new("beta", ParameterRole.Bias, 1, Hidden),
    ];

    private static readonly LinearSpec[] Linears =
        [new(["query", "key", "value"], Hidden, Hidden), new(["wide"], Wide, Hidden), new(["score"], 1, Hidden)];

    [Theory]
    [InlineData(DType.Float32)]
    [InlineData(DType.BFloat16)]
    [InlineData(DType.Float16)]
    public void Every_forward_equals_the_cpus(DType dtype)
    {
        using DevicePair pair = new(dtype, Dense, Linears);
        for (int layer = 0; layer < 3; layer++)
        {
            int part = layer;
            pair.AssertSame("one of three layers side by side",
                (tape, parameters) => parameters.Linear("query").Part(tape.Linear(DevicePair.Input(tape, 7, Hidden, 1), parameters.Linear("query")), part));
        }
        pair.AssertSame("the last of two of three layers", (tape, parameters) =>
        {
            LinearWeight two = parameters.Linear("query").Layers(1, 2);
            return two.Part(tape.Linear(DevicePair.Input(tape, 3, Hidden, 2), two), 1);
        });
        pair.AssertSame("LinearGelu", (tape, parameters) => tape.Linear(DevicePair.Input(tape, 5, Hidden, 3), parameters.Linear("wide"), Activation.Gelu));
        pair.AssertSame("LinearTanh", (tape, parameters) => tape.Linear(DevicePair.Input(tape, 5, Hidden, 4), parameters.Linear("wide"), Activation.Tanh));
        pair.AssertSame("a single output", (tape, parameters) => tape.Linear(DevicePair.Input(tape, 5, Hidden, 5), parameters.Linear("score")));
        pair.AssertSame("LayerNorm", (tape, parameters) => tape.LayerNorm(DevicePair.Input(tape, 5, Hidden, 6), parameters["gamma"], parameters["beta"], 1e-5f));
        pair.AssertSame("AddLayerNorm", (tape, parameters) => tape.AddLayerNorm(DevicePair.Input(tape, 5, Hidden, 7), DevicePair.Input(tape, 5, Hidden, 8), parameters["gamma"], parameters["beta"], 1e-5f));
        pair.AssertSame("NormalizeRows", (tape, _) => tape.NormalizeRows(DevicePair.Input(tape, 5, Hidden, 9)));
        pair.AssertSame("NormalizeRows of a part", (tape, _) => tape.NormalizeRows(DevicePair.Input(tape, 5, Hidden, 9).ColumnRange(0, 5)));
        pair.AssertSame("ClsPooling", (tape, _) => tape.ClsPooling(DevicePair.Input(tape, 9, Hidden, 10), tape.Arena.Integers([0, 1, 6, 9])));
        pair.AssertSame("MeanPooling", (tape, _) => tape.MeanPooling(DevicePair.Input(tape, 9, Hidden, 11), tape.Arena.Integers([0, 1, 6, 9])));
        pair.AssertSame("EmbeddingLayerNorm", Embeddings);
    }

    [Fact]
    public void What_is_kept_of_a_layer_stays_and_later_results_go_around_it()
    {
        using Device device = DevicePair.Emulated(DType.BFloat16);
        using Arena arena = new(device);
        ArenaMark empty = arena.Mark();
        using (Tape tape = Tape.Inference(arena))
        {
            ArenaMark mark = arena.Mark();
            Tensor first = arena.Activation(1, 8), kept = DevicePair.Input(tape, 9, 33, 5);
            float[] before = new float[9 * 33], after = new float[9 * 33];
            kept.CopyTo(before);
            tape.Compact(mark, kept);
            Tensor below = arena.Activation(1, 8), around = arena.Activation(1, 8), large = arena.Activation(9, 33);
            foreach (Tensor later in new[] { below, around, large }) later.CopyFrom([.. Enumerable.Repeat(7f, later.Rows * later.Columns)]);
            kept.CopyTo(after);
            Assert.Equal(before, after);
            Assert.Equal(first.Address, below.Address);
            Assert.True(around.Address > kept.Address);
        }
        Assert.Equal(empty, arena.Mark());
    }

    [Fact]
    public void Long_transfers_arrive_whole()
    {
        using Device device = DevicePair.Emulated(DType.Float16);
        using Arena arena = new(device);
        int[] values = [.. Enumerable.Range(0, 10_000_000)], back = new int[values.Length];
        Tensor first = arena.Integers([1, 2, 3]), large = arena.Integers(values), last = arena.Integers([4]);
        device.Read<int>(large.Address, back);
        Assert.Equal(values, back);
        device.Read<int>(first.Address, back.AsSpan(0, 3));
        device.Read<int>(last.Address, back.AsSpan(3, 1));
        Assert.Equal([1, 2, 3, 4], back[..4]);
    }

    private static Tensor Embeddings(Tape tape, ParameterStore parameters)
    {
        PackedBatch batch = new(PositionRule.Bert);
        batch.Add(new TokenSequence(new int[] { 1, 10, 3 }, new int[] { 0, 0, 1 }));
        batch.Add(new TokenSequence(new int[] { 4 }));
        return tape.EmbeddingLayerNorm(batch.Upload(tape.Arena), new EmbeddingTables(parameters["word"], parameters["position"], parameters["type"], 0, -1),
            parameters["gamma"], parameters["beta"], 1e-5f);
    }
}

/// <summary>Tests that emulate a GPU run one after another: each lane is a thread.</summary>
[CollectionDefinition("emulated gpu")]
public sealed class EmulatedGpuGroup;
