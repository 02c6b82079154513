using System.CommandLine;
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
        TrainingEvaluationOptionSet evaluation = new(reranks: true);
        Command command = new("finetune-reranker", "Train a cross-encoder on {\"query\",\"pos\",\"neg\"} rows, from a reranker or from any encoder");
        model.AddTo(command);
        options.AddTo(command);
        evaluation.AddTo(command);
        trainer.AddTo(command);
        command.SetAction(parsed =>
        {
            RerankerTrainingOptions task = options.Read(parsed);
            TrainingOptions training = trainer.Read(parsed, terminal) with { Evaluation = evaluation.Read(parsed) };
            string directory = model.Resolve(parsed, terminal);
            TrainingSummary summary = TrainingRun.Watch(terminal, progress => RerankerTrainer.Run(directory, task, training, progress, terminal.Cancellation));
            TrainingRun.Say(terminal, summary, training.OutputDirectory);
            return ExitCode.Done;
        });
        return command;
    }

    private sealed class Options
    {
        private readonly TrainingRowOptionSet _rows = new("rerank", "Pairs", smallestGroup: 2);
        private readonly CliOption<int> _length = Opt.Int("--max-len", "Tokens a pair is cut to, the longer text first", 512, 8, 1 << 20, "max-length", "max-seq-length");
        private readonly CliOption<int?> _queryLength = Opt.MaybeInt("--query-max-len", "Cut query and passage on their own first, then the passage, as newer FlagEmbedding does", 8, 1 << 20, "query-max-length");
        private readonly CliOption<int> _sub = Opt.Int("--sub-batch-size", "Pairs taken through the model at a time, in whole groups and at least one; the result is that of the whole batch", 0, -1, 1 << 20);
        private readonly CliOption<int?> _passageLength = Opt.MaybeInt("--passage-max-len", "The passage's part of that", 8, 1 << 20, "passage-max-length");

        public void AddTo(Command command)
        {
            _rows.AddTo(command);
            foreach (Option option in (Option[])[_length, _sub, _queryLength, _passageLength]) command.Add(option);
        }

        public RerankerTrainingOptions Read(ParseResult parsed)
        {
            TrainingRowChoices rows = _rows.Read(parsed);
            return new RerankerTrainingOptions
            {
                TrainData = rows.Files,
                MaxRowsPerFile = rows.MaxRowsPerFile,
                SkipInvalid = rows.SkipInvalid,
                TrainGroupSize = rows.GroupSize,
                MaxLength = parsed.GetValue(_length),
                QueryMaxLength = parsed.GetValue(_queryLength),
                PassageMaxLength = parsed.GetValue(_passageLength),
                KnowledgeDistillation = rows.Distill,
                SubBatchSize = Math.Max(0, parsed.GetValue(_sub)),
                QueryInstruction = rows.Query,
                QueryInstructionFormat = rows.QueryFormat,
                PassageInstruction = rows.Passage,
                PassageInstructionFormat = rows.PassageFormat,
            };
        }
    }
}
