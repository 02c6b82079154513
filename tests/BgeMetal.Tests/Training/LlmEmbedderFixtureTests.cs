using System.Text.Json;
using BgeMetal.Autograd;
using BgeMetal.Tensors;
using BgeMetal.Testing;
using BgeMetal.Training;
using BgeMetal.Training.Objectives;

namespace BgeMetal.Tests.Training;

/// <summary>Every llm_embedder case of the fixtures folder: loss and its gradients with respect to the vectors, against PyTorch's.</summary>
public sealed class LlmEmbedderFixtureTests
{
    [Theory]
    [InlineData("contrastive_only")]
    [InlineData("distill_only")]
    [InlineData("both_default")]
    [InlineData("both_temperatures")]
    [InlineData("stable_only")]
    [InlineData("stable_both")]
    [InlineData("inner_product")]
    public void Loss_and_gradients_equal_the_reference(string name)
    {
        string folder = SharedFolder.FixtureOrSkip("llm_embedder");
        using JsonDocument inputs = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(folder, "inputs.json")));
        using JsonDocument expected = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(folder, "expected.json")));
        SafetensorsReference tensors = new(Path.Combine(folder, "tensors.safetensors"));
        JsonElement test = inputs.RootElement.GetProperty("cases").EnumerateArray().Single(c => c.GetProperty("name").GetString() == name);
        bool cosine = test.GetProperty("dense_metric").GetString() == "cos";
        string suffix = cosine ? "_normalized" : "";
        int groupSize = inputs.RootElement.GetProperty("group_size").GetInt32(), dimension = inputs.RootElement.GetProperty("dim").GetInt32();
        using Device device = Device.CpuThreads(2);
        using Arena arena = new(device);
        using TrainableParameters none = new(device, [new ParameterSpec("unused", ParameterRole.Bias, 1, 16)], [], new HashSet<string>());
        using Tape tape = Tape.Record(arena, none, 1);
        Tensor queries = Of(arena, tensors["q" + suffix], dimension), keys = Of(arena, tensors["k" + suffix], dimension);
        LlmEmbedderTaskOptions options = new()
        {
            ContrastiveWeight = Number("contrastive_weight"),
            DistillWeight = Number("distill_weight"),
            TeacherTemperature = Number("teacher_temperature"),
            StudentTemperature = Number("student_temperature"),
            StableDistill = test.GetProperty("stable_distill").GetBoolean(),
        };
        float[]? teacher = test.GetProperty("use_teacher").GetBoolean() ? tensors["teacher_scores"] : null;
        Tensor loss = LlmEmbedderLoss.Compute(tape, queries, keys, teacher, groupSize, cosine ? (float)Number("cos_temperature") : 1, options);
        double reference = expected.RootElement.GetProperty("loss").GetProperty(name).GetDouble();
        Assert.Equal(reference, loss.RowSpan(0)[0], 1e-4 * Math.Abs(reference));
        tape.Backward(loss, 1);
        AssertClose(tensors[name + ".grad_q"], tape.GradToAddTo(queries));
        AssertClose(tensors[name + ".grad_k"], tape.GradToAddTo(keys));

        double Number(string field) => test.GetProperty(field).GetDouble();
    }

    private static Tensor Of(Arena arena, float[] values, int columns)
    {
        Tensor tensor = arena.Activation(values.Length / columns, columns);
        for (int row = 0; row < tensor.Rows; row++) values.AsSpan(row * columns, columns).CopyTo(tensor.RowSpan(row));
        return tensor;
    }

    private static void AssertClose(float[] expected, Tensor actual)
    {
        Assert.Equal(expected.Length, actual.Rows * actual.Columns);
        double difference = 0, norm = 0;
        for (int i = 0; i < expected.Length; i++)
        {
            difference += Math.Pow((double)actual.RowSpan(i / actual.Columns)[i % actual.Columns] - expected[i], 2);
            norm += (double)expected[i] * expected[i];
        }
        Assert.True(Math.Sqrt(difference) <= 1e-4 * Math.Sqrt(norm), $"norm error {Math.Sqrt(difference / norm):g3}");
    }
}
