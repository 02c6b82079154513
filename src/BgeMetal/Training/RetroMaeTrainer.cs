using BgeMetal.Checkpoints;
using BgeMetal.Data;
using BgeMetal.Data.Training;
using BgeMetal.Text;
using BgeMetal.Training.Objectives;

namespace BgeMetal.Training;

/// <summary>RetroMAE pre-training of an embedding model on plain texts (Xiao et al. 2022, arXiv:2205.12035), and DupMAE (arXiv:2211.08769).</summary>
public static class RetroMaeTrainer
{
    /// <summary>The folder of the output directory that the model is saved in.</summary>
    public const string ModelFolder = "encoder_model";

    /// <summary>Trains the model of <paramref name="modelDirectory"/> and saves it in encoder_model of the output directory, with its masked-LM head.</summary>
    /// <param name="modelDirectory">A BERT or XLM-RoBERTa checkpoint with a tokenizer; a masked-LM head is made where it has none.</param>
    /// <param name="task">Data and masks.</param>
    /// <param name="options">Steps, optimiser, output.</param>
    /// <param name="progress">Told after every step, on the calling thread.</param>
    /// <param name="note">Told, before the first step, what the checkpoint lacks and the run makes.</param>
    /// <param name="cancellationToken">Stops between batches; checkpoints written so far stay.</param>
    /// <exception cref="BgeMetalException">Bad data (with file and line), bad options, or a loss that is not finite (with the step and its rows).</exception>
    public static TrainingSummary Run(string modelDirectory, PretrainOptions task, TrainingOptions options,
        Action<TrainingProgress>? progress = null, Action<string>? note = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(task);
        ArgumentNullException.ThrowIfNull(options);
        Validate(task, options);
        string? resume = options.ResumeFrom is { } from ? TrainingState.Locate(options.OutputDirectory, from) : null;
        using TrainableModel model = RetroMaeModel.Load(resume ?? modelDirectory, options.Compute, options.Seed, note);
        if (!model.HasTokenizer) throw new BgeMetalException("cannot pre-train", "the model has no tokenizer, and masking whole words needs its vocabulary", model.Directory);
        ModelTokenizer tokenizer = model.Tokenizer;
        int length = Math.Min(task.MaxSequenceLength, model.MaxLength);
        using TrainingDataSet<TextRow> data = TrainingDataSet<TextRow>.Open(task.TrainData.Select(path => new TrainingInput(path)),
            new TextRowRules(length, model.Config.VocabSize).Read,
            new TrainingDataOptions { Seed = options.Seed, Skipped = task.SkipInvalid ? new InvalidLines() : null });
        TextBatches texts = new(data, new TextBatchOptions
        {
            BatchSize = options.BatchSize,
            MaxLength = length,
            Shuffle = options.Shuffle,
            DropLast = options.DropLast,
            Seed = options.Seed,
        }, tokenizer);
        RetroMaeMasker masker = new(WordPieces.Of(tokenizer, model.Config.VocabSize), task.EncoderMaskProbability, task.DecoderMaskProbability, options.Seed);
        StepPlan plan = StepPlan.Create(texts.PerEpoch, options.GradientAccumulationSteps, options.Epochs, options.MaxSteps);
        SavedForm form = new(PoolingMode.Cls, true, model.MaxLength, model.FileQueryInstruction ?? "") { Layout = RetroMaeModel.Layout(model.Config) };
        bool isDupMae = task.Objective == PretrainObjective.DupMae;
        TrainingMemory memory = TrainingMemory.OfRetroMae(model,
            Enumerable.Range(0, Math.Min(TrainingMemory.SampledBatches, texts.PerEpoch)).Select(index => masker.Mask(texts.Build(index))), isDupMae);
        memory.Require(model.Device.AvailableBytes(model.Parameters.SizeBytes));
        using RetrievalWatch? evaluation = RetrievalWatch.Open(model, form, new EvaluationTexts(length, length) { QueryInstruction = model.FileQueryInstruction }, options);
        using RetroMaeObjective objective = new(model, RetroMaeModel.Names(model.Config), isDupMae ? (float)task.BagOfWordsWeight : 0);
        Trainer<RetroMaeBatch> trainer = new(model, form, options, plan, objective, number => masker.Mask(texts.Build(number)),
            RunFingerprint.Of(isDupMae ? "dupmae" : "retromae", data.Fingerprint, plan.TotalSteps, options, task with { TrainData = [] }))
        {
            Evaluation = evaluation,
        };
        TrainingSummary summary = trainer.Run(resume, progress, cancellationToken);
        TrainingOutput.Finish(options, model, form, new { task, options }, ModelFolder);
        return summary with { PredictedBytes = memory.Bytes };
    }

    private static void Validate(PretrainOptions task, TrainingOptions options)
    {
        if (task.MaxSequenceLength < 3)
            throw new BgeMetalException("option --max-seq-length", $"{task.MaxSequenceLength} is out of range, expected at least 3");
        Probability("--encoder-mlm-probability", task.EncoderMaskProbability);
        Probability("--decoder-mlm-probability", task.DecoderMaskProbability);
        if (!(task.BagOfWordsWeight >= 0 && double.IsFinite(task.BagOfWordsWeight)))
            throw new BgeMetalException("option --bow-loss-weight", $"{task.BagOfWordsWeight} is out of range, expected at least 0");
        TrainingOutput.Prepare(options);
    }

    private static void Probability(string option, double value)
    {
        if (!(value is >= 0 and <= 1)) throw new BgeMetalException($"option {option}", $"{value} is out of range, expected 0 to 1");
    }
}
