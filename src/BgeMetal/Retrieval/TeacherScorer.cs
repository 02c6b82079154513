using BgeMetal.Data;
using BgeMetal.Files;
using BgeMetal.Retrieval.Mining;

namespace BgeMetal.Retrieval;

/// <summary>Writes a reranker's scores into training rows, for distillation: <c>pos_scores</c>, <c>neg_scores</c>, and both as <c>teacher_scores</c>.</summary>
public static class TeacherScorer
{
    private const int BlockRows = 256;

    /// <summary>Scores the rows of a file; every other field stays.</summary>
    /// <param name="reranker">The teacher.</param>
    /// <param name="inputFile">Rows <c>{"query","pos":[..],"neg":[..]}</c>, or "-".</param>
    /// <param name="outputFile">The same rows with scores; appears whole at the end.</param>
    /// <param name="skipped">Counts malformed rows; null to stop at the first.</param>
    /// <param name="progress">Told how many more pairs are scored; called from several threads.</param>
    /// <param name="cancellationToken">Stops between chunks.</param>
    /// <exception cref="BgeMetalException">A malformed row, a row of tokens, or a score that is not finite (with file and line).</exception>
    public static EmbeddingRun Run(
        Reranker reranker, string inputFile, string outputFile, InvalidLines? skipped = null, IProgress<long>? progress = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(reranker);
        EmbeddingRun done = default;
        using AtomicFile output = AtomicFile.Create(outputFile);
        foreach (MiningRow[] rows in MiningRow.Read(inputFile, skipped, "pos_scores", "neg_scores", "teacher_scores").Chunk(BlockRows))
        {
            (float[] scores, EmbeddingRun run) = reranker.ScorePairs([.. rows.SelectMany(Pairs)], progress, cancellationToken);
            done += run;
            int next = 0;
            foreach (MiningRow row in rows)
            {
                int positives = row.Positives.Length, all = positives + row.Negatives.Length;
                Write(output.Stream, row, scores.AsMemory(next, all), positives);
                next += all;
            }
        }
        output.Commit();
        return done;
    }

    private static IEnumerable<(string Query, string Passage)> Pairs(MiningRow row) =>
        row.Positives.Concat(row.Negatives).Select(passage => passage.IsTokens || row.Query.IsTokens
            ? throw new BgeMetalException("bad input", "a reranker needs texts, the row has input_ids", row.Place.File, row.Place.Line)
            : (row.Query.Content, passage.Content));

    private static void Write(Stream output, MiningRow row, ReadOnlyMemory<float> scores, int positives)
    {
        foreach (float score in scores.Span)
            if (!float.IsFinite(score))
                throw new BgeMetalException("cannot write the scores", $"a score of the row is {score}, which JSON cannot say", row.Place.File, row.Place.Line);
        row.Write(output, json =>
        {
            foreach ((string name, ReadOnlyMemory<float> part) in ((string, ReadOnlyMemory<float>)[])
                     [("pos_scores", scores[..positives]), ("neg_scores", scores[positives..]), ("teacher_scores", scores)])
            {
                json.WriteStartArray(name);
                foreach (float score in part.Span) json.WriteNumberValue(score);
                json.WriteEndArray();
            }
        });
    }
}
