using System.Text.Json;
using BgeMetal.Kernels.Cpu;
using BgeMetal.Testing;

namespace BgeMetal.Kernels.Tests.Cpu;

/// <summary>Contrastive and distillation losses, and their gradients with respect to the vectors, against PyTorch's numbers.</summary>
[Collection(CpuKernels.Name)]
public sealed unsafe class ContrastiveFixtureTests
{
    [Theory]
    [InlineData("legacy_g2_inbatch")]
    [InlineData("legacy_g2_no_inbatch")]
    [InlineData("legacy_g8_inbatch")]
    [InlineData("legacy_g8_no_inbatch")]
    [InlineData("legacy_g2_unnormalized_mean")]
    [InlineData("current_g4_inbatch_mean")]
    [InlineData("current_g4_no_inbatch")]
    [InlineData("current_g4_kl_inbatch")]
    [InlineData("current_g4_kl_no_inbatch")]
    [InlineData("current_g4_m3kd_inbatch")]
    public void Losses_of_FlagEmbedding(string name)
    {
        string folder = SharedFolder.FixtureOrSkip("contrastive", name);
        using JsonDocument inputs = Parse(folder, "inputs.json"), expected = Parse(folder, "expected.json");
        SafetensorsReference tensors = new(Path.Combine(folder, "expected.safetensors"));
        JsonElement settings = inputs.RootElement.GetProperty("hyperparameters");
        string? distillation = settings.TryGetProperty("kd_loss_type", out JsonElement kind) ? kind.GetString() : null;
        using Batch batch = new(tensors["q_reps"], tensors["p_reps"], tensors.Shape("q_reps"), settings.GetProperty("group_size").GetInt32(),
            distillation is null ? null : [.. inputs.RootElement.GetProperty("teacher_scores").EnumerateArray().Select(s => s.GetSingle())]);
        float temperature = settings.GetProperty("effective_temperature").GetSingle();
        double loss = 0;
        if (distillation != "m3_kd_loss") loss += batch.Contrast(temperature, settings.GetProperty("in_batch_negatives").GetBoolean(), 1);
        if (distillation is not null)
            loss += batch.Distill(distillation == "kl_div" ? DistillationLoss.CrossEntropy : DistillationLoss.Staircase, temperature, 1, 1, 1);
        Assert.Equal(expected.RootElement.GetProperty("loss").GetDouble(), loss, 1e-4);
        Tolerance.AssertNorm(batch.QueryGradients, [.. tensors["grad_reps.q_reps"].Select(v => (double)v)], 1e-4, "queries");
        Tolerance.AssertNorm(batch.PassageGradients, [.. tensors["grad_reps.p_reps"].Select(v => (double)v)], 1e-4, "passages");
    }

    [Fact]
    public void Losses_of_the_LLM_Embedder()
    {
        string folder = SharedFolder.FixtureOrSkip("llm_embedder");
        using JsonDocument inputs = Parse(folder, "inputs.json"), expected = Parse(folder, "expected.json");
        SafetensorsReference tensors = new(Path.Combine(folder, "tensors.safetensors"));
        foreach (JsonElement settings in inputs.RootElement.GetProperty("cases").EnumerateArray())
        {
            string name = settings.GetProperty("name").GetString()!, suffix = settings.GetProperty("dense_metric").GetString() == "cos" ? "_normalized" : "";
            bool teacher = settings.GetProperty("use_teacher").GetBoolean(), stable = settings.GetProperty("stable_distill").GetBoolean();
            float temperature = suffix.Length > 0 ? Number("cos_temperature") : 1f, contrastive = Number("contrastive_weight"), distill = teacher ? Number("distill_weight") : 0;
            if (distill == 0) contrastive = 1;
            else if (contrastive == 0) distill = 1;
            using Batch batch = new(tensors["q" + suffix], tensors["k" + suffix], tensors.Shape("q"), inputs.RootElement.GetProperty("group_size").GetInt32(), tensors["teacher_scores"]);
            double loss = 0;
            if (contrastive > 0) loss += contrastive * batch.Contrast(temperature, inBatch: true, contrastive);
            if (distill > 0)
            {
                loss += distill * (stable ? batch.Distill(DistillationLoss.Staircase, temperature, 1, 1, distill)
                    : batch.Distill(DistillationLoss.Divergence, temperature, Number("teacher_temperature"), Number("student_temperature"), distill));
            }
            double right = expected.RootElement.GetProperty("loss").GetProperty(name).GetDouble();
            Assert.True(Math.Abs(loss - right) <= 1e-4 * right, $"{name}: loss {loss}, expected {right}");
            Tolerance.AssertNorm(batch.QueryGradients, [.. tensors[$"{name}.grad_q"].Select(v => (double)v)], 1e-4, $"{name}: queries");
            Tolerance.AssertNorm(batch.PassageGradients, [.. tensors[$"{name}.grad_k"].Select(v => (double)v)], 1e-4, $"{name}: passages");

            float Number(string key) => settings.GetProperty(key).GetSingle();
        }
    }

