using BgeMetal.Files;

namespace BgeMetal.Training;

/// <summary>loss.png: loss and learning rate over the steps, from train_log.csv.</summary>
internal static class LossPlot
{
    /// <summary>Draws the plot of the log in <paramref name="directory"/>; a log without a line gives none.</summary>
    public static void Write(string directory)
    {
        IReadOnlyList<TrainLogRow> rows = TrainLog.Rows(Path.Combine(directory, "train_log.csv"));
        if (rows.Count == 0) return;
        double[] steps = [.. rows.Select(row => (double)row.Step)];
        ScottPlot.Plot plot = new();
        plot.Title("training loss");
        plot.XLabel("step");
        plot.YLabel("loss");
        ScottPlot.Plottables.Scatter loss = plot.Add.Scatter(steps, rows.Select(row => row.Loss).ToArray());
        loss.LegendText = "loss";
        ScottPlot.Plottables.Scatter rate = plot.Add.Scatter(steps, rows.Select(row => row.LearningRate).ToArray());
        rate.LegendText = "learning rate (right)";
        rate.Axes.YAxis = plot.Axes.Right;
        plot.Axes.Right.Label.Text = "learning rate";
        plot.ShowLegend();
        AtomicFile.WriteAllBytes(Path.Combine(directory, "loss.png"), plot.GetImage(900, 540).GetImageBytes());
    }
}
