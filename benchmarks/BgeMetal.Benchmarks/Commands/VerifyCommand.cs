using System.CommandLine;
using System.Text.Json;
using BgeMetal.Benchmarks.Models;
using BgeMetal.Benchmarks.Onnx;

namespace BgeMetal.Benchmarks.Commands;

/// <summary>
/// <c>verify</c>: is the peer computing the right thing? Compares every ONNX form with the double-precision reference on small random models, and both with the reference
/// numbers of a fixtures folder where one is given or found.
/// </summary>
internal static class VerifyCommand
{
    private const double Tolerance = 1e-4;

    public static Command Create()
    {
        Option<string> fixtures = new("--fixtures")
        {
            Description = "Folder with encoder/NAME/{config.json,model.safetensors,inputs.json,expected.safetensors}",
            DefaultValueFactory = _ => Environment.GetEnvironmentVariable("BGEMETAL_FIXTURES") is { Length: > 0 } path
                ? path : Path.Combine(Timing.ResultFile.RepositoryRoot, "..", "shared", "fixtures"),
        };
        Command command = new("verify", "Compare the ONNX models with a double-precision reference") { fixtures };
        command.SetAction(parsed => Run(parsed.GetValue(fixtures)!));
        return command;
    }

    private static int Run(string fixtures)
    {
        bool good = true;
        Console.WriteLine($"{"model",-24} {"form",-10} {"batch",-8} largest difference (at most {Tolerance} passes)");
        foreach (EncoderShape shape in (EncoderShape[])
            [new("random-48x3", 2, 48, 3, 80, 101, 64), new("random-64x2", 3, 64, 2, 104, 250, 128), new("random-32x4-eps", 1, 32, 4, 64, 60, 40, 2, 1e-5)])
        {
            EncoderWeights weights = EncoderWeights.Random(shape, 7);
            int[][][] batches = [Ids(shape, 1), Ids(shape, 9, 9), Ids(shape, 33, 1, 17, 40, 2)];
            foreach (int[][] batch in batches)
                good &= Compare(weights, $"{batch.Length} texts", batch, RandomTypes(batch), null);
        }
        string folder = Path.Combine(fixtures, "encoder");
        string[] models = Directory.Exists(folder) ? [.. Directory.GetDirectories(folder).Order()] : [];
        foreach (string model in models)
            good &= CompareFixture(model);
        if (models.Length == 0)
            Console.WriteLine($"no fixtures at {Path.GetFullPath(folder)}: random models only");
        Console.WriteLine(good ? "all agree" : "SOME DISAGREE");
        return good ? 0 : 1;
    }

    private static bool CompareFixture(string folder)
    {
        using JsonDocument config = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(folder, "config.json")));
        if (config.RootElement.GetProperty("model_type").GetString() != "bert")
        {
            Console.WriteLine($"{Path.GetFileName(folder),-24} left out: not a BERT model");
            return true;
        }
        EncoderWeights weights = EncoderWeights.Load(folder);
        Dictionary<string, NamedTensor> expected = SafetensorsFile.Read(Path.Combine(folder, "expected.safetensors"));
        using JsonDocument inputs = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(folder, "inputs.json")));
        bool good = true;
        int index = 0;
        foreach (JsonElement batch in inputs.RootElement.GetProperty("batches").EnumerateArray())
        {
            int[][] ids = batch.GetProperty("input_ids").Deserialize<int[][]>()!;
            int[][] types = batch.GetProperty("token_type_ids").Deserialize<int[][]?>() ?? [.. ids.Select(text => new int[text.Length])];
            float[][] rows = [.. ids.Select((_, text) => expected[$"batch{index}.seq{text}.last_hidden_state"].Values)];
            good &= Compare(weights, $"batch{index++}", ids, types, rows);
        }
        return good;
    }

    private static bool Compare(EncoderWeights weights, string batch, int[][] ids, int[][] types, float[][]? expected)
    {
        bool good = true;
        double[][] reference = [.. ids.Select((text, i) => ReferenceEncoder.Forward(weights, text, types[i]))];
        if (expected is not null)
            good &= Report(weights, "expected", batch, ids.Select((_, i) => Difference(reference[i], expected[i])).Max());
        foreach (OnnxForm form in Enum.GetValues<OnnxForm>())
        {
            string file = Path.GetTempFileName();
            try
            {
                BertGraph.Save(weights, form, clsOnly: false, file);
                using OnnxEncoder encoder = new(file, threads: 1, spinning: false);
                double largest = 0;
                encoder.Run(ids, types, (output, paddedLength) =>
                {
                    int hidden = weights.Shape.HiddenSize, rows = form == OnnxForm.FusedCls ? 1 : paddedLength;
                    if (output.Length != ids.Length * rows * hidden)
                        throw new BgeMetalException($"output of {form}", $"{output.Length} numbers where {ids.Length * rows * hidden} were expected");
                    for (int text = 0; text < ids.Length; text++)
                        largest = Math.Max(largest, Difference(reference[text], output.Slice(text * rows * hidden, Math.Min(rows, ids[text].Length) * hidden)));
                });
                good &= Report(weights, form.ToString(), batch, largest);
            }
            finally
            {
                File.Delete(file);
            }
        }
        return good;
    }

    private static bool Report(EncoderWeights weights, string form, string batch, double largest)
    {
        bool good = largest <= Tolerance;
        Console.WriteLine($"{weights.Shape.Name,-24} {form,-10} {batch,-8} {largest:E2}{(good ? "" : "  TOO LARGE")}");
        return good;
    }

    /// <summary>The largest difference of the numbers that <paramref name="values"/> has; infinite where one is not finite.</summary>
    private static double Difference(double[] reference, ReadOnlySpan<float> values)
    {
        double largest = 0;
        for (int i = 0; i < values.Length; i++)
            largest = Math.Max(largest, float.IsFinite(values[i]) ? Math.Abs(reference[i] - values[i]) : double.PositiveInfinity);
        return largest;
    }

    private static int[][] Ids(EncoderShape shape, params int[] lengths)
    {
        Random random = new(lengths.Length);
        return [.. lengths.Select(length => (int[])[.. Enumerable.Range(0, length).Select(_ => random.Next(shape.VocabularySize))])];
    }

    private static int[][] RandomTypes(int[][] ids)
    {
        Random random = new(3);
        return [.. ids.Select(text => (int[])[.. text.Select(_ => random.Next(2))])];
    }
}
