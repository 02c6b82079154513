namespace BgeMetal.Tensors;

/// <summary>A batch's numbers where the host packed them: for what an operation plans on the host. Valid until the batch is refilled.</summary>
/// <param name="TokenIds">[T].</param>
/// <param name="PositionIds">[T].</param>
/// <param name="TokenTypeIds">[T].</param>
/// <param name="CuSeqlens">[B+1].</param>
internal readonly record struct HostBatch(ReadOnlyMemory<int> TokenIds, ReadOnlyMemory<int> PositionIds, ReadOnlyMemory<int> TokenTypeIds, ReadOnlyMemory<int> CuSeqlens);

/// <summary>
/// A batch of token sequences on the device, back to back and without padding: sequence b is the rows CuSeqlens[b] .. CuSeqlens[b+1] of every
/// [T, ..] activation. The only batch form there is; the host builds it as a PackedBatch.
/// </summary>
/// <param name="TokenIds">Vocabulary ids, int32 [T].</param>
/// <param name="PositionIds">Rows of the position table, int32 [T].</param>
/// <param name="TokenTypeIds">Rows of the token type table, int32 [T].</param>
/// <param name="CuSeqlens">Sequence starts and the end, int32 [B+1].</param>
/// <param name="ClsOffsets">0, 1, .. B, int32 [B+1]: the sequence starts of a batch that keeps one row a sequence.</param>
/// <param name="MaxSeqlen">Tokens of the longest sequence.</param>
internal readonly record struct PackedTensors(
    Tensor TokenIds, Tensor PositionIds, Tensor TokenTypeIds, Tensor CuSeqlens, Tensor ClsOffsets, int MaxSeqlen)
{
    /// <summary>The same numbers on the host.</summary>
    public HostBatch Host { get; init; }

    /// <summary>Tokens of the whole batch that come before this part of it: dropout masks are drawn by the place in the whole.</summary>
    public int FirstToken { get; init; }

    /// <summary>Sequences of the whole batch that come before this part of it.</summary>
    public int FirstSequence { get; init; }

    /// <summary>T: tokens of all sequences.</summary>
    public int TotalTokens => TokenIds.Columns;

    /// <summary>B: sequences.</summary>
    public int Sequences => CuSeqlens.Columns - 1;
}
