using BgeMetal.Checkpoints;
using BgeMetal.Data;
using BgeMetal.Data.Training;
using BgeMetal.Nn;
using BgeMetal.Text;
using BgeMetal.Training.Objectives;

namespace BgeMetal.Training;

/// <summary>Contrastive fine-tuning of an embedding model on <c>{"query","pos","neg"}</c> rows.</summary>
public static class EmbedderTrainer
{
    /// <summary>Trains the model of <paramref name="modelDirectory"/> and saves the result to the output directory in Hugging Face's layout.</summary>
    /// <param name="modelDirectory">A BERT or XLM-RoBERTa checkpoint.</param>
    /// <param name="task">Data and loss.</param>
    /// <param name="options">Steps, optimiser, output.</param>
    /// <param name="progress">Told after every step, on the calling thread.</param>
    /// <param name="cancellationToken">Stops between batches; checkpoints written so far stay.</param>
    /// <exception cref="BgeMetalException">Bad data (with file and line), bad options, or a loss that is not finite (with the step and its rows).</exception>
    public static TrainingSummary Run(string modelDirectory, FinetuneOptions task, TrainingOptions options,
        Action<TrainingProgress>? progress = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(task);
        ArgumentNullException.ThrowIfNull(options);
        Validate(task, options);
        string? resume = options.ResumeFrom is { } from ? TrainingState.Locate(options.OutputDirectory, from) : null;
        HashSet<string> frozen = task.FixPositionEmbedding ? [BertEmbeddings.PositionTable] : [];
        using TrainableModel model = TrainableModel.Load(resume ?? modelDirectory, options.Compute, _ => [], frozen);
        CheckLengths(task, model);
        ModelTokenizer? tokenizer = TokenizerOrNull(model);
        Data.Training.ContrastiveOptions rows = RowOptions(task, options, model);
        using TrainingDataSet<TrainingRow> data = TrainingDataSet<TrainingRow>.Open(task.TrainData.Select(path => new TrainingInput(path)),
            rows.Rules(tokenizer is not null).Read,
            new TrainingDataOptions { MaxRowsPerFile = task.MaxRowsPerFile, Seed = options.Seed, Skipped = task.SkipInvalid ? new InvalidLines() : null });
        ContrastiveBatches batches = new(data, rows, tokenizer);
        StepPlan plan = StepPlan.Create(batches.PerEpoch, options.GradientAccumulationSteps, options.Epochs, options.MaxSteps);
        PoolingMode pooling = task.Pooling ?? model.FilePooling ?? PoolingMode.Cls;
        SavedForm form = new(pooling, task.Normalize, Math.Min(Math.Max(task.QueryMaxLength, task.PassageMaxLength), model.MaxLength), task.QueryInstruction ?? model.FileQueryInstruction ?? "");
        TrainingMemory memory = TrainingMemory.Of(model, task, pooling, Enumerable.Range(0, Math.Min(TrainingMemory.SampledBatches, batches.PerEpoch)).Select(index => batches.Build(0, index)));
        memory.Require(model.Device.AvailableBytes(model.Parameters.SizeBytes));
        using RetrievalWatch? evaluation = RetrievalWatch.Open(model, form, EvaluatedTexts(task), options);
        using ContrastiveObjective objective = new(model, task, pooling);
        Trainer<ContrastiveBatch> trainer = new(model, form, options, plan, objective, batches.Build, RunFingerprint.Of("contrastive", data.Fingerprint, plan.TotalSteps, options, task with { TrainData = [], SubBatchSize = 0, Pooling = pooling }))
        {
            Evaluation = evaluation,
        };
        TrainingSummary summary = trainer.Run(resume, progress, cancellationToken);
        TrainingOutput.Finish(options, model, form, new { task, options });
        return summary with { PredictedBytes = memory.Bytes };
    }

    private static Data.Training.ContrastiveOptions RowOptions(FinetuneOptions task, TrainingOptions options, TrainableModel model) => new()
    {
        BatchSize = options.BatchSize,
        GroupSize = task.TrainGroupSize,
        QueryMaxLength = Math.Min(task.QueryMaxLength, model.MaxLength),
        PassageMaxLength = Math.Min(task.PassageMaxLength, model.MaxLength),
        VocabularySize = model.Config.VocabSize,
        QueryInstruction = task.QueryInstruction,
        PassageInstruction = task.PassageInstruction,
        QueryFormat = InstructionFormat.Parse(task.QueryInstructionFormat),
        PassageFormat = InstructionFormat.Parse(task.PassageInstructionFormat),
        KnowledgeDistillation = task.KnowledgeDistillation,
        SameDatasetWithinBatch = task.SameDatasetWithinBatch,
        SmallThreshold = task.SmallThreshold,
        DropThreshold = task.DropThreshold,
        Shuffle = options.Shuffle,
        DropLast = options.DropLast,
        Seed = options.Seed,
    };

    private static EvaluationTexts EvaluatedTexts(FinetuneOptions task) => new(task.QueryMaxLength, task.PassageMaxLength)
    {
        QueryInstruction = task.QueryInstruction,
        QueryFormat = InstructionFormat.Parse(task.QueryInstructionFormat),
        PassageInstruction = task.PassageInstruction,
        PassageFormat = InstructionFormat.Parse(task.PassageInstructionFormat),
    };

    private static ModelTokenizer? TokenizerOrNull(TrainableModel model) => model.HasTokenizer ? model.Tokenizer : null;

    private static void Validate(FinetuneOptions task, TrainingOptions options)
    {
        TrainingOutput.Prepare(options);
        AtLeast("--train-group-size", task.TrainGroupSize, 1);
        AtLeast("--query-max-len", task.QueryMaxLength, 3);
        AtLeast("--passage-max-len", task.PassageMaxLength, 3);
        AtLeast("--sub-batch-size", task.SubBatchSize, 0);
        if (!(task.Temperature > 0) || !double.IsFinite(task.Temperature))
            throw new BgeMetalException("option --temperature", $"{task.Temperature} is out of range, expected a number above 0");
        if (task.Normalize && task.Temperature > 0.5)
            throw new BgeMetalException("option --temperature", $"{task.Temperature} is too high for normalised vectors, expected at most 0.5 (0.01 to 0.1 is usual)");
        if (task is { KnowledgeDistillation: true, DistillationLoss: DistillationLoss.M3Kd, InBatchNegatives: false } && options.BatchSize > 1)
            throw new BgeMetalException("option --kd-loss-type", "m3_kd_loss needs in-batch negatives");
        foreach (int dimensions in task.MatryoshkaDimensions) AtLeast("--mrl-dims", dimensions, 1);
    }

    private static void CheckLengths(FinetuneOptions task, TrainableModel model)
    {
        foreach (int dimensions in task.MatryoshkaDimensions.Where(dimensions => dimensions > model.Shape.HiddenSize))
            throw new BgeMetalException("option --mrl-dims", $"{dimensions} is more than the model's {model.Shape.HiddenSize} components");
    }

    private static void AtLeast(string option, long value, long least)
    {
        if (value < least) throw new BgeMetalException($"option {option}", $"{value} is out of range, expected at least {least}");
    }
}
