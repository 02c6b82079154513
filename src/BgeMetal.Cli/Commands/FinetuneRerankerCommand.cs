using System.CommandLine;
using System.Globalization;
using BgeMetal.Cli.Output;
using BgeMetal.Cli.Parsing;
using BgeMetal.Training;

namespace BgeMetal.Cli.Commands;

/// <summary><c>finetune-reranker</c>: training of a cross-encoder.</summary>
internal static class FinetuneRerankerCommand
{
    public static Command Create(Terminal terminal)
    {
        ModelOption model = new();
        TrainerOptionSet trainer = new();
        Options options = new();
        Command command = new("finetune-reranker", "Train a cross-encoder on {\"query\",\"pos\",\"neg\"} rows, from a reranker or from any encoder");
        model.AddTo(command);
        options.AddTo(command);
        trainer.AddTo(command);
        command.SetAction(parsed =>
        {
            RerankerTrainingOptions task = options.Read(parsed);
            TrainingOptions training = trainer.Read(parsed, terminal);
            string directory = model.Resolve(parsed, terminal);
            TrainingSummary summary = TrainingRun.Watch(terminal, progress => RerankerTrainer.Run(directory, task, training, progress, terminal.Cancellation));
            terminal.Say(string.Create(CultureInfo.InvariantCulture,
                $"trained {summary.Steps} steps, {summary.Tokens:N0} tokens in {summary.Seconds:0.0} s: last loss {summary.FinalLoss:0.0000}; the model is in {training.OutputDirectory}"));
            return ExitCode.Done;
        });
        return command;
    }

    private sealed class Options
    {
        private readonly CliOption<string[]> _data = Opt.Texts("--train-data", "FILE|DIR", "Files or folders of {\"query\",\"pos\",\"neg\"} rows");
        private readonly CliOption<int> _cap = Opt.Int("--max-example-num-per-dataset", "Most rows of one file", 100_000_000, 1, int.MaxValue);
        private readonly CliOption<bool> _skip = InputOption.SkipInvalid();
        private readonly CliOption<int> _group = Opt.Int("--train-group-size", "Pairs of a query: one positive, the rest negatives", 8, 2, 4096);
        private readonly CliOption<int> _length = Opt.Int("--max-len", "Tokens a pair is cut to, the longer text first", 512, 8, 1 << 20, "max-length", "max-seq-length");
        private readonly CliOption<int?> _queryLength = Opt.MaybeInt("--query-max-len", "Cut query and passage on their own first, then the passage, as newer FlagEmbedding does", 8, 1 << 20, "query-max-length");
        private readonly CliOption<int?> _passageLength = Opt.MaybeInt("--passage-max-len", "The passage's part of that", 8, 1 << 20, "passage-max-length");
        private readonly CliOption<bool> _distill = Opt.Flag("--knowledge-distillation", "Learn from the rows' pos_scores and neg_scores too");
        private readonly CliOption<string?> _query = Opt.Text("--query-instruction-for-rerank", "TEXT", "Put before each query");
        private readonly CliOption<string> _queryFormat = Opt.TextOr("--query-instruction-format", "FORMAT", "{}{}", "How instruction and query are joined");
        private readonly CliOption<string?> _passage = Opt.Text("--passage-instruction-for-rerank", "TEXT", "Put before each passage");
        private readonly CliOption<string> _passageFormat = Opt.TextOr("--passage-instruction-format", "FORMAT", "{}{}", "How instruction and passage are joined");

        public void AddTo(Command command)
        {
            _data.Required = true;
            foreach (Option option in (Option[])[_data, _cap, _skip, _group, _length, _queryLength, _passageLength, _distill, _query, _queryFormat, _passage, _passageFormat])
                command.Add(option);
        }

        public RerankerTrainingOptions Read(ParseResult parsed) => new()
        {
            TrainData = parsed.GetRequiredValue(_data),
            MaxRowsPerFile = parsed.GetValue(_cap),
            SkipInvalid = parsed.GetValue(_skip),
            TrainGroupSize = parsed.GetValue(_group),
            MaxLength = parsed.GetValue(_length),
            QueryMaxLength = parsed.GetValue(_queryLength),
            PassageMaxLength = parsed.GetValue(_passageLength),
            KnowledgeDistillation = parsed.GetValue(_distill),
            QueryInstruction = parsed.GetValue(_query),
            QueryInstructionFormat = parsed.GetValue(_queryFormat)!,
            PassageInstruction = parsed.GetValue(_passage),
            PassageInstructionFormat = parsed.GetValue(_passageFormat)!,
        };
    }
}
