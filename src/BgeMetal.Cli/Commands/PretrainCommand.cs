using System.CommandLine;
using System.Globalization;
using BgeMetal.Cli.Output;
using BgeMetal.Cli.Parsing;
using BgeMetal.Training;

namespace BgeMetal.Cli.Commands;

/// <summary><c>pretrain</c>: RetroMAE or DupMAE on <c>{"text"}</c> rows.</summary>
internal static class PretrainCommand
{
    public static Command Create(Terminal terminal)
    {
        ModelOption model = new();
        TrainerOptionSet trainer = new();
        TrainingEvaluationOptionSet evaluation = new();
        CliOption<string[]> data = Opt.Texts("--train-data", "FILE|DIR", "Files or folders of {\"text\"} rows");
        CliOption<bool> skip = InputOption.SkipInvalid();
        CliOption<int> length = Opt.Int("--max-seq-length", "Tokens a text is cut to", 512, 3, 1 << 20, "max-length");
        CliOption<double> encoder = Opt.Number("--encoder-mlm-probability", "Share of the tokens that the encoder guesses", 0.3, 0, 1);
        CliOption<double> decoder = Opt.Number("--decoder-mlm-probability", "Share of the tokens that each position of the decoder does not see", 0.5, 0, 1);
        CliOption<string> objective = Opt.Choice("--objective", "retromae, or dupmae: the other tokens' vectors have to show the text's words too", "retromae", ["retromae", "dupmae"], "pretrain-method");
        CliOption<double> bagOfWords = Opt.Number("--bow-loss-weight", "What DupMAE's bag-of-words loss counts", 0.1, 0, 1e6);
        data.Required = true;
        Command command = new("pretrain", "RetroMAE or DupMAE pre-training on {\"text\"} rows; the model is saved in OUTPUT/encoder_model");
        command.Aliases.Add("retromae_pretrain");
        model.AddTo(command);
        foreach (Option option in (Option[])[data, skip, length, encoder, decoder, objective, bagOfWords]) command.Add(option);
        evaluation.AddTo(command);
        trainer.AddTo(command);
        command.SetAction(parsed =>
        {
            PretrainOptions task = new()
            {
                TrainData = parsed.GetRequiredValue(data),
                SkipInvalid = parsed.GetValue(skip),
                MaxSequenceLength = parsed.GetValue(length),
                EncoderMaskProbability = parsed.GetValue(encoder),
                DecoderMaskProbability = parsed.GetValue(decoder),
                Objective = parsed.GetValue(objective) == "dupmae" ? PretrainObjective.DupMae : PretrainObjective.RetroMae,
                BagOfWordsWeight = parsed.GetValue(bagOfWords),
            };
            TrainingOptions training = trainer.Read(parsed, terminal) with { Evaluation = evaluation.Read(parsed) };
            string directory = model.Resolve(parsed, terminal);
            TrainingSummary summary = TrainingRun.Watch(terminal, progress => RetroMaeTrainer.Run(directory, task, training, progress, terminal.Say, terminal.Cancellation));
            terminal.Say(string.Create(CultureInfo.InvariantCulture,
                $"trained {summary.Steps} steps, {summary.Tokens:N0} tokens in {summary.Seconds:0.0} s: last loss {summary.FinalLoss:0.0000}; the model is in {Path.Combine(training.OutputDirectory, RetroMaeTrainer.ModelFolder)}"));
            return ExitCode.Done;
        });
        return command;
    }
}
