using System.Globalization;
using BgeMetal.Files;
using BgeMetal.Retrieval;

namespace BgeMetal.Training;

/// <summary>eval_log.csv: <c>step,epoch,queries,</c> then one column a measure. A resumed run drops the lines after its checkpoint.</summary>
internal sealed class EvaluationLog
{
    private readonly string _path;
    private readonly string _metric;
    private readonly List<string> _lines = [];

    /// <summary>Opens the log of <paramref name="directory"/>, keeping the lines up to <paramref name="step"/> of a run that goes on.</summary>
    public EvaluationLog(string directory, string metric, long step)
    {
        _path = Path.Combine(directory, "eval_log.csv");
        _metric = metric;
        if (step > 0 && File.Exists(_path)) Keep(File.ReadAllLines(_path), step);
    }

    /// <summary>The best value so far; negative infinity when there is none.</summary>
    public double Best { get; private set; } = double.NegativeInfinity;

    /// <summary>The last step that was measured; -1 when there is none.</summary>
    public long LastStep { get; private set; } = -1;

    /// <summary>Adds a line and writes the file anew; true when this is the best so far.</summary>
    public bool Append(long step, double epoch, RetrievalReport report)
    {
        if (_lines.Count == 0) _lines.Add("step,epoch,queries," + string.Join(',', report.MetricNames));
        _lines.Add(string.Create(CultureInfo.InvariantCulture, $"{step},{epoch:0.######},{report.Queries.Count},")
            + string.Join(',', report.MetricNames.Select(name => report[name].ToString("0.######", CultureInfo.InvariantCulture))));
        AtomicFile.WriteAllText(_path, string.Join('\n', _lines) + "\n");
        LastStep = step;
        double value = Math.Round(report[_metric], 6);
        if (value <= Best) return false;
        Best = value;
        return true;
    }

    private void Keep(string[] lines, long step)
    {
        string[] header = lines.Length > 0 ? lines[0].Split(',') : [];
        int column = Array.IndexOf(header, _metric);
        if (column < 0) return;
        _lines.Add(lines[0]);
        foreach (string line in lines.Skip(1))
        {
            string[] fields = line.Split(',');
            if (fields.Length != header.Length || !long.TryParse(fields[0], CultureInfo.InvariantCulture, out long at) || at > step
                || !double.TryParse(fields[column], CultureInfo.InvariantCulture, out double value)) continue;
            _lines.Add(line);
            LastStep = at;
            Best = Math.Max(Best, value);
        }
    }
}
