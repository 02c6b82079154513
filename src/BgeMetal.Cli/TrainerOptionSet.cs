using System.CommandLine;
using BgeMetal.Cli.Output;
using BgeMetal.Cli.Parsing;
using BgeMetal.Retrieval;
using BgeMetal.Training;

namespace BgeMetal.Cli;

/// <summary>The options every trainer has: steps, optimiser, schedule, log, checkpoints.</summary>
internal sealed class TrainerOptionSet
{
    private readonly CliOption<string> _output = Opt.RequiredText("--output-dir", "DIR", "Where the model, the log and the checkpoints go", "output");
    private readonly CliOption<bool> _overwrite = OutputFolder.Overwrite();
    private readonly CliOption<double> _rate = Opt.Number("--learning-rate", "The highest learning rate", 5e-5, 0, 1e3);
    private readonly CliOption<double> _epochs = Opt.Number("--num-train-epochs", "Passes over the data", 3, 0, 1e6);
    private readonly CliOption<int> _steps = Opt.Int("--max-steps", "Optimiser steps, instead of epochs; 0 or -1 for none", 0, -1, int.MaxValue);
    private readonly CliOption<int> _batch = Opt.Int("--per-device-train-batch-size", "Rows of a forward pass", 8, 1, 1 << 20, "per-gpu-train-batch-size", "train-batch-size");
    private readonly CliOption<int> _accumulation = Opt.Int("--gradient-accumulation-steps", "Forward passes averaged into one step", 1, 1, 1 << 20);
    private readonly CliOption<bool> _dropLast = Opt.Flag("--dataloader-drop-last", "Leave out a last batch that is not full");
    private readonly CliOption<bool?> _shuffle = Opt.MaybeFlag("--shuffle", "Draw the rows' order anew for each epoch (the default)");

    private readonly CliOption<string> _schedule = Opt.Choice("--lr-scheduler-type", "Course of the learning rate", "linear",
        ["linear", "constant", "constant_with_warmup", "cosine"]);

    private readonly CliOption<double> _warmupRatio = Opt.Number("--warmup-ratio", "Share of the steps that warm up", 0, 0, 1);
    private readonly CliOption<int> _warmupSteps = Opt.Int("--warmup-steps", "Steps that warm up, instead of a share", 0, 0, int.MaxValue);
    private readonly CliOption<double> _decay = Opt.Number("--weight-decay", "Decoupled decay of weights and tables", 0, 0, 1e3);
    private readonly CliOption<double> _beta1 = Opt.Number("--adam-beta1", "Adam's first decay rate", 0.9, 0, 1);
    private readonly CliOption<double> _beta2 = Opt.Number("--adam-beta2", "Adam's second decay rate", 0.999, 0, 1);
    private readonly CliOption<double> _epsilon = Opt.Number("--adam-epsilon", "Added to the root of Adam's second moment", 1e-8, 0, 1);
    private readonly CliOption<double> _norm = Opt.Number("--max-grad-norm", "Gradients are scaled down to this norm; 0 leaves them", 1, 0, 1e9);
    private readonly CliOption<int> _logging = Opt.Int("--logging-steps", "Steps between two lines of train_log.csv", 10, 1, int.MaxValue);
    private readonly CliOption<int> _save = Opt.Int("--save-steps", "Steps between two checkpoints; 0 for none", 0, 0, int.MaxValue);
    private readonly CliOption<int> _limit = Opt.Int("--save-total-limit", "Checkpoints kept, the oldest deleted first; 0 keeps all", 0, 0, int.MaxValue);
    private readonly CliOption<string?> _resume = Opt.Text("--resume-from-checkpoint", "latest|DIR", "Go on from a checkpoint, bit for bit");
    private readonly CliOption<int> _seed = Opt.Int("--seed", "Seed of order, sampling and dropout", 42, 0, int.MaxValue, "data-seed");
    private readonly ComputeOptionSet _compute = new();

    public void AddTo(Command command)
    {
        foreach (Option option in (Option[])[_output, _overwrite, _rate, _epochs, _steps, _batch, _accumulation, _dropLast, _shuffle, _schedule, _warmupRatio, _warmupSteps,
                     _decay, _beta1, _beta2, _epsilon, _norm, _logging, _save, _limit, _resume, _seed])
            command.Add(option);
        _compute.AddTo(command);
    }

    public TrainingOptions Read(ParseResult parsed, Terminal terminal)
    {
        ComputeOptions compute = _compute.Read(parsed, terminal);
        if (compute.Gpu is { } gpu) terminal.Say($"training on {gpu}");
        return Read(parsed) with { Compute = compute };
    }

    private TrainingOptions Read(ParseResult parsed) => new()
    {
        OutputDirectory = parsed.GetRequiredValue(_output),
        OverwriteOutputDirectory = parsed.GetValue(_overwrite),
        LearningRate = parsed.GetValue(_rate),
        Epochs = parsed.GetValue(_epochs),
        MaxSteps = Math.Max(0, parsed.GetValue(_steps)),
        BatchSize = parsed.GetValue(_batch),
        GradientAccumulationSteps = parsed.GetValue(_accumulation),
        DropLast = parsed.GetValue(_dropLast),
        Shuffle = parsed.GetValue(_shuffle) ?? true,
        Schedule = parsed.GetValue(_schedule) switch
        {
            "constant" => LearningRateShape.Constant,
            "constant_with_warmup" => LearningRateShape.ConstantWithWarmup,
            "cosine" => LearningRateShape.Cosine,
            _ => LearningRateShape.Linear,
        },
        WarmupRatio = parsed.GetValue(_warmupRatio),
        WarmupSteps = parsed.GetValue(_warmupSteps),
        WeightDecay = parsed.GetValue(_decay),
        AdamBeta1 = parsed.GetValue(_beta1),
        AdamBeta2 = parsed.GetValue(_beta2),
        AdamEpsilon = parsed.GetValue(_epsilon),
        MaxGradNorm = parsed.GetValue(_norm),
        LoggingSteps = parsed.GetValue(_logging),
        SaveSteps = parsed.GetValue(_save),
        SaveTotalLimit = parsed.GetValue(_limit),
        ResumeFrom = parsed.GetValue(_resume),
        Seed = parsed.GetValue(_seed),
    };
}
