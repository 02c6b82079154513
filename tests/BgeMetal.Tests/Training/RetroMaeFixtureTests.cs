using System.Text.Json;
using BgeMetal.Data;
using BgeMetal.Data.Training;
using BgeMetal.Nn;
using BgeMetal.Retrieval;
using BgeMetal.Tensors;
using BgeMetal.Testing;
using BgeMetal.Training;
using BgeMetal.Training.Objectives;

namespace BgeMetal.Tests.Training;

/// <summary>RetroMAE against FlagEmbedding's RetroMAEForPretraining: one step in every part, and ten optimiser steps.</summary>
public sealed class RetroMaeFixtureTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("bgemetal-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Theory]
    [InlineData("model")]
    [InlineData("checkpoint")]
    public void A_step_equals_the_reference(string weights)
    {
        string folder = SharedFolder.FixtureOrSkip("retromae", "step");
        using JsonDocument inputs = Json(folder, "inputs.json"), expected = Json(folder, "expected.json");
        SafetensorsReference tensors = new(Path.Combine(folder, "expected.safetensors"));
        using TrainableModel model = LoadModel(weights);
        using RetroMaeObjective objective = new(model, MaskedLanguageHeadNames.Bert);
        RetroMaeBatch batch = RetroMaeFixture.Read(inputs.RootElement);
        Assert.Equal(expected.RootElement.GetProperty("encoder_predictions").GetInt32(), batch.EncoderRows.Length);
        Assert.Equal(expected.RootElement.GetProperty("decoder_predictions").GetInt32(), batch.DecoderRows.Length);
        objective.Observer = pass =>
        {
            Assert.Equal(expected.RootElement.GetProperty("encoder_mlm_loss").GetDouble(), pass.EncoderLoss!.Value.RowSpan(0)[0], 1e-4);
            Assert.Equal(expected.RootElement.GetProperty("decoder_loss").GetDouble(), pass.DecoderLoss!.Value.RowSpan(0)[0], 1e-4);
            Tolerance.AssertClose(tensors["cls_hidden"], Rows(pass.Cls, 0, pass.Cls.Rows), 1e-5, "cls_hidden");
            for (int b = 0, first = 0, firstDecoded = 0; b < batch.Original.Count; first += batch.Original[b++].Length)
            {
                int length = batch.Original[b].Length, labels = length - 2;
                Tolerance.AssertClose(tensors[$"seq{b}.decoder_query"], Rows(pass.Query, first, length), 1e-5, $"seq{b}.decoder_query");
                Tolerance.AssertClose(tensors[$"seq{b}.decoder_key_value"], Rows(pass.KeyValue, first, length), 1e-5, $"seq{b}.decoder_key_value");
                float[] inner = tensors[$"seq{b}.decoder_output"][pass.Query.Columns..^pass.Query.Columns];
                Tolerance.AssertClose(inner, Rows(pass.Decoded!.Value, firstDecoded, labels), 1e-5, $"seq{b}.decoder_output");
                firstDecoded += labels;
            }
        };
        double loss = objective.Backpropagate(batch, 1, seed: 1);
        Assert.Equal(expected.RootElement.GetProperty("loss").GetDouble(), loss, 1e-4);
        GradientComparison.AssertClose(tensors, name => "grad." + ReferenceName(name), model.Parameters);
    }

    [Fact]
    public void Ten_steps_equal_the_reference_and_a_resumed_run_ends_in_the_same_bits()
    {
        string folder = SharedFolder.FixtureOrSkip("retromae", "trajectory");
        using JsonDocument inputs = Json(folder, "inputs.json"), expected = Json(folder, "expected.json");
        string whole = Path.Combine(_folder, "whole");
        Train(inputs.RootElement, whole, LoadModel("model"), resume: null);
        IReadOnlyList<TrainLogRow> rows = TrainLog.Rows(Path.Combine(whole, "train_log.csv"));
        JsonElement[] steps = [.. expected.RootElement.GetProperty("steps").EnumerateArray()];
        Assert.Equal(steps.Length, rows.Count);
        foreach ((JsonElement step, TrainLogRow row) in steps.Zip(rows))
        {
            AssertRelative(step.GetProperty("loss").GetDouble(), row.Loss, $"loss of step {row.Step}");
            AssertRelative(step.GetProperty("grad_norm").GetDouble(), row.GradNorm, $"gradient norm of step {row.Step}");
            Assert.Equal(step.GetProperty("lr").GetDouble(), row.LearningRate, 1e-9);
        }
        string model = SharedFolder.FixtureOrSkip("retromae", "model");
        SafetensorsReference final = new(Path.Combine(folder, "final.safetensors"));
        AssertWeights(final, Saved(model), Saved(Path.Combine(whole, "encoder_model")));

        string checkpoint = Path.Combine(whole, "checkpoint-5"), resumed = Path.Combine(_folder, "resumed");
        Train(inputs.RootElement, resumed, RetroMaeModel.Load(checkpoint, new ComputeOptions(), 1, null), checkpoint);
        foreach (string file in new[] { "model.safetensors", RetroMaeModel.DecoderFile })
            Assert.Equal(File.ReadAllBytes(Path.Combine(whole, "encoder_model", file)), File.ReadAllBytes(Path.Combine(resumed, "encoder_model", file)));
    }

    [Fact]
    public void An_XLM_RoBERTa_model_trains_and_is_saved_under_its_own_names()
    {
        string folder = SharedFolder.FixtureOrSkip("encoder", "xlmr_h48"), saved = Path.Combine(_folder, "xlmr");
        List<string> notes = [];
        using TrainableModel model = RetroMaeModel.Load(folder, new ComputeOptions(), 1, notes.Add);
        Assert.Equal(2, notes.Count);
        using RetroMaeObjective objective = new(model, RetroMaeModel.Names(model.Config));
        TokenSequence text = new(new[] { 0, 7, 8, 9, 2 }), masked = new(new[] { 0, 7, 5, 9, 2 });
        RetroMaeBatch batch = new()
        {
            Masked = [masked],
            Original = [text],
            EncoderRows = [2],
            EncoderLabels = [8],
            DecoderRows = [1, 2, 3],
            DecoderLabels = [7, 8, 9],
            Visible = [0b11110, 0b10101, 0b11011, 0b10111, 0b01111],
            VisibleStarts = [0],
            Places = [],
            Tokens = 5,
        };
        double loss = objective.Backpropagate(batch, 1, 1);
        Assert.InRange(loss, 0.1, 40);
        using RetroMaeObjective dupMae = new(model, RetroMaeModel.Names(model.Config), 1);
        Assert.InRange(dupMae.Backpropagate(batch, 1, 1), loss + 0.1, loss + 40);
        model.Save(saved, new SavedForm(null, true, 16, "") { Layout = RetroMaeModel.Layout(model.Config) }, overwrite: false);
        SafetensorsReference weights = new(Path.Combine(saved, "model.safetensors"));
        foreach (string name in new[] { "roberta.embeddings.word_embeddings.weight", "lm_head.dense.weight", "lm_head.layer_norm.weight", "lm_head.bias" }) Assert.Contains(name, weights.Names);
        Assert.All(weights.Names, name => Assert.True(name.StartsWith("roberta.e", StringComparison.Ordinal) || name.StartsWith("lm_head.", StringComparison.Ordinal), name));
        using TrainableModel again = RetroMaeModel.Load(saved, new ComputeOptions(), 2, null);
        Assert.Equal("XLMRobertaForMaskedLM", Assert.Single(again.Config.Architectures));
        using RetroMaeObjective objectiveAgain = new(again, RetroMaeModel.Names(again.Config));
        Assert.Equal(loss, objectiveAgain.Backpropagate(batch, 1, 1), 1e-6);
    }

    private static void Train(JsonElement inputs, string output, TrainableModel model, string? resume)
    {
        JsonElement h = inputs.GetProperty("hyperparameters");
        RetroMaeBatch[] batches = [.. inputs.GetProperty("micro_batches").EnumerateArray().Select(RetroMaeFixture.Read)];
        int[] order = [.. inputs.GetProperty("schedule").EnumerateArray().SelectMany(step => step.EnumerateArray()).Select(index => index.GetInt32())];
        TrainingOptions options = new()
        {
            OutputDirectory = output,
            GradientAccumulationSteps = h.GetProperty("accumulate").GetInt32(),
            MaxSteps = h.GetProperty("steps").GetInt32(),
            LearningRate = h.GetProperty("learning_rate").GetDouble(),
            WarmupRatio = h.GetProperty("warmup_ratio").GetDouble(),
            WeightDecay = h.GetProperty("weight_decay").GetDouble(),
            MaxGradNorm = h.GetProperty("max_grad_norm").GetDouble(),
            LoggingSteps = 1,
            SaveSteps = 5,
            ResumeFrom = resume,
        };
        TrainingOutput.Prepare(options);
        using TrainableModel owned = model;
        using RetroMaeObjective objective = new(model, MaskedLanguageHeadNames.Bert);
        SavedForm form = new(null, true, model.MaxLength, "") { Layout = RetroMaeModel.Layout(model.Config) };
        StepPlan plan = StepPlan.Create(order.Length, options.GradientAccumulationSteps, 1, options.MaxSteps);
        new Trainer<RetroMaeBatch>(model, form, options, plan, objective, number => batches[order[number]], "fixture").Run(resume, null, default);
        model.Save(Path.Combine(output, "encoder_model"), form, overwrite: true);
    }

    /// <summary>The folder "checkpoint" holds only the whole model's state dict, so it borrows the configuration.</summary>
    private TrainableModel LoadModel(string name)
    {
        string source = SharedFolder.FixtureOrSkip("retromae", name), copy = Path.Combine(_folder, name);
        Directory.CreateDirectory(copy);
        foreach (string file in Directory.GetFiles(source).Append(SharedFolder.FixtureOrSkip("retromae", "model", "config.json")))
            File.Copy(file, Path.Combine(copy, Path.GetFileName(file)), overwrite: true);
        List<string> notes = [];
        TrainableModel model = RetroMaeModel.Load(copy, new ComputeOptions(), 1, notes.Add);
        Assert.DoesNotContain(notes, note => note.Contains("fresh", StringComparison.Ordinal));
        return model;
    }

    private static string ReferenceName(string name) =>
        name.StartsWith("c_head.", StringComparison.Ordinal) ? name : name.StartsWith("cls.", StringComparison.Ordinal) ? "lm." + name : "lm.bert." + name;

    /// <summary>Model and decoder under the reference's names.</summary>
    private static Dictionary<string, float[]> Saved(string folder)
    {
        SafetensorsReference model = new(Path.Combine(folder, "model.safetensors")), decoder = new(Path.Combine(folder, "decoder_head.safetensors"));
        Dictionary<string, float[]> all = decoder.Names.ToDictionary(name => name, name => decoder[name]);
        foreach (string name in model.Names) all.Add("lm." + name, model[name]);
        return all;
    }

    private static void AssertWeights(SafetensorsReference expected, Dictionary<string, float[]> initial, Dictionary<string, float[]> actual)
    {
        Assert.Equal(expected.Names.Order(StringComparer.Ordinal), actual.Keys.Order(StringComparer.Ordinal));
        double totalDifference = 0, totalMove = 0;
        foreach (string name in expected.Names.Where(name => !name.EndsWith(".attention.self.key.bias", StringComparison.Ordinal)))
        {
            double difference = 0, move = 0;
            for (int i = 0; i < expected[name].Length; i++)
            {
                difference += Math.Pow((double)actual[name][i] - expected[name][i], 2);
                move += Math.Pow((double)expected[name][i] - initial[name][i], 2);
            }
            Assert.True(Math.Sqrt(difference) <= 5e-3 * Math.Sqrt(move), $"{name}: {Math.Sqrt(difference / move):g3} of its move");
            totalDifference += difference;
            totalMove += move;
        }
        Assert.True(Math.Sqrt(totalDifference / totalMove) <= 1e-3, $"all weights: {Math.Sqrt(totalDifference / totalMove):g3} of their move");
    }

    private static void AssertRelative(double expected, double actual, string what) =>
        Assert.True(Math.Abs(actual - expected) <= 1e-4 * Math.Abs(expected), $"{what}: {actual:g9}, expected {expected:g9}");

    private static float[] Rows(Tensor x, int first, int count) => [.. Enumerable.Range(first, count).SelectMany(row => x.RowSpan(row).ToArray())];

    private static JsonDocument Json(string folder, string file) => JsonDocument.Parse(File.ReadAllBytes(Path.Combine(folder, file)));
}
