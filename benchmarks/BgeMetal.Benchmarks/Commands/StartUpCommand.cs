using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using BgeMetal.Benchmarks.Engines;
using BgeMetal.Benchmarks.Models;
using BgeMetal.Benchmarks.Onnx;
using BgeMetal.Benchmarks.Timing;

namespace BgeMetal.Benchmarks.Commands;

/// <summary>
/// <c>start-up</c>: the time from starting a fresh process to the first line of its output, which is the first vector. Ours is <c>bgemetal embed</c> of one text; the peer's
/// is this program's <c>peer-first-vector</c>, a session over the same weights that gets ready token ids, so that it tokenizes nothing.
/// </summary>
internal static class StartUpCommand
{
    private static readonly string DefaultCli = Path.Combine(ResultFile.RepositoryRoot, "src", "BgeMetal.Cli", "bin", "Release", "net10.0", "BgeMetal.Cli.dll");

    public static Command Create()
    {
        Option<string> model = new("--model") { Description = "Model shape", DefaultValueFactory = _ => "bge-small-zh" };
        Option<string> cli = new("--cli") { Description = "The built command line", DefaultValueFactory = _ => DefaultCli };
        Option<int> rounds = new("--rounds") { DefaultValueFactory = _ => 10 };
        Command command = new("start-up", "Time from process start to the first vector") { model, cli, rounds };
        command.SetAction(parsed => Run(EncoderShape.Named(parsed.GetValue(model)!), parsed.GetValue(cli)!, parsed.GetValue(rounds)));
        return command;
    }

    /// <summary>The command that the peer's process runs.</summary>
    public static Command CreatePeer()
    {
        Argument<string> file = new("file") { Description = "ONNX model" };
        Argument<int> hiddenSize = new("hidden") { Description = "Hidden size" };
        Command command = new("peer-first-vector", "Load an ONNX model, embed one text, print its first number (used by start-up)") { file, hiddenSize };
        command.SetAction(parsed =>
        {
            using OnnxEngine engine = new(parsed.GetValue(file)!, OnnxForm.Plain, Environment.ProcessorCount, spinning: true, PaddedBatching.Sorted);
            float[][] output = [new float[parsed.GetValue(hiddenSize)]];
            engine.Embed([[2, 50, 60, 70, 80, 3]], output);
            Console.WriteLine(output[0][0]);
        });
        return command;
    }

    private static int Run(EncoderShape shape, string cli, int rounds)
    {
        using ModelFolder folder = new(EncoderWeights.Random(shape, 42), [OnnxForm.Plain]);
        string text = Path.Combine(folder.Path, "text.txt");
        File.WriteAllText(text, "how fast does it start?\n");
        string self = typeof(StartUpCommand).Assembly.Location;
        string[] peer = [self, "peer-first-vector", folder.OnnxModel(OnnxForm.Plain), shape.HiddenSize.ToString(CultureInfo.InvariantCulture)];
        string[] own = [cli, "embed", "--model", folder.Path, "--input", text, "--device", "cpu", "--quiet"];
        List<double> peerMs = [], ownMs = [];
        for (int round = 0; round <= rounds; round++)
        {
            double peerTime = FirstLineMs(peer), ownTime = FirstLineMs(own);
            if (round == 0)
                continue;                                 // the first round only brings the files into the page cache
            peerMs.Add(peerTime);
            ownMs.Add(ownTime);
        }
        Console.WriteLine($"{shape.Name}, process start to first vector, files in the page cache, {rounds} rounds, ms:");
        foreach ((string name, List<double> ms) in ((string, List<double>)[])[($"onnxruntime {OnnxEncoder.Version}", peerMs), ("bgemetal", ownMs)])
            Console.WriteLine($"{name,-22} min {ms.Min(),7:F0}   median {ms.Order().ElementAt(ms.Count / 2),7:F0}   max {ms.Max(),7:F0}");
        return 0;
    }

    /// <summary>Runs <c>dotnet</c> with the arguments and returns the time from its start to the first line of its output; waits for its end, untimed.</summary>
    private static double FirstLineMs(string[] arguments)
    {
        ProcessStartInfo start = new("dotnet", arguments) { RedirectStandardOutput = true, RedirectStandardError = true };
        long begun = Stopwatch.GetTimestamp();
        using Process process = Process.Start(start)!;
        Task<string> errors = process.StandardError.ReadToEndAsync();
        string? line = process.StandardOutput.ReadLine();
        double elapsedMs = Stopwatch.GetElapsedTime(begun).TotalMilliseconds;
        process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        return line is not null && process.ExitCode == 0 ? elapsedMs
            : throw new BgeMetalException("no vector from dotnet " + string.Join(' ', arguments), errors.Result.Trim().ReplaceLineEndings(" "));
    }
}
