using System.CommandLine;
using BgeMetal.Checkpoints;
using BgeMetal.Cli.Output;
using BgeMetal.Cli.Parsing;
using BgeMetal.Data.Training;
using BgeMetal.Retrieval;
using BgeMetal.Training;

namespace BgeMetal.Cli.Commands;

/// <summary><c>finetune-llm-embedder</c>: several retrieval tasks, told apart by instructions, learnt from a language model's preferences.</summary>
internal static class FinetuneLlmEmbedderCommand
{
    public static Command Create(Terminal terminal)
    {
        ModelOption model = new();
        TrainerOptionSet trainer = new();
        Options options = new();
        Command command = new("finetune-llm-embedder", "Train an LLM-Embedder on tasks' rows with a language model's scores");
        model.AddTo(command);
        options.AddTo(command);
        trainer.AddTo(command);
        command.SetAction(parsed =>
        {
            LlmEmbedderOptions task = options.Read(parsed);
            TrainingOptions training = trainer.Read(parsed, terminal);
            string directory = model.Resolve(parsed, terminal);
            TrainingSummary summary = TrainingRun.Watch(terminal, progress => LlmEmbedderTrainer.Run(directory, task, training, progress, terminal.Cancellation));
            TrainingRun.Say(terminal, summary, training.OutputDirectory);
            return ExitCode.Done;
        });
        return command;
    }

    private sealed class Options
    {
        private readonly CliOption<string[]> _data = Opt.Texts("--train-data", "TASK:FILE", "Rows {\"query\",\"pos\",\"neg\",\"teacher_scores\"} or {\"query\",\"history\",\"teacher_scores\"} of a task; without TASK the rows name it");
        private readonly CliOption<bool> _skip = InputOption.SkipInvalid();
        private readonly CliOption<double> _contrastive = Opt.Number("--contrastive-weight", "Weight of the contrastive loss; 0 leaves it out", 0.2, 0, 1e6);
        private readonly CliOption<double> _distill = Opt.Number("--distill-weight", "Weight of the distillation loss; 0 leaves it out", 1, 0, 1e6);
        private readonly CliOption<double> _teacher = Opt.Number("--teacher-temperature", "Teacher's scores are divided by this", 1, 1e-6, 1e6);
        private readonly CliOption<double> _student = Opt.Number("--student-temperature", "The student's similarities are divided by this too", 1, 1e-6, 1e6);
        private readonly CliOption<bool> _stable = Opt.Flag("--stable-distill", "Stabilised distillation: each candidate against all the teacher likes less");
        private readonly CliOption<string> _positive = Opt.Choice("--select-positive", "Which positive a row gives", "first", ["first", "random", "teacher", "teacher-pos"]);
        private readonly CliOption<string> _negative = Opt.Choice("--select-negative", "Which negatives a row gives", "random", ["random", "first", "teacher+", "teacher-"]);
        private readonly CliOption<double?> _margin = Opt.MaybeNumber("--teacher-scores-margin", "Leave out rows whose best and worst score are closer", 0, 1e9);
        private readonly CliOption<double?> _minimum = Opt.MaybeNumber("--teacher-scores-min", "Leave out rows whose best score is lower", -1e9, 1e9);
        private readonly CliOption<int?> _most = Opt.MaybeInt("--max-sample-num", "Most rows of a file, drawn by the seed", 1, int.MaxValue);
        private readonly CliOption<string> _same = Opt.Choice("--inbatch-same-dataset", "Every batch from one file: epoch, each row once an epoch; random, drawn anew each time", "none", ["none", "epoch", "random"]);
        private readonly CliOption<bool> _published = Opt.Flag("--use-train-config", "Each of the six published tasks with the options BAAI/llm-embedder was trained with");
        private readonly CliOption<string?> _tasks = Opt.Text("--task-config", "FILE", "Options by task {\"TASK\": {\"contrastive_weight\": 0, ..}} over these");
        private readonly CliOption<string?> _instructions = Opt.Text("--instructions", "FILE", "Instructions by task {\"TASK\": {\"query\": \"..\", \"key\": \"..\"}}, over the six published ones");
        private readonly CliOption<bool?> _add = Opt.MaybeFlag("--add-instruction", "Put the tasks' instructions before the texts (the default)");
        private readonly CliOption<int> _group = Opt.Int("--train-group-size", "Candidates of a query: one positive, the rest negatives", 8, 1, 4096);
        private readonly CliOption<double> _temperature = Opt.Number("--cos-temperature", "Cosines are divided by this", 0.01, 1e-6, 1e6, "temperature");
        private readonly CliOption<string> _metric = Opt.Choice("--dense-metric", "Similarity of two vectors: cosine or inner product", "cos", ["cos", "ip"]);
        private readonly CliOption<string> _pooling = Opt.Choice("--sentence-pooling-method", "How token vectors become one", "auto", ["auto", "cls", "mean"], "pooling", "pooling-method");
        private readonly CliOption<int> _queryLength = Opt.Int("--query-max-len", "Tokens a query is cut to", 256, 3, 1 << 20, "query-max-length");
        private readonly CliOption<int> _keyLength = Opt.Int("--passage-max-len", "Tokens a candidate is cut to", 256, 3, 1 << 20, "passage-max-length", "key-max-length", "key-max-len");
        private readonly CliOption<int> _sub = Opt.Int("--sub-batch-size", "Texts taken through the encoder at a time; the result is that of the whole batch", 0, -1, 1 << 20);
        private readonly CliOption<bool> _fixPositions = Opt.Flag("--fix-position-embedding", "Leave the position table as it is");

