using System.Text.Encodings.Web;
using System.Text.Json;
using BgeMetal.Data;

namespace BgeMetal.Training.Feedback;

/// <summary>The outcome of scoring.</summary>
/// <param name="Rows">Rows of the output.</param>
/// <param name="ResumedRows">Rows of them that an earlier, interrupted run had scored.</param>
/// <param name="Candidates">Candidates scored now.</param>
public sealed record LlmFeedbackSummary(long Rows, long ResumedRows, long Candidates);

/// <summary>
/// Rewards from a language model (Zhang et al. 2023, equation 2): for each candidate of a row the length-normalised log-likelihood of the answer given candidate
/// and query. Rows come back as they were, with <c>teacher_scores</c> aligned with <c>pos</c> and <c>neg</c> (or with <c>history</c>).
/// </summary>
public static class LlmFeedback
{
    private static readonly JsonWriterOptions s_json = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <summary>
    /// Scores a file of rows <c>{"query", "answers": [..], "pos", "neg" | "history", "task"}</c>. Finished rows wait in <c>OUTPUT.partial</c>; the same call after a
    /// kill goes on behind them. The output appears whole.
    /// </summary>
    /// <param name="input">Rows, <c>.jsonl</c> or its <c>.gz</c>.</param>
    /// <param name="output">The file to make.</param>
    /// <param name="options">The endpoint and how to use it.</param>
    /// <param name="progress">Told how many more rows are done.</param>
    /// <param name="cancellationToken">Stops; finished rows stay for the next call.</param>
    /// <exception cref="BgeMetalException">A row is malformed (with file and line), the endpoint fails for good, or the partial file is of another run.</exception>
    public static async Task<LlmFeedbackSummary> RunAsync(string input, string output, LlmFeedbackOptions options,
        IProgress<long>? progress = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(options);
        FeedbackPrompts prompts = FeedbackPrompts.Load(options.Prompts);
        using CompletionClient client = new(options);
        using PartialOutput partial = PartialOutput.Open(output, FeedbackFingerprint.Of(input, options));
        using CancellationTokenSource stop = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        using SemaphoreSlim slots = new(options.Concurrency);
        Queue<Task<(byte[] Row, int Candidates)>> under = [];
        long rows = 0, candidates = 0, resumed = partial.Rows;
        try
        {
            using LineReader lines = LineReader.Open(input);
            while (lines.TryRead(out ReadOnlyMemory<byte> line))
            {
                if (line.Span.IndexOfAnyExcept(" \t\r"u8) < 0 || rows++ < resumed) continue;
                FeedbackRow row = FeedbackRow.Read(line.ToArray(), lines.Source, lines.Line, options.Task, prompts);
                under.Enqueue(ScoreAsync(row, client, options.BatchSize, slots, stop.Token));
                if (under.Count > options.Concurrency) await WriteAsync().ConfigureAwait(false);
            }
            while (under.Count > 0) await WriteAsync().ConfigureAwait(false);
        }
        catch
        {
            await stop.CancelAsync().ConfigureAwait(false);
            await Task.WhenAll(under.Select(task => task.ContinueWith(_ => { }, CancellationToken.None, TaskContinuationOptions.None, TaskScheduler.Default))).ConfigureAwait(false);
            throw;
        }
        if (rows < resumed) throw new BgeMetalException("cannot go on", $"the partial file holds {resumed} rows, the input {rows}", output + PartialOutput.Suffix);
        partial.Commit();
        return new LlmFeedbackSummary(rows, resumed, candidates);

        async Task WriteAsync()
        {
            (byte[] row, int scored) = await under.Dequeue().ConfigureAwait(false);
            partial.Append(row);
            candidates += scored;
            progress?.Report(1);
        }
    }

    private static async Task<(byte[] Row, int Candidates)> ScoreAsync(FeedbackRow row, CompletionClient client, int batchSize, SemaphoreSlim slots, CancellationToken cancellation)
    {
        List<Task<float[]>> batches = [];
        foreach ((string Text, int AnswerStart)[] batch in row.Texts.Chunk(batchSize)) batches.Add(RequestAsync(batch));
        float[][] scores;
        try
        {
            scores = await Task.WhenAll(batches).ConfigureAwait(false);
        }
        catch (BgeMetalException e) when (e.File is null)
        {
            throw new BgeMetalException("scoring stopped", e.Message, row.Source, row.Line, e);
        }
        return (Write(row.Json, [.. scores.SelectMany(batch => batch)]), row.Texts.Count);

        async Task<float[]> RequestAsync((string Text, int AnswerStart)[] batch)
        {
            await slots.WaitAsync(cancellation).ConfigureAwait(false);
            try
            {
                return await client.ScoreAsync(batch, cancellation).ConfigureAwait(false);
            }
            finally
            {
                slots.Release();
            }
        }
    }

    /// <summary>The row as it was, its scores replaced.</summary>
    private static byte[] Write(byte[] json, float[] scores)
    {
        using JsonDocument document = JsonDocument.Parse(json);
        using MemoryStream bytes = new();
        using (Utf8JsonWriter writer = new(bytes, s_json))
        {
            writer.WriteStartObject();
            foreach (JsonProperty field in document.RootElement.EnumerateObject())
                if (field.Name != "teacher_scores") field.WriteTo(writer);
            writer.WriteStartArray("teacher_scores"u8);
            foreach (float score in scores) writer.WriteNumberValue(score);
            writer.WriteEndArray();
            writer.WriteEndObject();
        }
        bytes.WriteByte((byte)'\n');
        return bytes.ToArray();
    }
}
