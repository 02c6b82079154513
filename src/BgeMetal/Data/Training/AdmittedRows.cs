using BgeMetal.Tensors;

namespace BgeMetal.Data.Training;

/// <summary>The rows of a file that take part in an LLM-Embedder run, and the file's task.</summary>
internal static class AdmittedRows
{
    /// <summary>Reads all rows of a file, on all processors.</summary>
    /// <param name="data">The data set.</param>
    /// <param name="source">A file of it.</param>
    /// <param name="options">Rules and caps.</param>
    /// <param name="sampler">Knows which rows are of use.</param>
    /// <param name="file">The file's number, part of the key of random choices.</param>
    /// <returns>The task, and row numbers of the data set in ascending order.</returns>
    /// <exception cref="BgeMetalException">The file has no task, or rows of several; or a row is malformed.</exception>
    public static (string Task, int[] Rows) Of(TrainingDataSet<LlmEmbedderRow> data, TrainingSource source, LlmEmbedderBatching options, CandidateSampler sampler, int file)
    {
        LlmEmbedderRow first = data.Read(source.FirstRow);
        string task = source.Name.Input.Task ?? first.Task
            ?? throw new BgeMetalException("bad input", "the row names no \"task\": write TASK:FILE, or give every row a task", first.Place.File, first.Place.Line);
        TaskBatching batching = options.For(task);
        bool[] admitted = new bool[source.Rows];
        BgeMetalException?[] errors = new BgeMetalException?[source.Rows];
        Parallel.For(0, source.Rows, (i, state) =>
        {
            try
            {
                LlmEmbedderRow row = data.Read(source.FirstRow + i);
                if (source.Name.Input.Task is null && row.Task != task)
                    throw new BgeMetalException("bad input", $"the row's task is \"{row.Task}\", the first row's \"{task}\": a file has one task (or write TASK:FILE)", row.Place.File, row.Place.Line);
                admitted[i] = sampler.Admits(row, batching.Rules);
            }
            catch (BgeMetalException e)
            {
                errors[i] = e;
                state.Break();
            }
        });
        if (Array.Find(errors, error => error is not null) is { } bad) throw bad;
        int[] rows = [.. Enumerable.Range(0, source.Rows).Where(i => admitted[i]).Select(i => source.FirstRow + i)];
        return (task, batching.MaxRows is { } most && rows.Length > most ? Choose(rows, most, options.Seed, file) : rows);
    }

    /// <summary>Ascending row numbers as ranges.</summary>
    public static List<(int First, int Count)> Ranges(int[] rows)
    {
        List<(int First, int Count)> ranges = [];
        foreach (int row in rows)
        {
            if (ranges.Count > 0 && ranges[^1].First + ranges[^1].Count == row) ranges[^1] = (ranges[^1].First, ranges[^1].Count + 1);
            else ranges.Add((row, 1));
        }
        return ranges;
    }

    private static int[] Choose(int[] rows, int count, int seed, int file)
    {
        int[] shuffled = [.. rows];
        new CounterRandom(seed, RandomPurpose.RowsOfFile, file).Shuffle(shuffled);
        int[] chosen = shuffled[..count];
        Array.Sort(chosen);
        return chosen;
    }
}
