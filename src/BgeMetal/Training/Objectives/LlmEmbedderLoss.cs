using BgeMetal.Autograd;
using BgeMetal.Ops;
using BgeMetal.Tensors;

namespace BgeMetal.Training.Objectives;

/// <summary>
/// The LLM-Embedder's loss (Zhang et al. 2023, "Retrieve Anything To Augment Large Language Models", equations 4 to 7), as FlagEmbedding's
/// research/llm_embedder computes it: contrastive over all B*G keys, and distillation of a teacher's scores, plain or stabilised.
/// </summary>
internal static class LlmEmbedderLoss
{
    /// <summary>
    /// The loss [1, 1] of queries [B, D] against keys [B*G, D], as they enter the similarity (normalised for the cosine). Where both parts take part they are
    /// weighted; one part alone counts whole, whatever its weight.
    /// </summary>
    /// <param name="tape">Records.</param>
    /// <param name="queries">Queries.</param>
    /// <param name="keys">Keys; key b*G is query b's positive.</param>
    /// <param name="teacherScores">Scores [B*G], or null: then there is nothing to distil.</param>
    /// <param name="groupSize">G.</param>
    /// <param name="temperature">Similarities are divided by it: the cosine's temperature, 1 for the inner product.</param>
    /// <param name="options">Weights, temperatures and the form of the distillation.</param>
    /// <exception cref="BgeMetalException">Neither part takes part.</exception>
    public static Tensor Compute(Tape tape, Tensor queries, Tensor keys, float[]? teacherScores, int groupSize, float temperature, LlmEmbedderTaskOptions options)
    {
        bool contrastive = options.ContrastiveWeight > 0;
        if (teacherScores is null || options.DistillWeight <= 0)
        {
            return contrastive ? tape.InfoNce(queries, keys, groupSize, temperature, inBatch: true)
                : throw new BgeMetalException("nothing to train", teacherScores is null
                    ? "the contrastive weight is 0 and the rows have no teacher's scores" : "the contrastive weight and the distillation weight are both 0");
        }
        Tensor scores = tape.Scores(queries, keys, temperature);
        Tensor distillation = options.StableDistill
            ? tape.M3Distillation(scores, teacherScores, groupSize)
            : tape.KlDivergence(scores, teacherScores, groupSize, (float)options.TeacherTemperature, (float)options.StudentTemperature);
        if (!contrastive) return distillation;
        Tensor alone = tape.InfoNce(queries, keys, groupSize, temperature, inBatch: true);
        return tape.WeightedSum([alone, distillation], [(float)options.ContrastiveWeight, (float)options.DistillWeight]);
    }
}