    private static JsonDocument Parse(string folder, string file) => JsonDocument.Parse(File.ReadAllText(Path.Combine(folder, file)));

    /// <summary>Vectors of a batch and their gradients, which every loss adds to.</summary>
    private sealed class Batch : IDisposable
    {
        private readonly int _queries, _dim, _group;
        private readonly PaddedMatrix _q, _p, _dq, _dp;
        private readonly PaddedMatrix? _teacher;

        public Batch(float[] q, float[] p, int[] shape, int groupSize, float[]? teacher)
        {
            (_queries, _dim, _group) = (shape[0], shape[1], groupSize);
            (_q, _p) = (Matrix(q, _queries, _dim), Matrix(p, _queries * _group, _dim));
            (_dq, _dp) = (Matrix(new float[q.Length], _queries, _dim), Matrix(new float[p.Length], _queries * _group, _dim));
            _teacher = teacher is null ? null : Matrix(teacher, _queries, _group);
        }

        public float[] QueryGradients => _dq.ToArray();

        public float[] PassageGradients => _dp.ToArray();

        public float Contrast(float temperature, bool inBatch, float weight)
        {
            using PaddedMatrix losses = new(1, _queries), log = new(1, _queries);
            float loss = InfoNce.Forward(WorkerTeam.Single, _q.Data, _q.Stride, _p.Data, _p.Stride, _queries, _group, _dim, temperature, inBatch, losses.Data, log.Data);
            InfoNce.Backward(WorkerTeam.Single, _q.Data, _q.Stride, _p.Data, _p.Stride, _queries, _group, _dim, temperature, inBatch, log.Data, weight,
                _dq.Data, _dq.Stride, true, _dp.Data, _dp.Stride, true);
            return loss;
        }

        // Scores and their gradients through the linear kernels: the passages are the weight.
        public float Distill(DistillationLoss form, float temperature, float teacherTemperature, float studentTemperature, float weight)
        {
            int passages = _queries * _group;
            using PaddedMatrix scores = new(_queries, passages), dscores = new(_queries, passages), losses = new(1, _queries);
            using NativeBuffer packed = NativeBuffer.OfFloats(PackedMatrix.Length(passages, _dim) + PackedMatrix.Length(_dim, passages));
            PackedMatrix.Pack(WorkerTeam.Single, _p.Data, _p.Stride, passages, _dim, packed.Floats);
            Linear.Forward(WorkerTeam.Single, _q.Data, _q.Stride, _queries, _dim, packed.Floats, null, passages, LinearEpilogue.None, null, 0, scores.Data, scores.Stride);
            Scale(scores, 1 / temperature);
            float loss = KlDivergence.Forward(form, WorkerTeam.Single, scores.Data, scores.Stride, _queries, passages, _teacher!.Data, _teacher.Stride, _group,
                teacherTemperature, studentTemperature, losses.Data);
            KlDivergence.Backward(form, WorkerTeam.Single, scores.Data, scores.Stride, _queries, passages, _teacher.Data, _teacher.Stride, _group,
                teacherTemperature, studentTemperature, weight, dscores.Data, dscores.Stride, false);
            Scale(dscores, 1 / temperature);
            LinearBackward.PackTransposed(WorkerTeam.Single, _p.Data, _p.Stride, passages, _dim, packed.Floats);
            using PaddedMatrix kept = Matrix(_dq.ToArray(), _queries, _dim);
            Linear.Forward(WorkerTeam.Single, dscores.Data, dscores.Stride, _queries, passages, packed.Floats, null, _dim, LinearEpilogue.Residual, kept.Data, kept.Stride,
                _dq.Data, _dq.Stride);
            LinearBackward.Weight(WorkerTeam.Single, dscores.Data, dscores.Stride, _q.Data, _q.Stride, _queries, passages, _dim, _dp.Data, _dp.Stride);
            return loss;
        }

        public void Dispose()
        {
            foreach (PaddedMatrix? matrix in new[] { _q, _p, _dq, _dp, _teacher }) matrix?.Dispose();
        }

        private static PaddedMatrix Matrix(float[] values, int rows, int columns) => new([.. values.Select(v => (double)v)], rows, columns);

        private static void Scale(PaddedMatrix matrix, float factor)
        {
            for (int r = 0; r < matrix.Rows; r++) GlobalNorm.Scale(WorkerTeam.Single, matrix.Data + (r * matrix.Stride), matrix.Columns, factor);
        }
    }
}
