namespace BgeMetal.Kernels.Cpu;

/// <summary>
/// Attention in which every query sees its own choice of keys, given as bits (RetroMAE's enhanced decoding, Xiao et al., arXiv:2205.12035, section 3.2):
/// 1 bit a pair of positions and text, for all heads together, where a matrix of floats would take 32. In the blocking of
/// <see cref="AttentionTraining"/> and <see cref="AttentionBackward"/>; hidden pairs are computed and thrown away.
/// </summary>
/// <remarks>
/// Sequence b has as many queries as keys, L: its bits start at word visibleStarts[b] and have ceil(L / 64) words a row; bit j % 64 of word j / 64 of row i
/// says whether query i sees key j. A query that sees no key gets 0 and passes no gradient on.
/// </remarks>
public static unsafe class MaskedAttention
{
    /// <summary>output = dropout(softmax over the visible keys of q k^T * scale) v.</summary>
    /// <param name="team">Who works; the result does not depend on it.</param>
    /// <param name="q">[rows, numHeads * headDim], rows <paramref name="ldq"/> floats apart.</param>
    /// <param name="ldq">At least numHeads * headDim.</param>
    /// <param name="k">[rows, numHeads * headDim].</param>
    /// <param name="ldk">At least numHeads * headDim.</param>
    /// <param name="v">[rows, numHeads * headDim].</param>
    /// <param name="ldv">At least numHeads * headDim.</param>
    /// <param name="cuSeqlens">[sequences + 1], of queries and keys.</param>
    /// <param name="sequences">Sequences; 0 does nothing.</param>
    /// <param name="visible">The bits of all sequences.</param>
    /// <param name="visibleStarts">[sequences]: each one's first word.</param>
    /// <param name="numHeads">Heads, at least 1.</param>
    /// <param name="headDim">Columns of a head, at least 1.</param>
    /// <param name="scale">Positive; usually 1 / sqrt(headDim).</param>
    /// <param name="output">[rows, numHeads * headDim]; must not overlap the inputs.</param>
    /// <param name="ldo">At least numHeads * headDim.</param>
    /// <param name="logSumExp">[numHeads, cuSeqlens[sequences]] for the backward pass; +infinity for a query that sees nothing.</param>
    /// <param name="dropout">The probability that a probability is dropped, in [0, 1).</param>
    /// <param name="seed">Decides the dropped ones together with head, query row and key.</param>
    /// <exception cref="ArgumentOutOfRangeException">A size is out of range.</exception>
    public static void Forward(
        WorkerTeam team, float* q, int ldq, float* k, int ldk, float* v, int ldv, int* cuSeqlens, int sequences, ulong* visible, int* visibleStarts,
        int numHeads, int headDim, float scale, float* output, int ldo, float* logSumExp, float dropout, ulong seed)
    {
        CheckBits(sequences, visible, visibleStarts);
        AttentionTraining.Run(team, q, ldq, k, ldk, v, ldv, cuSeqlens, cuSeqlens, sequences, numHeads, headDim, scale, output, ldo, logSumExp, dropout, seed,
            0, visible, visibleStarts);
    }

    /// <summary>Stores dq, dk and dv from the gradient of the output.</summary>
    /// <param name="team">Who works; the result does not depend on it.</param>
    /// <param name="q">As in the forward pass.</param>
    /// <param name="ldq">At least numHeads * headDim.</param>
    /// <param name="k">As in the forward pass.</param>
    /// <param name="ldk">At least numHeads * headDim.</param>
    /// <param name="v">As in the forward pass.</param>
    /// <param name="ldv">At least numHeads * headDim.</param>
    /// <param name="output">What the forward pass computed.</param>
    /// <param name="ldo">At least numHeads * headDim.</param>
    /// <param name="doutput">[rows, numHeads * headDim].</param>
    /// <param name="lddo">At least numHeads * headDim.</param>
    /// <param name="logSumExp">From the forward pass.</param>
    /// <param name="cuSeqlens">[sequences + 1].</param>
    /// <param name="sequences">Sequences.</param>
    /// <param name="visible">As in the forward pass.</param>
    /// <param name="visibleStarts">[sequences].</param>
    /// <param name="numHeads">Heads.</param>
    /// <param name="headDim">Columns of a head.</param>
    /// <param name="scale">As in the forward pass.</param>
    /// <param name="dropout">As in the forward pass.</param>
    /// <param name="seed">As in the forward pass.</param>
    /// <param name="dq">[rows, numHeads * headDim]; the three gradients must not overlap anything.</param>
    /// <param name="lddq">At least numHeads * headDim.</param>
    /// <param name="dk">[rows, numHeads * headDim].</param>
    /// <param name="lddk">At least numHeads * headDim.</param>
    /// <param name="dv">[rows, numHeads * headDim].</param>
    /// <param name="lddv">At least numHeads * headDim.</param>
    /// <exception cref="ArgumentOutOfRangeException">A size is out of range.</exception>
    public static void Backward(
        WorkerTeam team, float* q, int ldq, float* k, int ldk, float* v, int ldv, float* output, int ldo, float* doutput, int lddo, float* logSumExp,
        int* cuSeqlens, int sequences, ulong* visible, int* visibleStarts, int numHeads, int headDim, float scale, float dropout, ulong seed,
        float* dq, int lddq, float* dk, int lddk, float* dv, int lddv)
    {
        CheckBits(sequences, visible, visibleStarts);
        AttentionBackward.Run(team, q, ldq, k, ldk, v, ldv, output, ldo, doutput, lddo, logSumExp, cuSeqlens, cuSeqlens, sequences, numHeads, headDim, scale,
            dropout, seed, dq, lddq, dk, lddk, dv, lddv, 0, visible, visibleStarts);
    }

    private static void CheckBits(int sequences, ulong* visible, int* visibleStarts)
    {
        if (sequences <= 0) return;
        ArgumentNullException.ThrowIfNull(visible);
        ArgumentNullException.ThrowIfNull(visibleStarts);
    }
}
