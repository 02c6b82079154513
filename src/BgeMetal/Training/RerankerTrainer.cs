using BgeMetal.Checkpoints;
using BgeMetal.Data;
using BgeMetal.Data.Training;
using BgeMetal.Nn;
using BgeMetal.Retrieval;
using BgeMetal.Tensors;
using BgeMetal.Training.Objectives;

namespace BgeMetal.Training;

/// <summary>Training of a cross-encoder on <c>{"query","pos","neg"}</c> rows, from a reranker or from any BERT or XLM-RoBERTa encoder.</summary>
public static class RerankerTrainer
{
    private const int SmallestLength = 8;

    /// <summary>Trains the model of <paramref name="modelDirectory"/> and saves a sequence classifier with one label, which <see cref="Reranker.Load"/> reads.</summary>
    /// <param name="modelDirectory">A BERT or XLM-RoBERTa checkpoint; a head it lacks is drawn anew.</param>
    /// <param name="task">Data and loss.</param>
    /// <param name="options">Steps, optimiser, output.</param>
    /// <param name="progress">Told after every step, on the calling thread.</param>
    /// <param name="cancellationToken">Stops between batches; checkpoints written so far stay.</param>
    /// <exception cref="BgeMetalException">Bad data (with file and line), bad options, or a loss that is not finite (with the step and its rows).</exception>
    public static TrainingSummary Run(string modelDirectory, RerankerTrainingOptions task, TrainingOptions options,
        Action<TrainingProgress>? progress = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(task);
        ArgumentNullException.ThrowIfNull(options);
        Validate(task, options);
        string? resume = options.ResumeFrom is { } from ? TrainingState.Locate(options.OutputDirectory, from) : null;
        using TrainableModel model = Load(resume ?? modelDirectory, options.Compute, options.Seed);
        ContrastiveOptions rows = RowOptions(task, options, model);
        using TrainingDataSet<TrainingRow> data = TrainingDataSet<TrainingRow>.Open(task.TrainData.Select(path => new TrainingInput(path)),
            rows.Rules(model.HasTokenizer).Read,
            new TrainingDataOptions { MaxRowsPerFile = task.MaxRowsPerFile, Seed = options.Seed, Skipped = task.SkipInvalid ? new InvalidLines() : null });
        int maxLength = Math.Min(task.MaxLength, model.MaxLength);
        PairJoiner? joiner = model.HasTokenizer
            ? new PairJoiner(model.Tokenizer, IsXlm(model.Config), model.Config.TypeVocabSize > 1, maxLength, task.QueryMaxLength, task.PassageMaxLength)
            : null;
        RerankingBatches batches = new(data, rows, joiner);
        StepPlan plan = StepPlan.Create(batches.PerEpoch, options.GradientAccumulationSteps, options.Epochs, options.MaxSteps);
        SavedForm form = new(null, false, maxLength, "") { Layout = Layout(model.Config) };
        TrainingMemory memory = TrainingMemory.OfPairs(model, Enumerable.Range(0, Math.Min(TrainingMemory.SampledBatches, batches.PerEpoch)).Select(index => batches.Build(index)));
        memory.Require(model.Device.AvailableBytes(model.Parameters.SizeBytes));
        using RerankingWatch? evaluation = RerankingWatch.Open(model, form, joiner, EvaluatedTexts(task, maxLength), options);
        using RerankingObjective objective = new(model, task.SubBatchSize);
        Trainer<RerankingBatch> trainer = new(model, form, options, plan, objective, batches.Build,
            RunFingerprint.Of("reranking", data.Fingerprint, plan.TotalSteps, options, task with { TrainData = [] }))
        {
            Evaluation = evaluation,
        };
        TrainingSummary summary = trainer.Run(resume, progress, cancellationToken);
        TrainingOutput.Finish(options, model, form, new { task, options });
        return summary with { PredictedBytes = memory.Bytes };
    }

    /// <summary>The model with a head of one label: the checkpoint's, else drawn from <paramref name="seed"/>.</summary>
    internal static TrainableModel Load(string directory, ComputeOptions compute, int seed)
    {
        TrainableModel model = TrainableModel.Load(directory, compute, checkpoint =>
        {
            ModelConfig config = checkpoint.Config;
            List<LinearSpec> head = [.. ClassificationHead.LinearSpecs(Reranker.HeadNames(config), config.HiddenSize, 1)];
            return new ExtraParameters([], head, (spec, values) => Draw(spec, values, config.InitializerRange, seed));
        }, new HashSet<string>());
        model.Config = model.Config with { NumLabels = 1 };
        return model;
    }

    private static void Draw(ParameterSpec spec, Span<float> values, double standardDeviation, int seed)
    {
        values.Clear();
        if (spec.Role == ParameterRole.Matrix) new NormalSampler(seed, spec.Rows).Fill(values, standardDeviation);
    }

    /// <summary>transformers' sequence classifiers have the encoder, and BERT its pooler, below the model's own prefix.</summary>
    internal static SavedLayout Layout(ModelConfig config)
    {
        (string architecture, string prefix) = IsXlm(config) ? ("XLMRobertaForSequenceClassification", "roberta.") : ("BertForSequenceClassification", "bert.");
        string[] encoder = ["embeddings.", "encoder.", "pooler."];
        return new SavedLayout(architecture, name => encoder.Any(part => name.StartsWith(part, StringComparison.Ordinal)) ? prefix + name : name, "");
    }

    private static EvaluationTexts EvaluatedTexts(RerankerTrainingOptions task, int maxLength) => new(maxLength, maxLength)
    {
        QueryInstruction = task.QueryInstruction,
        QueryFormat = InstructionFormat.Parse(task.QueryInstructionFormat),
        PassageInstruction = task.PassageInstruction,
        PassageFormat = InstructionFormat.Parse(task.PassageInstructionFormat),
    };

    private static bool IsXlm(ModelConfig config) => config.ModelType == ModelConfig.XlmRoberta;

    private static ContrastiveOptions RowOptions(RerankerTrainingOptions task, TrainingOptions options, TrainableModel model) => new()
    {
        BatchSize = options.BatchSize,
        GroupSize = task.TrainGroupSize,
        QueryMaxLength = model.MaxLength,
        PassageMaxLength = model.MaxLength,
        VocabularySize = model.Config.VocabSize,
        QueryInstruction = task.QueryInstruction,
        PassageInstruction = task.PassageInstruction,
        QueryFormat = InstructionFormat.Parse(task.QueryInstructionFormat),
        PassageFormat = InstructionFormat.Parse(task.PassageInstructionFormat),
        KnowledgeDistillation = task.KnowledgeDistillation,
        Shuffle = options.Shuffle,
        DropLast = options.DropLast,
        Seed = options.Seed,
    };

    private static void Validate(RerankerTrainingOptions task, TrainingOptions options)
    {
        TrainingOutput.Prepare(options);
        AtLeast("--train-group-size", task.TrainGroupSize, 2);
        AtLeast("--sub-batch-size", task.SubBatchSize, 0);
        AtLeast("--max-len", task.MaxLength, SmallestLength);
        AtLeast("--query-max-len", task.QueryMaxLength ?? SmallestLength, SmallestLength);
        AtLeast("--passage-max-len", task.PassageMaxLength ?? SmallestLength, SmallestLength);
    }

    private static void AtLeast(string option, long value, long least)
    {
        if (value < least) throw new BgeMetalException($"option {option}", $"{value} is out of range, expected at least {least}");
    }
}
