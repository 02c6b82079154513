using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using BgeMetal.Benchmarks.Engines;
using BgeMetal.Benchmarks.Models;
using BgeMetal.Benchmarks.Timing;
using BgeMetal.Data.Training;
using BgeMetal.Retrieval;
using BgeMetal.Training;
using BgeMetal.Training.Objectives;

namespace BgeMetal.Benchmarks.Commands;

/// <summary>
/// <c>pretrain-step</c>: memory and speed of a RetroMAE step, and of the same step with logits in memory: of the labelled positions, and of every position as the original
/// does. Each form runs in a process of its own, so that its peak is its own; the losses have to agree.
/// </summary>
internal static class PretrainStepCommand
{
    private const string Tiled = "tiled", Logits = "logits", LogitsEverywhere = "logits-everywhere", DupMae = "dupmae-tiled";
    private static readonly string[] s_forms = [Tiled, Logits, LogitsEverywhere];

    private sealed record Settings(string Model, int Batch, int Length, int Threads, int Steps, int Seed)
    {
        /// <summary>A known shape, or "tiny" to try the command.</summary>
        public EncoderShape Shape => Model == "tiny" ? new EncoderShape("tiny", 2, 64, 2, 128, 1000, Math.Max(512, Length)) : EncoderShape.Named(Model);
    }

    public static Command Create()
    {
        Option<string> model = new("--model") { Description = "Model shape", DefaultValueFactory = _ => "bge-base" };
        Option<int> batch = new("--batch-size") { Description = "Texts of a step", DefaultValueFactory = _ => 4 };
        Option<int> length = new("--max-seq-length") { Description = "Tokens of every text", DefaultValueFactory = _ => 512 };
        Option<string[]> forms = new("--form") { Description = $"Of {Tiled}, {Logits}, {LogitsEverywhere}, {DupMae}", AllowMultipleArgumentsPerToken = true, DefaultValueFactory = _ => s_forms };
        Option<int> threads = new("--threads") { Description = "Threads", DefaultValueFactory = _ => Environment.ProcessorCount };
        Option<int> steps = new("--steps") { Description = "Steps; the first does not count for the time", DefaultValueFactory = _ => 4 };
        Option<int> seed = new("--seed") { Description = "Seed of weights and texts", DefaultValueFactory = _ => 42 };
        Option<string> output = new("--output") { Description = "Result file to append to; '' for none", DefaultValueFactory = _ => Path.Combine(ResultFile.RepositoryRoot, "benchmarks", "results", "pretrain_step.csv") };
        Option<string?> child = new("--child") { Description = "Run this form in this process and print its row (used by the command itself)", Hidden = true };
        Option<string?> folder = new("--folder") { Description = "The model's files (used by the command itself)", Hidden = true };
        Command command = new("pretrain-step", "Memory and speed of a RetroMAE step, with and without logits in memory") { model, batch, length, forms, threads, steps, seed, output, child, folder };
        command.SetAction(parsed =>
        {
            Settings settings = new(parsed.GetValue(model)!, parsed.GetValue(batch), parsed.GetValue(length), parsed.GetValue(threads), parsed.GetValue(steps), parsed.GetValue(seed));
            return parsed.GetValue(child) is { } form ? RunChild(settings, form, parsed.GetValue(folder)!) : Run(settings, parsed.GetValue(forms)!, parsed.GetValue(output)!);
        });
        return command;
    }

