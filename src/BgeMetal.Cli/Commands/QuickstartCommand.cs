using System.CommandLine;
using System.Globalization;
using System.Text.Json;
using BgeMetal.Cli.Output;
using BgeMetal.Cli.Parsing;
using BgeMetal.Files;

namespace BgeMetal.Cli.Commands;

/// <summary>
/// <c>quickstart</c>: the whole pipeline on the sample data, each step the very command that a user would type, so that every line can be repeated.
/// </summary>
internal static class QuickstartCommand
{
    private const string Marker = "quickstart.json";
    private const string Question = "Where do emperor penguins keep the egg during the Antarctic winter?";

    public static Command Create(Terminal terminal)
    {
        CliOption<string> output = Opt.TextOr("--output", "DIR", Path.Combine("output", "quickstart"), "Where the model, the index and the numbers go", "output-dir");
        CliOption<string> device = Opt.TextOr("--device", "auto|cpu|cuda|cuda:N", "cpu", "Where to compute");
        CliOption<bool> overwrite = OutputFolder.Overwrite();
        Command command = new("quickstart", "Run the pipeline on the sample data: init, pretrain, finetune, mine, embed, index, search, eval; about a minute on a CPU") { output, device, overwrite };
        command.SetAction(parsed =>
        {
            string folder = parsed.GetValue(output)!;
            // What an earlier quickstart left may be replaced; anything else is the user's.
            OutputFolder.Check(folder, parsed.GetValue(overwrite) || File.Exists(Path.Combine(folder, Marker)));
            return new Pipeline(terminal, folder, Samples(), parsed.GetValue(device)!).Run();
        });
        return command;
    }

    private static string Samples()
    {
        string folder = Path.Combine(AppContext.BaseDirectory, "Samples");
        return File.Exists(Path.Combine(folder, "corpus.jsonl")) ? folder : throw new BgeMetalException("cannot run the quickstart", "the sample data is not beside the program", folder);
    }

    private sealed class Pipeline(Terminal terminal, string folder, string samples, string device)
    {
        private readonly bool _quiet = terminal.Quiet, _verbose = terminal.Verbose;

        public int Run()
        {
            string fresh = In("fresh"), pretrained = In("pretrained"), model = In("model"), corpus = Sample("corpus.jsonl");
            AtomicFile.WriteAllText(In(Marker), "{}\n");
            int code = Step("A fresh model: a WordPiece vocabulary learnt from 400 sample passages, random weights",
                    "init", "--corpus", Sample("pretrain.jsonl"), "--output", fresh, "--vocab-size", "4000", "--layers", "2", "--hidden-size", "128", "--heads", "4",
                    "--max-positions", "256", "--overwrite-output-dir")
                .Then("How good is it before it learns? Judged queries against the passages", Evaluate(fresh, "before"))
                .Then("Pre-training: RetroMAE on the passages",
                    "pretrain", "--model", fresh, "--train-data", Sample("pretrain.jsonl"), "--output-dir", pretrained, "--learning-rate", "5e-4", "--num-train-epochs", "2",
                    "--per-device-train-batch-size", "16", "--max-seq-length", "128", "--overwrite-output-dir", "--device", device)
                .Then("Fine-tuning: queries move towards their passages and away from others",
                    "finetune", "--model", Path.Combine(pretrained, "encoder_model"), "--train-data", Sample("finetune.jsonl"), "--output-dir", model, "--learning-rate", "5e-4",
                    "--num-train-epochs", "10", "--per-device-train-batch-size", "32", "--train-group-size", "2", "--temperature", "0.05", "--warmup-ratio", "0.1",
                    "--query-max-len", "64", "--passage-max-len", "128", "--sentence-pooling-method", "mean", "--overwrite-output-dir", "--device", device)
                .Then("Hard negatives for another round: passages that the model takes for answers",
                    "mine", "--model", model, "--input-file", Sample("finetune.jsonl"), "--output-file", In("mined.jsonl"), "--candidate-pool", Sample("pretrain.jsonl"),
                    "--range-for-sampling", "2-50", "--negative-number", "7", "--device", device)
                .Then("Every passage becomes a vector",
                    "embed", "--model", model, "--input", corpus, "--output", In("passages.npy"), "--device", device, "--stats", In("embed.json"))
                .Then("Vectors and texts in one file, to be searched exactly",
                    "index", "--model", model, "--corpus", corpus, "--output", In("passages.index"), "--device", device)
                .Then("The best passages for a question",
                    "search", "--index", In("passages.index"), "--query", Question, "--top-k", "3", "--device", device)
                .Then("How good is it now?", Evaluate(model, "after"))
                .Code;
            terminal.Quiet = _quiet;
            if (code != ExitCode.Done) return code;
            Summarise();
            return ExitCode.Done;
        }

