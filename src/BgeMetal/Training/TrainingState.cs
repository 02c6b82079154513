using System.Text.Json;
using BgeMetal.Checkpoints;
using BgeMetal.Files;
using BgeMetal.Tensors;

namespace BgeMetal.Training;

/// <summary>
/// checkpoint-N folders: the model as it is saved at the end, plus moments, step and a fingerprint of the run. Order, sampling and dropout are functions
/// of the seed and the step, so nothing else is needed to go on bit-exactly. A folder appears whole: it is written under another name and renamed.
/// </summary>
internal static class TrainingState
{
    private const string StateFile = "trainer_state.json";
    private const string MomentsFile = "optimizer.safetensors";

    /// <summary>Writes checkpoint-<paramref name="step"/> and deletes the oldest ones above the limit.</summary>
    public static void Save(string outputDirectory, long step, TrainableModel model, SavedForm form, AdamWOptimizer optimizer, long tokens, string fingerprint, int limit)
    {
        string target = Path.Combine(outputDirectory, $"checkpoint-{step}"), partial = Path.Combine(outputDirectory, $".checkpoint-{step}.partial");
        if (Directory.Exists(partial)) Directory.Delete(partial, recursive: true);
        model.Save(partial, form, overwrite: false);
        using (AtomicFile file = AtomicFile.Create(Path.Combine(partial, MomentsFile)))
        {
            SafetensorsWriter.Write(file.Stream, [.. Moments(model.Parameters)]);
            file.Commit();
        }
        AtomicFile.WriteAllText(Path.Combine(partial, StateFile), JsonSerializer.Serialize(new { step, updates = optimizer.Updates, tokens, fingerprint }) + "\n");
        if (Directory.Exists(target)) Directory.Delete(target, recursive: true);
        Directory.Move(partial, target);
        foreach (long old in All(outputDirectory).OrderDescending().Skip(limit > 0 ? limit : int.MaxValue))
            Directory.Delete(Path.Combine(outputDirectory, $"checkpoint-{old}"), recursive: true);
    }

    /// <summary>The folder that <paramref name="resumeFrom"/> means: a path, or <c>latest</c> for the newest in the output directory.</summary>
    /// <exception cref="BgeMetalException">There is no such checkpoint.</exception>
    public static string Locate(string outputDirectory, string resumeFrom)
    {
        if (resumeFrom != "latest")
            return File.Exists(Path.Combine(resumeFrom, StateFile)) ? resumeFrom
                : throw new BgeMetalException("cannot resume", $"there is no {StateFile} in it, a checkpoint-N folder was expected", resumeFrom);
        long[] all = [.. All(outputDirectory)];
        return all.Length > 0 ? Path.Combine(outputDirectory, $"checkpoint-{all.Max()}")
            : throw new BgeMetalException("cannot resume", "there is no checkpoint-N folder", outputDirectory);
    }

    /// <summary>Reads moments and step into a model that was loaded from the same folder.</summary>
    /// <exception cref="BgeMetalException">The state belongs to another run.</exception>
    public static (long Step, long Tokens) Restore(string folder, TrainableModel model, AdamWOptimizer optimizer, string fingerprint)
    {
        string path = Path.Combine(folder, StateFile);
        try
        {
            using JsonDocument state = JsonDocument.Parse(File.ReadAllBytes(path));
            JsonElement root = state.RootElement;
            if (root.GetProperty("fingerprint").GetString() != fingerprint)
                throw new BgeMetalException("cannot resume", "the checkpoint was written with other data or other options that decide the result", folder);
            optimizer.Updates = root.GetProperty("updates").GetInt32();
            using SafetensorsFile moments = SafetensorsFile.Open(Path.Combine(folder, MomentsFile));
            RestoreMoments(model.Parameters, moments);
            return (root.GetProperty("step").GetInt64(), root.GetProperty("tokens").GetInt64());
        }
        catch (Exception e) when (e is JsonException or KeyNotFoundException or InvalidOperationException or FormatException or IOException)
        {
            throw new BgeMetalException("cannot resume", e.Message.ReplaceLineEndings(" "), path, innerException: e);
        }
    }

    private static IEnumerable<long> All(string outputDirectory) => !Directory.Exists(outputDirectory) ? []
        : from folder in Directory.GetDirectories(outputDirectory, "checkpoint-*")
          where File.Exists(Path.Combine(folder, StateFile)) && long.TryParse(Path.GetFileName(folder)["checkpoint-".Length..], out _)
          select long.Parse(Path.GetFileName(folder)["checkpoint-".Length..], System.Globalization.CultureInfo.InvariantCulture);

    private static unsafe List<NamedTensor> Moments(TrainableParameters parameters)
    {
        List<NamedTensor> tensors = [];
        foreach ((ParameterSpec spec, Tensor master) in parameters.All)
        {
            long start = master.Floats - parameters.Master;
            tensors.Add(new NamedTensor("exp_avg." + spec.Name, spec.Shape, parameters.FirstMoment + start));
            tensors.Add(new NamedTensor("exp_avg_sq." + spec.Name, spec.Shape, parameters.SecondMoment + start));
        }
        return tensors;
    }

    private static unsafe void RestoreMoments(TrainableParameters parameters, SafetensorsFile moments)
    {
        foreach ((ParameterSpec spec, Tensor master) in parameters.All)
        {
            long start = master.Floats - parameters.Master;
            int count = checked((int)spec.Count);
            moments.ReadFloats("exp_avg." + spec.Name, new Span<float>(parameters.FirstMoment + start, count));
            moments.ReadFloats("exp_avg_sq." + spec.Name, new Span<float>(parameters.SecondMoment + start, count));
        }
    }
}