        public void AddTo(Command command)
        {
            _data.Required = true;
            foreach (Option option in (Option[])[_data, _skip, _contrastive, _distill, _teacher, _student, _stable, _positive, _negative, _margin, _minimum, _most, _same, _published,
                         _tasks, _instructions, _add, _group, _temperature, _metric, _pooling, _queryLength, _keyLength, _sub, _fixPositions])
                command.Add(option);
        }

        public LlmEmbedderOptions Read(ParseResult parsed)
        {
            LlmEmbedderTaskOptions run = new()
            {
                ContrastiveWeight = parsed.GetValue(_contrastive),
                DistillWeight = parsed.GetValue(_distill),
                TeacherTemperature = parsed.GetValue(_teacher),
                StudentTemperature = parsed.GetValue(_student),
                StableDistill = parsed.GetValue(_stable),
                SelectPositive = LlmEmbedderTaskFile.Positive(parsed.GetValue(_positive)!)!.Value,
                SelectNegative = LlmEmbedderTaskFile.Negative(parsed.GetValue(_negative)!)!.Value,
                TeacherScoresMargin = parsed.GetValue(_margin),
                TeacherScoresMin = parsed.GetValue(_minimum),
                MaxRows = parsed.GetValue(_most),
            };
            return new LlmEmbedderOptions
            {
                TrainData = parsed.GetRequiredValue(_data),
                SkipInvalid = parsed.GetValue(_skip),
                Default = run,
                Tasks = Tasks(parsed, run),
                Instructions = parsed.GetValue(_add) == false ? null
                    : parsed.GetValue(_instructions) is { } file ? TaskInstructions.Published.With(TaskInstructions.Load(file)) : TaskInstructions.Published,
                Composition = parsed.GetValue(_same) switch { "epoch" => BatchComposition.Epoch, "random" => BatchComposition.Random, _ => BatchComposition.Mixed },
                TrainGroupSize = parsed.GetValue(_group),
                CosineTemperature = parsed.GetValue(_temperature),
                Normalize = parsed.GetValue(_metric) == "cos",
                Pooling = parsed.GetValue(_pooling) switch { "cls" => PoolingMode.Cls, "mean" => PoolingMode.Mean, _ => null },
                QueryMaxLength = parsed.GetValue(_queryLength),
                KeyMaxLength = parsed.GetValue(_keyLength),
                SubBatchSize = Math.Max(0, parsed.GetValue(_sub)),
                FixPositionEmbedding = parsed.GetValue(_fixPositions),
            };
        }

        private Dictionary<string, LlmEmbedderTaskOptions> Tasks(ParseResult parsed, LlmEmbedderTaskOptions run)
        {
            Dictionary<string, LlmEmbedderTaskOptions> tasks = parsed.GetValue(_published) ? new(LlmEmbedderTaskFile.Published(run)) : [];
            if (parsed.GetValue(_tasks) is not { } file) return tasks;
            foreach ((string task, LlmEmbedderTaskOptions own) in LlmEmbedderTaskFile.Load(file, run)) tasks[task] = own;
            return tasks;
        }
    }
}
