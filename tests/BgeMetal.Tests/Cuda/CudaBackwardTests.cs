using BgeMetal.Autograd;
using BgeMetal.Data;
using BgeMetal.Kernels;
using BgeMetal.Kernels.Cpu;
using BgeMetal.Ops;
using BgeMetal.Tensors;
using BgeMetal.Testing;
using Activation = BgeMetal.Ops.Activation;

namespace BgeMetal.Tests.Cuda;

/// <summary>Losses and the gradients of all parameters, through the tape on the emulated GPU, against the CPU's with the same dropout.</summary>
[Collection("emulated gpu")]
public sealed class CudaBackwardTests
{
    private const int Hidden = 16, Wide = 40, Words = 11;

    private static readonly ParameterSpec[] Dense =
    [
        new("word", ParameterRole.Table, Words, Hidden), new("position", ParameterRole.Table, 12, Hidden), new("type", ParameterRole.Table, 2, Hidden),
        new("gamma", ParameterRole.Gain, 1, Hidden), new("beta", ParameterRole.Bias, 1, Hidden), new("bias", ParameterRole.Bias, 1, Words),
    ];

    private static readonly LinearSpec[] Linears = [new(["wide"], Wide, Hidden), new(["narrow"], Hidden, Wide), new(["left", "right"], Hidden, Hidden), new(["score"], 1, Hidden)];

    public static TheoryData<DType> Types => new(DType.Float32, DType.BFloat16, DType.Float16);

    [Theory]
    [MemberData(nameof(Types))]
    public void A_contrastive_step_has_the_cpus_gradients(DType dtype) => AssertSame(dtype, (tape, parameters) =>
    {
        Tensor queries = Tower(tape, parameters, mean: false, [[1, 10, 3], [4]]), passages = Tower(tape, parameters, mean: true, [[2, 1], [7, 0, 7, 5], [9], [6, 6, 6]]);
        Tensor whole = tape.InfoNce(tape.NormalizeRows(queries), tape.NormalizeRows(passages), 2, 0.5f, inBatch: true);
        Tensor part = tape.InfoNce(tape.NormalizeRows(queries.ColumnRange(0, 8)), tape.NormalizeRows(passages.ColumnRange(0, 8)), 2, 0.5f, inBatch: false);
        return tape.WeightedSum([whole, part], [0.75f, 0.25f]);
    });

    [Theory]
    [MemberData(nameof(Types))]
    public void A_masked_lm_step_has_the_cpus_gradients(DType dtype) => AssertSame(dtype, (tape, parameters) =>
    {
        PackedTensors batch = Upload(tape, [[1, 10, 3], [4], [7, 0, 7, 5]]);
        EmbeddingTables tables = Tables(parameters);
        Tensor hidden = tape.EmbeddingLayerNorm(batch, tables, parameters["gamma"], parameters["beta"], 1e-5f);
        Tensor given = tape.LayerNorm(tape.EmbeddingOfVectors(tape.ClsPooling(hidden, batch.CuSeqlens), batch, tables), parameters["gamma"], parameters["beta"], 1e-5f);
        Tensor labels = tape.Arena.Integers([3, 1, 0, 10, 10, 2, 5, 4]);
        return tape.WeightedSum([tape.LinearCrossEntropy(hidden, parameters["word"], parameters["bias"], labels),
            tape.LinearCrossEntropy(given, parameters["word"], parameters["bias"], labels)], [1, 1]);
    });

