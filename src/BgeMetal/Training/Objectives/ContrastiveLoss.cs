using BgeMetal.Autograd;
using BgeMetal.Data.Training;
using BgeMetal.Ops;
using BgeMetal.Tensors;

namespace BgeMetal.Training.Objectives;

/// <summary>
/// FlagEmbedding's loss over pooled vectors: normalisation, then the contrastive loss, a distillation loss or both, for all components or (Matryoshka,
/// Kusupati et al. 2022) as the mean over several leading cuts.
/// </summary>
internal static class ContrastiveLoss
{
    /// <summary>The loss [1, 1] of queries [B, D] and passages [B*G, D], both pooled and not yet normalised.</summary>
    public static Tensor Compute(Tape tape, Tensor queries, Tensor passages, ContrastiveBatch batch, FinetuneOptions options)
    {
        if (options.MatryoshkaDimensions.Count == 0) return OfVectors(tape, Finish(tape, queries, options), Finish(tape, passages, options), batch, options);
        List<Tensor> losses = [];
        foreach (int dimensions in options.MatryoshkaDimensions)
        {
            int kept = Math.Min(dimensions, queries.Columns);
            losses.Add(OfVectors(tape, Finish(tape, queries.ColumnRange(0, kept), options), Finish(tape, passages.ColumnRange(0, kept), options), batch, options));
        }
        return tape.WeightedSum(losses, [.. losses.Select(_ => 1f / losses.Count)]);
    }

    private static Tensor Finish(Tape tape, Tensor vectors, FinetuneOptions options) => options.Normalize ? tape.NormalizeRows(vectors) : vectors;

    private static Tensor OfVectors(Tape tape, Tensor queries, Tensor passages, ContrastiveBatch batch, FinetuneOptions options)
    {
        float temperature = (float)options.Temperature;
        bool inBatch = options.InBatchNegatives && !batch.NoInBatchNegatives;
        if (!options.KnowledgeDistillation || batch.TeacherScores is null)
            return tape.InfoNce(queries, passages, batch.GroupSize, temperature, inBatch);
        Tensor scores = tape.Scores(queries, passages, temperature);
        return options.DistillationLoss == DistillationLoss.M3Kd
            ? tape.M3Distillation(scores, batch.TeacherScores, batch.GroupSize)
            : tape.WeightedSum([tape.SoftTargetCrossEntropy(scores, batch.TeacherScores, batch.GroupSize),
                tape.InfoNce(queries, passages, batch.GroupSize, temperature, inBatch)], [1, 1]);
    }
}
