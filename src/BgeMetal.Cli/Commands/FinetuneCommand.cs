using System.CommandLine;
using System.Globalization;
using BgeMetal.Checkpoints;
using BgeMetal.Cli.Output;
using BgeMetal.Cli.Parsing;
using BgeMetal.Training;

namespace BgeMetal.Cli.Commands;

/// <summary><c>finetune</c>: contrastive fine-tuning on <c>{"query","pos","neg"}</c> rows.</summary>
internal static class FinetuneCommand
{
    public static Command Create(Terminal terminal)
    {
        ModelOption model = new();
        TrainerOptionSet trainer = new();
        Options options = new();
        TrainingEvaluationOptionSet evaluation = new();
        Command command = new("finetune", "Contrastive fine-tuning on {\"query\",\"pos\",\"neg\"} rows");
        model.AddTo(command);
        options.AddTo(command);
        evaluation.AddTo(command);
        trainer.AddTo(command);
        command.SetAction(parsed =>
        {
            FinetuneOptions task = options.Read(parsed, terminal);
            TrainingOptions training = trainer.Read(parsed, terminal) with { Evaluation = evaluation.Read(parsed) };
            string directory = model.Resolve(parsed, terminal);
            TrainingSummary summary = TrainingRun.Watch(terminal, progress => EmbedderTrainer.Run(directory, task, training, progress, terminal.Cancellation));
            TrainingRun.Say(terminal, summary, training.OutputDirectory);
            return ExitCode.Done;
        });
        return command;
    }

    private sealed class Options
    {
        private static readonly int[] s_mrlDims = [64, 128, 256, 512, 768, 1024, 1536, 2048, 2560, 3072, 3584, 4096];

        private readonly TrainingRowOptionSet _rows = new("retrieval", "Passages", smallestGroup: 1);
        private readonly CliOption<double> _temperature = Opt.Number("--temperature", "Similarities are divided by this", 0.02, 1e-6, 1e6);
        private readonly CliOption<bool?> _normalize = Opt.MaybeFlag("--normalize-embeddings", "Unit vectors: similarity is the cosine (the default)", "normlized", "normalized");
        private readonly CliOption<string> _pooling = Opt.Choice("--sentence-pooling-method", "How token vectors become one", "auto", ["auto", "cls", "mean"], "pooling", "pooling-method");
        private readonly CliOption<bool?> _inBatch = Opt.MaybeFlag("--use-inbatch-neg", "Other queries' passages are negatives too (the default)");
        private readonly CliOption<bool> _crossDevice = Opt.Flag("--negatives-cross-device", "Share negatives across devices; with one device there is nothing to share");
        private readonly CliOption<bool> _sameDataset = Opt.Flag("--same-dataset-within-batch", "Every batch from one file");
        private readonly CliOption<int> _small = Opt.Int("--small-threshold", "With it: smaller files are merged within their folder", 0, 0, int.MaxValue);
        private readonly CliOption<int> _drop = Opt.Int("--drop-threshold", "With it: merged files with fewer rows are left out", 0, 0, int.MaxValue);
        private readonly CliOption<string> _kd = Opt.Choice("--kd-loss-type", "How scores are learnt from", "kl_div", ["kl_div", "m3_kd_loss"]);
        private readonly CliOption<bool> _mrl = Opt.Flag("--use-mrl", "Matryoshka: train leading components too");
        private readonly CliOption<int[]> _mrlDims = Opt.Ints("--mrl-dims", "Components of --use-mrl", s_mrlDims, 1, 1 << 16);
        private readonly CliOption<bool> _fixPositions = Opt.Flag("--fix-position-embedding", "Leave the position table as it is");
        private readonly CliOption<int> _sub = Opt.Int("--sub-batch-size", "Texts taken through the encoder at a time; the result is that of the whole batch", 0, -1, 1 << 20);
        private readonly CliOption<int> _queryLength = Opt.Int("--query-max-len", "Tokens a query is cut to", 32, 3, 1 << 20, "query-max-length");
        private readonly CliOption<int> _passageLength = Opt.Int("--passage-max-len", "Tokens a passage is cut to", 128, 3, 1 << 20, "passage-max-length");

        public void AddTo(Command command)
        {
            _rows.AddTo(command);
            foreach (Option option in (Option[])[_temperature, _normalize, _pooling, _inBatch, _crossDevice, _sameDataset, _small, _drop, _kd,
                         _mrl, _mrlDims, _fixPositions, _sub, _queryLength, _passageLength])
                command.Add(option);
        }

        public FinetuneOptions Read(ParseResult parsed, Terminal terminal)
        {
            if (parsed.GetValue(_crossDevice)) terminal.Warn("--negatives-cross-device: there is one device, so all negatives are its own");
            if (parsed.GetValue(_normalize) is false && parsed.GetValue(_temperature) is var temperature and not 1)
                terminal.Warn(string.Create(CultureInfo.InvariantCulture, $"--normlized False: inner products are divided by --temperature {temperature}; FlagEmbedding's older trainer used 1 here whatever was asked for (--temperature 1 does the same)"));
            TrainingRowChoices rows = _rows.Read(parsed);
            return new FinetuneOptions
            {
                TrainData = rows.Files,
                MaxRowsPerFile = rows.MaxRowsPerFile,
                SkipInvalid = rows.SkipInvalid,
                TrainGroupSize = rows.GroupSize,
                Temperature = parsed.GetValue(_temperature),
                Normalize = parsed.GetValue(_normalize) ?? true,
                Pooling = parsed.GetValue(_pooling) switch { "cls" => PoolingMode.Cls, "mean" => PoolingMode.Mean, _ => null },
                InBatchNegatives = parsed.GetValue(_inBatch) ?? true,
                SameDatasetWithinBatch = parsed.GetValue(_sameDataset),
                SmallThreshold = parsed.GetValue(_small),
                DropThreshold = parsed.GetValue(_drop),
                KnowledgeDistillation = rows.Distill,
                DistillationLoss = parsed.GetValue(_kd) == "m3_kd_loss" ? DistillationLoss.M3Kd : DistillationLoss.KlDiv,
                MatryoshkaDimensions = parsed.GetValue(_mrl) ? parsed.IntsOr(_mrlDims, s_mrlDims) : [],
                FixPositionEmbedding = parsed.GetValue(_fixPositions),
                SubBatchSize = Math.Max(0, parsed.GetValue(_sub)),
                QueryMaxLength = parsed.GetValue(_queryLength),
                PassageMaxLength = parsed.GetValue(_passageLength),
                QueryInstruction = rows.Query,
                QueryInstructionFormat = rows.QueryFormat,
                PassageInstruction = rows.Passage,
                PassageInstructionFormat = rows.PassageFormat,
            };
        }
    }
}