    [Fact]
    public void Rows_groups_and_scores_have_the_cpus_gradients() => AssertSame(DType.Float32, (tape, parameters) =>
    {
        float[] teacher = [0.5f, 1, -0.25f, 0.75f];
        PackedTensors batch = Upload(tape, [[1, 10, 3], [4], [7, 0, 7, 5]]);
        Tensor x = tape.EmbeddingLayerNorm(batch, Tables(parameters), parameters["gamma"], parameters["beta"], 1e-5f);
        Tensor first = tape.Linear(tape.ClsPooling(x, batch.CuSeqlens), parameters.Linear("left").Layers(0, 1));
        Tensor replaced = tape.ReplaceFirstRows(x, first, batch.CuSeqlens);
        Tensor queries = tape.GatherRows(replaced, tape.Arena.Integers([0, 5])), keys = tape.GatherRows(replaced, tape.Arena.Integers([6, 1, 3, 2]));
        Tensor scores = tape.Scores(queries, keys, 4), logits = tape.Regroup(tape.Linear(keys, parameters.Linear("score"), Activation.Tanh), 2);
        return tape.WeightedSum([tape.M3Distillation(scores, teacher, 2), tape.KlDivergence(scores, teacher, 2, 0.5f, 2),
            tape.SoftTargetCrossEntropy(logits, teacher, 2), tape.FirstColumnCrossEntropy(logits)], [1, 0.5f, 0.25f, 1]);
    });

    /// <summary>Embeddings, a feed-forward block with dropout, two layers that share their input, pooling.</summary>
    private static Tensor Tower(Tape tape, TrainableParameters parameters, bool mean, int[][] texts)
    {
        PackedTensors batch = Upload(tape, texts);
        Tensor x = tape.EmbeddingLayerNorm(batch, Tables(parameters), parameters["gamma"], parameters["beta"], 1e-5f);
        Tensor wide = tape.Linear(tape.Dropout(x, 0.25f, firstRow: 3), parameters.Linear("wide"), Activation.Gelu);
        Tensor y = tape.AddLayerNorm(tape.Linear(wide, parameters.Linear("narrow")), x, parameters["gamma"], parameters["beta"], 1e-5f, dropout: 0.25f, firstRow: 5);
        Tensor z = tape.AddLayerNorm(x, y, parameters["gamma"], parameters["beta"], 1e-5f);
        LinearWeight both = parameters.Linear("left");
        Tensor pair = tape.Linear(z, both, Activation.Tanh), pooled = mean ? tape.MeanPooling(pair, batch.CuSeqlens) : tape.ClsPooling(pair, batch.CuSeqlens);
        return both.Part(pooled, 1);
    }

    private static EmbeddingTables Tables(TrainableParameters parameters) => new(parameters["word"], parameters["position"], parameters["type"], 0, -1);

    private static PackedTensors Upload(Tape tape, int[][] texts)
    {
        PackedBatch batch = new(PositionRule.Bert);
        foreach (int[] text in texts) batch.Add(new TokenSequence(text, text.Select(id => id % 2).ToArray()));
        return batch.Upload(tape.Arena);
    }

    private static void AssertSame(DType dtype, Func<Tape, TrainableParameters, Tensor> loss)
    {
        (double expectedLoss, Dictionary<string, float[]> expected) = Run(Device.SingleThread, loss);
        using Device gpu = DevicePair.Emulated(dtype);
        (double actualLoss, Dictionary<string, float[]> actual) = Run(gpu, loss);
        double limit = dtype switch { DType.BFloat16 => 0.04, DType.Float16 => 0.01, _ => 1e-5 };
        Assert.Equal(expectedLoss, actualLoss, limit * Math.Abs(expectedLoss));
        foreach ((string name, float[] gradient) in expected)
            Tolerance.AssertNorm(actual[name], [.. gradient.Select(value => (double)value)], limit, name);
    }

    private static (double Loss, Dictionary<string, float[]> Gradients) Run(Device device, Func<Tape, TrainableParameters, Tensor> loss)
    {
        const float scale = 256;
        using TrainableParameters parameters = new(device, Dense, Linears, new HashSet<string>());
        parameters.Fill(WorkerTeam.Single, DevicePair.Read);
        using Arena arena = new(device);
        using Tape tape = Tape.Record(arena, parameters, seed: 9);
        Tensor value = loss(tape, parameters);
        tape.Backward(value, scale);
        Dictionary<string, float[]> gradients = [];
        foreach ((ParameterSpec spec, Tensor master) in parameters.All)
        {
            float[] gradient = new float[spec.Count];
            parameters.GradientOf(master).CopyTo(gradient);
            gradients.Add(spec.Name, [.. gradient.Select(element => element / scale)]);
        }
        return (value.Value, gradients);
    }
}