        private string[] Evaluate(string model, string when) =>
            ["eval", "--model", model, "--data", samples, "--k", "10", "--output", In($"metrics_{when}.json"), "--per-query", In($"per_query_{when}.csv"), "--device", device];

        private StepResult Step(string meaning, params string[] arguments)
        {
            string[] all = [.. arguments, .. _quiet ? ["--quiet"] : Array.Empty<string>(), .. _verbose ? ["--verbose"] : Array.Empty<string>()];
            if (!_quiet)
            {
                terminal.WriteLine("");
                terminal.WriteLine("# " + meaning);
                terminal.WriteLine("$ bgemetal " + string.Join(' ', arguments.Select(Quoted)));
            }
            return new StepResult(this, CommandLine.Run(all, terminal));
        }

        private void Summarise()
        {
            (Dictionary<string, double> before, int passages) = Measures("before");
            (Dictionary<string, double> after, _) = Measures("after");
            using JsonDocument stats = JsonDocument.Parse(File.ReadAllBytes(In("embed.json")));
            terminal.Out.WriteLine();
            terminal.Out.WriteLine(string.Create(CultureInfo.InvariantCulture, $"""
                What came out        before   after
                  nDCG@10             {before["ndcg@10"]:0.000}   {after["ndcg@10"]:0.000}   1 would be: the right passage first for every query
                  MRR@10              {before["mrr@10"]:0.000}   {after["mrr@10"]:0.000}   one over the rank of the first right passage
                  recall@10           {before["recall@10"]:0.000}   {after["recall@10"]:0.000}   right passages among the first ten of {passages}; picking at random finds {10.0 / passages:0.000}
                  speed               {stats.RootElement.GetProperty("tokens_per_second").GetDouble():N0} tokens/s
                The model is tiny and has read 400 short passages. A published one does far better; try
                  bgemetal eval --model BAAI/bge-small-en-v1.5 --data {Quoted(samples)}
                Everything is in {folder}: model/, passages.index, mined.jsonl, metrics_*.json, per_query_*.csv; the loss is drawn in model/loss.png
                """));
            AtomicFile.WriteAllText(In(Marker), JsonSerializer.Serialize(new { before, after }) + "\n");
        }

        private (Dictionary<string, double> Measures, int Passages) Measures(string when)
        {
            using JsonDocument metrics = JsonDocument.Parse(File.ReadAllBytes(In($"metrics_{when}.json")));
            JsonElement data = metrics.RootElement.GetProperty("datasets")[0];
            return (data.GetProperty("metrics").EnumerateObject().ToDictionary(measure => measure.Name, measure => measure.Value.GetDouble()), data.GetProperty("passages").GetInt32());
        }

        private string Sample(string name) => Path.Combine(samples, name);

        private string In(string name) => Path.Combine(folder, name);

        private static string Quoted(string argument) => argument.Contains(' ', StringComparison.Ordinal) ? $"\"{argument}\"" : argument;

        private readonly record struct StepResult(Pipeline Pipeline, int Code)
        {
            public StepResult Then(string meaning, params string[] arguments) => Code == ExitCode.Done ? Pipeline.Step(meaning, arguments) : this;
        }
    }
}
