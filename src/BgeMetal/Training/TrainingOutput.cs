using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization;
using BgeMetal.Files;

namespace BgeMetal.Training;

/// <summary>The output directory of a training run: checked before the run, filled with the model, its options and the loss plot at the end.</summary>
internal static class TrainingOutput
{
    private static readonly JsonSerializerOptions s_json = new()
    {
        WriteIndented = true,
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
        Converters = { new JsonStringEnumConverter() },
    };

    /// <summary>Checks the options every trainer has, and that the output directory may be used.</summary>
    /// <exception cref="BgeMetalException">An option is out of range, or the directory holds something.</exception>
    public static void Prepare(TrainingOptions options)
    {
        AtLeast("--per-device-train-batch-size", options.BatchSize, 1);
        AtLeast("--gradient-accumulation-steps", options.GradientAccumulationSteps, 1);
        AtLeast("--max-steps", options.MaxSteps, 0);
        AtLeast("--learning-rate", options.LearningRate, 0);
        AtLeast("--weight-decay", options.WeightDecay, 0);
        AtLeast("--max-grad-norm", options.MaxGradNorm, 0);
        if (options.MaxSteps == 0 && !(options.Epochs > 0 && double.IsFinite(options.Epochs)))
            throw new BgeMetalException("option --num-train-epochs", $"{options.Epochs} is out of range, expected a number above 0");
        if (options.WarmupRatio is < 0 or > 1) throw new BgeMetalException("option --warmup-ratio", $"{options.WarmupRatio} is out of range, expected 0 to 1");
        string directory = options.OutputDirectory;
        if (File.Exists(directory)) throw new BgeMetalException("cannot write", "the path is a file, a directory was expected", directory);
        bool filled = Directory.Exists(directory) && Directory.EnumerateFileSystemEntries(directory).Any();
        if (filled && options is { OverwriteOutputDirectory: false, ResumeFrom: null })
            throw new BgeMetalException("cannot write", "the directory is not empty; use --overwrite-output-dir, or --resume-from-checkpoint to go on", directory);
        Directory.CreateDirectory(directory);
        TrainingState.Clean(directory, checkpointsToo: options.ResumeFrom is null);
    }

    /// <summary>Saves the model (in <paramref name="folder"/> of the output directory, where one is given), training_args.json and loss.png.</summary>
    public static void Finish(TrainingOptions options, TrainableModel model, SavedForm form, object arguments, string folder = "")
    {
        model.Save(Path.Combine(options.OutputDirectory, folder), form, overwrite: true);
        AtomicFile.WriteAllText(Path.Combine(options.OutputDirectory, "training_args.json"), JsonSerializer.Serialize(arguments, s_json) + "\n");
        LossPlot.Write(options.OutputDirectory);
    }

    private static void AtLeast(string option, double value, double least)
    {
        if (!(value >= least)) throw new BgeMetalException($"option {option}", $"{value} is out of range, expected at least {least}");
    }
}