    private static int Run(Settings settings, string[] forms, string output)
    {
        List<PretrainStepRow> rows = [];
        using ModelFolder folder = new(EncoderWeights.Random(settings.Shape, settings.Seed), []);
        Console.WriteLine($"{"form",-18} {"MB parameters",14} {"MB activations",15} {"MB peak",9} {"ms min",9} {"ms p50",9} {"cpu ms",9} {"tokens/s",9} {"loss",8}");
        foreach (string form in forms)
        {
            PretrainStepRow row = InChild(settings, form, folder.Path);
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
                $"{row.Form,-18} {row.ParameterBytes / 1e6,14:F0} {row.ActivationBytes / 1e6,15:F0} {row.PeakBytes / 1e6,9:F0} {row.MsMin,9:F0} {row.MsP50,9:F0} {row.CpuMsMin,9:F0} {row.TokensPerSecond,9:F0} {row.Loss,8:F4}"));
            rows.Add(row);
        }
        foreach (PretrainStepRow row in rows.Where(row => row.Form != DupMae))
        {
            // Dropout is drawn by the place among the rows, so with more rows the loss is near, not equal.
            double allowed = (row.Form == LogitsEverywhere ? 1e-2 : 1e-4) * row.Loss;
            if (Math.Abs(row.Loss - rows[0].Loss) > allowed && rows[0].Form != DupMae) throw new BgeMetalException("pretrain-step", $"{rows[0].Form} and {row.Form} disagree about the loss");
        }
        if (output.Length > 0) ResultFile.Append(output, rows);
        return 0;
    }

    private static PretrainStepRow InChild(Settings settings, string form, string folder)
    {
        string[] arguments = [typeof(PretrainStepCommand).Assembly.Location, "pretrain-step", "--child", form, "--folder", folder, "--model", settings.Model, "--batch-size", Text(settings.Batch),
            "--max-seq-length", Text(settings.Length), "--threads", Text(settings.Threads), "--steps", Text(settings.Steps), "--seed", Text(settings.Seed)];
        using Process process = Process.Start(new ProcessStartInfo("dotnet", arguments) { RedirectStandardOutput = true })!;
        string line = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        if (process.ExitCode != 0) throw new BgeMetalException("pretrain-step", $"the process of {form} ended with code {process.ExitCode}");
        return JsonSerializer.Deserialize<PretrainStepRow>(line)!;
    }

    private static string Text(int value) => value.ToString(CultureInfo.InvariantCulture);

    private static int RunChild(Settings settings, string form, string folder)
    {
        if (!s_forms.Append(DupMae).Contains(form)) throw new BgeMetalException("option --form", $"\"{form}\" is unknown");
        RetroMaeBatch batch = MaskedTexts.Draw(settings.Batch, settings.Length, settings.Shape.VocabularySize, form == LogitsEverywhere, settings.Seed);
        PeakMemory peak = PeakMemory.Start();
        using TrainableModel model = RetroMaeModel.Load(folder, new ComputeOptions { Threads = settings.Threads }, settings.Seed, null);
        using RetroMaeObjective objective = new(model, RetroMaeModel.Names(model.Config), form == DupMae ? 0.1f : 0, form is Tiled or DupMae ? null : MaterialisedLogits.CrossEntropy);
        AdamWOptimizer optimizer = new(model.Parameters, new TrainingOptions { OutputDirectory = "" }, model.Device);
        double loss = 0, cpu = double.PositiveInfinity;
        List<double> times = [];
        for (int step = 0; step < settings.Steps; step++)
        {
            TimeSpan before = Environment.CpuUsage.TotalTime;
            long start = Stopwatch.GetTimestamp();
            model.Parameters.ZeroGradients();
            double value = objective.Backpropagate(batch, 1, (ulong)settings.Seed);
            optimizer.Step(1e-5);
            optimizer.Finish();
            if (step == 0) loss = value;
            if (step == 0 && settings.Steps > 1) continue;
            times.Add(Stopwatch.GetElapsedTime(start).TotalMilliseconds);
            cpu = Math.Min(cpu, (Environment.CpuUsage.TotalTime - before).TotalMilliseconds);
        }
        Timings timings = new([.. times.Order()], cpu);
        Console.WriteLine(JsonSerializer.Serialize(new PretrainStepRow
        {
            Date = DateTime.UtcNow.ToString("yyyy-MM-dd", CultureInfo.InvariantCulture),
            Commit = ResultFile.Commit(),
            Cpu = ResultFile.Cpu(),
            Threads = settings.Threads,
            Model = settings.Model,
            Form = form,
            Texts = settings.Batch,
            Tokens = batch.Tokens,
            Steps = times.Count,
            MsMin = Math.Round(timings.Minimum, 1),
            MsP50 = Math.Round(timings.Percentile(0.5), 1),
            CpuMsMin = Math.Round(cpu, 1),
            TokensPerSecond = Math.Round(batch.Tokens / timings.Percentile(0.5) * 1000),
            ParameterBytes = model.Parameters.SizeBytes,
            ActivationBytes = objective.PeakBytes,
            PeakBytes = peak.GrowthBytes(),
            Loss = loss,
        }));
        return 0;
    }
}
