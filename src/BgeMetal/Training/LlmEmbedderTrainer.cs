using BgeMetal.Autograd;
using BgeMetal.Checkpoints;
using BgeMetal.Data;
using BgeMetal.Data.Training;
using BgeMetal.Nn;
using BgeMetal.Ops;
using BgeMetal.Retrieval;
using BgeMetal.Tensors;
using BgeMetal.Training.Objectives;

namespace BgeMetal.Training;

/// <summary>
/// Trains an LLM-Embedder: one encoder for several retrieval tasks, told apart by instructions, that learns from a language model's preferences among candidates
/// (Zhang et al. 2023, "Retrieve Anything To Augment Large Language Models").
/// </summary>
public static class LlmEmbedderTrainer
{
    /// <summary>Trains the model of <paramref name="modelDirectory"/> and saves the result, with its tasks' instructions, to the output directory.</summary>
    /// <param name="modelDirectory">A BERT or XLM-RoBERTa checkpoint.</param>
    /// <param name="task">Data and loss.</param>
    /// <param name="options">Steps, optimiser, output.</param>
    /// <param name="progress">Told after every step, on the calling thread.</param>
    /// <param name="cancellationToken">Stops between batches; checkpoints written so far stay.</param>
    /// <exception cref="BgeMetalException">Bad data (with file and line), bad options, or a loss that is not finite (with the step and its rows).</exception>
    public static TrainingSummary Run(string modelDirectory, LlmEmbedderOptions task, TrainingOptions options,
        Action<TrainingProgress>? progress = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(task);
        ArgumentNullException.ThrowIfNull(options);
        Validate(task);
        TrainingOutput.Prepare(options);
        string? resume = options.ResumeFrom is { } from ? TrainingState.Locate(options.OutputDirectory, from) : null;
        HashSet<string> frozen = task.FixPositionEmbedding ? [BertEmbeddings.PositionTable] : [];
        using TrainableModel model = TrainableModel.Load(resume ?? modelDirectory, options.Compute, _ => [], frozen);
        int maxLength = Math.Min(Math.Min(task.QueryMaxLength, task.KeyMaxLength), model.MaxLength);
        using TrainingDataSet<LlmEmbedderRow> data = TrainingDataSet<LlmEmbedderRow>.Open(task.TrainData.Select(TrainingInput.ParseTask),
            row => LlmEmbedderRow.Read(row, maxLength, model.Config.VocabSize, model.HasTokenizer),
            new TrainingDataOptions { Seed = options.Seed, Skipped = task.SkipInvalid ? new InvalidLines() : null });
        LlmEmbedderBatches batches = new(data, Batching(task, options, model), model.HasTokenizer ? model.Tokenizer : null);
        StepPlan plan = StepPlan.Create(batches.PerEpoch, options.GradientAccumulationSteps, options.Epochs, options.MaxSteps);
        PoolingMode pooling = task.Pooling ?? model.FilePooling ?? PoolingMode.Cls;
        SavedForm form = new(pooling, task.Normalize, Math.Min(Math.Max(task.QueryMaxLength, task.KeyMaxLength), model.MaxLength), "",
            task.Instructions?.Of(batches.Tasks).ToPrompts());
        using ContrastiveObjective objective = new(model, pooling, task.SubBatchSize, (tape, queries, keys, batch) => Loss(tape, queries, keys, batch, task));
        Trainer<ContrastiveBatch> trainer = new(model, form, options, plan, objective, batches.Build,
            RunFingerprint.Of("llm-embedder", data.Fingerprint, plan.TotalSteps, options, Deciding(task, pooling, batches.Tasks)));
        TrainingSummary summary = trainer.Run(resume, progress, cancellationToken);
        TrainingOutput.Finish(options, model, form, new { task, options });
        return summary;
    }

    private static Tensor Loss(Tape tape, Tensor queries, Tensor keys, ContrastiveBatch batch, LlmEmbedderOptions task)
    {
        LlmEmbedderTaskOptions options = batch.Task is { } name ? task.For(name) : task.Default;
        if (task.Normalize) (queries, keys) = (tape.NormalizeRows(queries), tape.NormalizeRows(keys));
        try
        {
            return LlmEmbedderLoss.Compute(tape, queries, keys, batch.TeacherScores, batch.GroupSize, task.Normalize ? (float)task.CosineTemperature : 1, options);
        }
        catch (BgeMetalException e)
        {
            throw new BgeMetalException(e.Message, $"task {batch.Task ?? "(several)"}", batch.Places[0].File, batch.Places[0].Line, e);
        }
    }

    private static LlmEmbedderBatching Batching(LlmEmbedderOptions task, TrainingOptions options, TrainableModel model)
    {
        TaskBatching For(string name)
        {
            LlmEmbedderTaskOptions own = task.For(name);
            TaskInstruction? instruction = task.Instructions?.For(name);
            CandidateRules rules = new(own.SelectPositive, own.SelectNegative, own.StableDistill, own.TeacherScoresMargin, own.TeacherScoresMin);
            return new TaskBatching(rules, instruction?.Query ?? "", instruction?.Key ?? "", own.BatchSize ?? options.BatchSize, own.MaxRows);
        }

        return new LlmEmbedderBatching(For, task.Composition, options.BatchSize, task.TrainGroupSize, Math.Min(task.QueryMaxLength, model.MaxLength),
            Math.Min(task.KeyMaxLength, model.MaxLength), options.Shuffle, options.DropLast, options.Seed);
    }

    private static void Validate(LlmEmbedderOptions task)
    {
        if (task.TrainGroupSize < 1) throw new BgeMetalException("option --train-group-size", $"{task.TrainGroupSize} is out of range, expected at least 1");
        if (task.QueryMaxLength < 3 || task.KeyMaxLength < 3) throw new BgeMetalException("option --query-max-len, --passage-max-len", "at least 3 tokens were expected");
        if (!(task.CosineTemperature > 0) || !double.IsFinite(task.CosineTemperature))
            throw new BgeMetalException("option --cos-temperature", $"{task.CosineTemperature} is out of range, expected a number above 0");
        task.Default.Validate("");
        foreach ((string name, LlmEmbedderTaskOptions own) in task.Tasks) own.Validate(name);
        if (task.Composition == BatchComposition.Mixed && task.Tasks.Count > 0)
            throw new BgeMetalException("options by task", "they need batches of one task each: --inbatch-same-dataset epoch or random");
    }

    /// <summary>The options that decide the weights, those of the tasks in the data included.</summary>
    private static object Deciding(LlmEmbedderOptions task, PoolingMode pooling, IEnumerable<string> tasks) => new
    {
        Common = task with { TrainData = [], SubBatchSize = 0, Pooling = pooling, Instructions = null, Tasks = new Dictionary<string, LlmEmbedderTaskOptions>() },
        Tasks = tasks.Select(name => new { Name = name, Own = task.For(name), Instruction = task.Instructions?.For(name) }).ToArray(),
    };
}
