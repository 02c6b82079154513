using System.Globalization;
using CsvHelper;

namespace BgeMetal.Training;

/// <summary>One line of train_log.csv.</summary>
/// <param name="Step">Optimiser steps done, from 1.</param>
/// <param name="Epoch">Passes over the data done.</param>
/// <param name="Loss">Mean loss of the steps since the line before.</param>
/// <param name="GradNorm">The last step's gradient norm before clipping.</param>
/// <param name="LearningRate">The learning rate of the last step.</param>
/// <param name="Tokens">Tokens trained on since the start of the run.</param>
/// <param name="TokensPerSecond">Tokens a second since the line before.</param>
/// <param name="PeakBytes">Bytes of weights, gradients, moments and activations held.</param>
public readonly record struct TrainLogRow(
    long Step, double Epoch, double Loss, double GradNorm, double LearningRate, long Tokens, double TokensPerSecond, long PeakBytes);

/// <summary>train_log.csv: appended to line by line, each line written at once; a resumed run drops the lines after its checkpoint.</summary>
internal sealed class TrainLog : IDisposable
{
    private const string Header = "step,epoch,loss,grad_norm,learning_rate,tokens,tokens_per_second,peak_bytes";
    private const int Columns = 8;
    private readonly FileStream _file;

    /// <summary>Opens the log of <paramref name="directory"/>, keeping the lines up to <paramref name="step"/>.</summary>
    public TrainLog(string directory, long step)
    {
        FilePath = Path.Combine(directory, "train_log.csv");
        List<string> kept = [Header];
        if (step > 0 && File.Exists(FilePath)) kept.AddRange(Rows(FilePath).Where(row => row.Step <= step).Select(Line));
        Files.AtomicFile.WriteAllText(FilePath, string.Join('\n', kept) + "\n");
        _file = new FileStream(FilePath, FileMode.Append, FileAccess.Write, FileShare.Read);
    }

    /// <summary>The log's path.</summary>
    public string FilePath { get; }

    /// <summary>Adds a line.</summary>
    public void Append(TrainLogRow row)
    {
        _file.Write(System.Text.Encoding.ASCII.GetBytes(Line(row) + "\n"));
        _file.Flush();
    }

    /// <inheritdoc/>
    public void Dispose() => _file.Dispose();

    /// <summary>Reads a log back; a line that a killed process did not finish is left out.</summary>
    public static IReadOnlyList<TrainLogRow> Rows(string path)
    {
        using StreamReader reader = new(path);
        using CsvReader csv = new(reader, CultureInfo.InvariantCulture);
        List<TrainLogRow> rows = [];
        csv.Read();
        csv.ReadHeader();
        while (csv.Read())
        {
            if (csv.Parser.Count != Columns || !csv.TryGetField(7, out long peakBytes)) continue;
            rows.Add(new TrainLogRow(csv.GetField<long>(0), csv.GetField<double>(1), csv.GetField<double>(2), csv.GetField<double>(3), csv.GetField<double>(4),
                csv.GetField<long>(5), csv.GetField<double>(6), peakBytes));
        }
        return rows;
    }

    private static string Line(TrainLogRow row) => string.Create(CultureInfo.InvariantCulture,
        $"{row.Step},{row.Epoch:0.######},{row.Loss:g9},{row.GradNorm:g9},{row.LearningRate:r},{row.Tokens},{row.TokensPerSecond:0.#},{row.PeakBytes}");
}
