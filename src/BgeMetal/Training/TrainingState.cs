using System.Globalization;
using System.Text.Json;
using BgeMetal.Checkpoints;
using BgeMetal.Files;
using BgeMetal.Tensors;

namespace BgeMetal.Training;

/// <summary>
/// checkpoint-N folders: the model as it is saved at the end, plus moments, step and a fingerprint of the run. Order, sampling and dropout are functions
/// of the seed and the step, so nothing else is needed to go on bit-exactly. A folder appears whole and goes whole: it is written under another name and
/// renamed, and renamed before it is deleted, so a killed process leaves nothing that looks like a checkpoint and is none.
/// </summary>
/// <param name="Step">Optimiser steps done.</param>
/// <param name="Tokens">Tokens trained on.</param>
/// <param name="LossSum">Losses of the steps since the log's last line, added up.</param>
/// <param name="LossCount">How many these are.</param>
/// <param name="LastLoss">The loss of the last step.</param>
internal readonly record struct TrainingState(long Step, long Tokens, double LossSum, int LossCount, double LastLoss)
{
    private const string StateFile = "trainer_state.json";
    private const string MomentsFile = "optimizer.safetensors";
    private const string Hidden = ".checkpoint-";

    /// <summary>The folders in which models are made before they get their names.</summary>
    private const string Staged = ".*.tmp";


    /// <summary>
    /// Writes checkpoint-<see cref="Step"/> and deletes the oldest ones above the limit, except the one that the run was resumed from: the tokenizer's
    /// files are copied from there to every later one.
    /// </summary>
    public void Save(string outputDirectory, TrainableModel model, SavedForm form, AdamWOptimizer optimizer, string fingerprint, int limit)
    {
        string partial = Path.Combine(outputDirectory, $"{Hidden}{Step}.partial");
        if (Directory.Exists(partial)) Directory.Delete(partial, recursive: true);
        model.Save(partial, form, overwrite: false);
        using (AtomicFile file = AtomicFile.Create(Path.Combine(partial, MomentsFile)))
        {
            SafetensorsWriter.Write(file.Stream, [.. Moments(model.Parameters)]);
            file.Commit();
        }
        AtomicFile.WriteAllText(Path.Combine(partial, StateFile), JsonSerializer.Serialize(new
        {
            step = Step,
            updates = optimizer.Updates,
            tokens = Tokens,
            loss_sum = LossSum,
            loss_count = LossCount,
            last_loss = LastLoss,
            loss_scale = optimizer.Scaler.Scale,
            good_steps = optimizer.Scaler.GoodSteps,
            fingerprint,
        }) + "\n");
        Delete(outputDirectory, Step);
        Directory.Move(partial, Folder(outputDirectory, Step));
        string inUse = Path.TrimEndingDirectorySeparator(Path.GetFullPath(model.Directory));
        foreach (long old in All(outputDirectory).OrderDescending().Skip(limit > 0 ? limit : int.MaxValue))
            if (Path.GetFullPath(Folder(outputDirectory, old)) != inUse) Delete(outputDirectory, old);
    }

    /// <summary>Deletes what killed processes left half-written and, for a run that starts anew, all checkpoints.</summary>
    public static void Clean(string outputDirectory, bool checkpointsToo)
    {
        foreach (string pattern in (string[])[Hidden + "*", Staged])
            foreach (string folder in Directory.GetDirectories(outputDirectory, pattern)) Directory.Delete(folder, recursive: true);
        if (!checkpointsToo) return;
        foreach (long step in All(outputDirectory)) Delete(outputDirectory, step);
    }

    /// <summary>The folder that <paramref name="resumeFrom"/> means: a path, or <c>latest</c> for the newest in the output directory.</summary>
    /// <exception cref="BgeMetalException">There is no such checkpoint.</exception>
    public static string Locate(string outputDirectory, string resumeFrom)
    {
        if (resumeFrom != "latest")
            return File.Exists(Path.Combine(resumeFrom, StateFile)) ? resumeFrom
                : throw new BgeMetalException("cannot resume", $"there is no {StateFile} in it, a checkpoint-N folder was expected", resumeFrom);
        long[] all = [.. All(outputDirectory)];
        return all.Length > 0 ? Folder(outputDirectory, all.Max())
            : throw new BgeMetalException("cannot resume", "there is no checkpoint-N folder", outputDirectory);
    }

    /// <summary>Reads moments and step into a model that was loaded from the same folder.</summary>
    /// <exception cref="BgeMetalException">The state belongs to another run.</exception>
    public static TrainingState Restore(string folder, TrainableModel model, AdamWOptimizer optimizer, string fingerprint)
    {
        string path = Path.Combine(folder, StateFile);
        try
        {
            using JsonDocument state = JsonDocument.Parse(File.ReadAllBytes(path));
            JsonElement root = state.RootElement;
            if (root.GetProperty("fingerprint").GetString() != fingerprint)
                throw new BgeMetalException("cannot resume", "the checkpoint was written with other data or other options that decide the result", folder);
            optimizer.Updates = root.GetProperty("updates").GetInt32();
            if (optimizer.Scaler.IsOn) optimizer.Scaler.Restore(root.GetProperty("loss_scale").GetDouble(), root.GetProperty("good_steps").GetInt32());
            using SafetensorsFile moments = SafetensorsFile.Open(Path.Combine(folder, MomentsFile));
            RestoreMoments(model.Parameters, moments);
            return new TrainingState(root.GetProperty("step").GetInt64(), root.GetProperty("tokens").GetInt64(), root.GetProperty("loss_sum").GetDouble(),
                root.GetProperty("loss_count").GetInt32(), root.GetProperty("last_loss").GetDouble());
        }
        catch (Exception e) when (e is JsonException or KeyNotFoundException or InvalidOperationException or FormatException or IOException)
        {
            throw new BgeMetalException("cannot resume", e.Message.ReplaceLineEndings(" "), path, innerException: e);
        }
    }

    private static IEnumerable<long> All(string outputDirectory) => !Directory.Exists(outputDirectory) ? []
        : from folder in Directory.GetDirectories(outputDirectory, "checkpoint-*")
          where File.Exists(Path.Combine(folder, StateFile)) && long.TryParse(Path.GetFileName(folder)["checkpoint-".Length..], NumberStyles.None, CultureInfo.InvariantCulture, out _)
          select long.Parse(Path.GetFileName(folder)["checkpoint-".Length..], CultureInfo.InvariantCulture);

    private static string Folder(string outputDirectory, long step) => Path.Combine(outputDirectory, string.Create(CultureInfo.InvariantCulture, $"checkpoint-{step}"));

    private static void Delete(string outputDirectory, long step)
    {
        string folder = Folder(outputDirectory, step);
        if (!Directory.Exists(folder)) return;
        string dying = Path.Combine(outputDirectory, $"{Hidden}{step}.deleted");
        if (Directory.Exists(dying)) Directory.Delete(dying, recursive: true);
        Directory.Move(folder, dying);
        Directory.Delete(dying, recursive: true);
    }

    private static unsafe List<NamedTensor> Moments(TrainableParameters parameters)
    {
        List<NamedTensor> tensors = [];
        foreach ((ParameterSpec spec, Tensor _) in parameters.All)
        {
            tensors.Add(parameters.Stored("exp_avg." + spec.Name, spec, parameters.FirstMoment));
            tensors.Add(parameters.Stored("exp_avg_sq." + spec.Name, spec, parameters.SecondMoment));
        }
        return tensors;
    }

    private static unsafe void RestoreMoments(TrainableParameters parameters, SafetensorsFile moments)
    {
        foreach ((ParameterSpec spec, Tensor _) in parameters.All)
        {
            parameters.Restore(moments, "exp_avg." + spec.Name, spec, parameters.FirstMoment);
            parameters.Restore(moments, "exp_avg_sq." + spec.Name, spec, parameters.SecondMoment);
        }
    }
}
