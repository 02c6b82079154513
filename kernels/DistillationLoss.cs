namespace BgeMetal.Kernels;

/// <summary>What a student is held to where a teacher has scored each query's group.</summary>
public enum DistillationLoss
{
    /// <summary>
    /// FlagEmbedding's kl_div: mean over b of -sum over j of t[b, j] * log softmax(own group)[j]; the teacher's entropy is not subtracted.
    /// </summary>
    CrossEntropy,

    /// <summary>The LLM-Embedder's form (Zhang et al., arXiv:2310.07554): KL(t || softmax(own group)), with the teacher's entropy subtracted.</summary>
    Divergence,

    /// <summary>
    /// FlagEmbedding's m3_kd_loss and the LLM-Embedder's stable distillation: the sum over i of the mean over b of t[b, i] * the cross-entropy of column
    /// i of the group over all columns except the group's columns before i.
    /// </summary>
    Staircase,
}
