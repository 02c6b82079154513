using BgeMetal.Data;
using BgeMetal.Data.Training;
using BgeMetal.Retrieval;
using BgeMetal.Tests.Models;
using BgeMetal.Training;
using BgeMetal.Training.Objectives;

namespace BgeMetal.Tests.Training;

/// <summary>RetroMAE computes after its last layers only the rows that are read, and nothing shows of it.</summary>
public sealed class RetroMaeRowsTests(TinyModel model) : IClassFixture<TinyModel>
{
    private const int NoLabel = -100;
    private static readonly string[] s_texts = ["the quick brown fox sat on the mat and over the hills", "cat", "one two three and over the river", "", "猫在 the hills"];

    [Fact]
    public void Read_rows_are_first_rows_and_labelled_rows_in_order()
    {
        TokenSequence[] texts = [new(new int[3]), new(new int[1]), new(new int[4])];
        LabelledRows read = LabelledRows.Of(texts, [1, 4, 5, 7]);
        Assert.Equal([0, 1, 3, 4, 5, 7], read.Rows);
        Assert.Equal([0, 2, 3, 6], read.Offsets);
        Assert.Equal([1, 3, 4, 5], read.Labelled);
        Assert.Equal([0, 3, 4], LabelledRows.Of(texts, []).Rows);
    }

    [Fact]
    public void Loss_and_gradients_are_those_of_computing_every_row()
    {
        using TrainableModel trained = RetroMaeModel.Load(RetroMaeBatches.WithoutDropout(model), new ComputeOptions { Threads = 1 }, 1, null);
        using RetroMaeObjective objective = new(trained, RetroMaeModel.Names(trained.Config));
        RetroMaeBatch batch = RetroMaeBatches.Masked(trained, s_texts);
        (double loss, Dictionary<string, float[]> gradients) = Step(trained, objective, batch);
        (double lossOfAll, Dictionary<string, float[]> gradientsOfAll) = Step(trained, objective, EveryRow(batch));
        Assert.Equal(BitConverter.DoubleToInt64Bits(lossOfAll), BitConverter.DoubleToInt64Bits(loss));
        Assert.NotEmpty(gradients);
        foreach ((string name, float[] expected) in gradientsOfAll)
        {
            double difference = 0, norm = 0;
            foreach ((float a, float b) in gradients[name].Zip(expected)) (difference, norm) = (difference + Math.Pow((double)a - b, 2), norm + ((double)b * b));
            if (!name.EndsWith("self.key.bias", StringComparison.Ordinal))     // in exact arithmetic it is 0
                Assert.True(Math.Sqrt(difference) <= 2e-6 * Math.Sqrt(norm), $"{name}: {Math.Sqrt(difference / norm):g3}");
        }
    }

    private static (double Loss, Dictionary<string, float[]> Gradients) Step(TrainableModel trained, RetroMaeObjective objective, RetroMaeBatch batch)
    {
        trained.Parameters.ZeroGradients();
        double loss = objective.Backpropagate(batch, 1, 1);
        return (loss, trained.Parameters.All.ToDictionary(entry => entry.Spec.Name, entry => RetroMaeBatches.Values(trained.Parameters.GradientOf(entry.Master))));
    }

    /// <summary>The same batch with a row for every position; those without a label are ignored by the loss.</summary>
    private static RetroMaeBatch EveryRow(RetroMaeBatch batch) => new()
    {
        Masked = batch.Masked,
        Original = batch.Original,
        EncoderRows = [.. Enumerable.Range(0, batch.Tokens)],
        EncoderLabels = Spread(batch.EncoderRows, batch.EncoderLabels, batch.Tokens),
        DecoderRows = [.. Enumerable.Range(0, batch.Tokens)],
        DecoderLabels = Spread(batch.DecoderRows, batch.DecoderLabels, batch.Tokens),
        Visible = batch.Visible,
        VisibleStarts = batch.VisibleStarts,
        Places = batch.Places,
        Tokens = batch.Tokens,
    };

    private static int[] Spread(int[] rows, int[] labels, int count)
    {
        int[] spread = new int[count];
        Array.Fill(spread, NoLabel);
        foreach ((int row, int label) in rows.Zip(labels)) spread[row] = label;
        return spread;
    }
}
