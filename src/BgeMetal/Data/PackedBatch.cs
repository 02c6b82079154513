using BgeMetal.Tensors;

namespace BgeMetal.Data;

/// <summary>
/// A batch of token sequences back to back: the only batch form, on the CPU and on CUDA, in training and in serving. There is no padding and no
/// attention mask anywhere; sequence b is the tokens CuSeqlens[b] .. CuSeqlens[b+1]. The buffers are reused from batch to batch.
/// </summary>
internal sealed class PackedBatch(PositionRule positions)
{
    private int[] _tokenIds = [];
    private int[] _positionIds = [];
    private int[] _tokenTypeIds = [];
    private int[] _cuSeqlens = [0];
    private int[] _numbers = [];

    /// <summary>B: sequences added since <see cref="Clear"/>.</summary>
    public int Sequences { get; private set; }

    /// <summary>T: tokens of all sequences.</summary>
    public int TotalTokens => _cuSeqlens[Sequences];

    /// <summary>Tokens of the longest sequence.</summary>
    public int MaxSeqlen { get; private set; }

    /// <summary>Vocabulary ids [T].</summary>
    public ReadOnlySpan<int> TokenIds => _tokenIds.AsSpan(0, TotalTokens);

    /// <summary>Rows of the position table [T].</summary>
    public ReadOnlySpan<int> PositionIds => _positionIds.AsSpan(0, TotalTokens);

    /// <summary>Rows of the token type table [T].</summary>
    public ReadOnlySpan<int> TokenTypeIds => _tokenTypeIds.AsSpan(0, TotalTokens);

    /// <summary>Sequence starts and the end [B+1].</summary>
    public ReadOnlySpan<int> CuSeqlens => _cuSeqlens.AsSpan(0, Sequences + 1);

    /// <summary>Empties the batch and keeps its buffers.</summary>
    public void Clear()
    {
        Sequences = 0;
        MaxSeqlen = 0;
    }

    /// <summary>Appends a sequence. Ids and lengths were checked against the model where the text was read.</summary>
    public void Add(TokenSequence sequence)
    {
        if (sequence.Length == 0) throw new ArgumentException("a sequence has at least one token", nameof(sequence));
        int start = TotalTokens, end = checked(start + sequence.Length);
        Reserve(ref _tokenIds, end);
        Reserve(ref _positionIds, end);
        Reserve(ref _tokenTypeIds, end);
        Reserve(ref _cuSeqlens, Sequences + 2);
        sequence.Ids.Span.CopyTo(_tokenIds.AsSpan(start));
        positions.Write(sequence.Ids.Span, _positionIds.AsSpan(start, sequence.Length));
        Span<int> types = _tokenTypeIds.AsSpan(start, sequence.Length);
        if (sequence.TypeIds is { } given) given.Span.CopyTo(types);
        else types.Clear();
        _cuSeqlens[++Sequences] = end;
        MaxSeqlen = Math.Max(MaxSeqlen, sequence.Length);
    }

    /// <summary>Copies the batch to the arena's device; on CUDA enqueued, and the batch may be refilled at once.</summary>
    public PackedTensors Upload(Arena arena)
    {
        PackedLayout layout = new(TotalTokens, Sequences);
        Reserve(ref _numbers, layout.Count);
        Span<int> numbers = _numbers.AsSpan(0, layout.Count);
        Write(layout, numbers);
        return layout.View(arena.Integers(numbers), MaxSeqlen) with
        {
            Host = new HostBatch(_tokenIds.AsMemory(0, TotalTokens), _positionIds.AsMemory(0, TotalTokens), _tokenTypeIds.AsMemory(0, TotalTokens), _cuSeqlens.AsMemory(0, Sequences + 1)),
        };
    }

    /// <summary>
    /// Writes the batch as <paramref name="layout"/> says. What the layout has more is padding: tokens of id, position and type 0, which belong to no sequence, and
    /// sequences without a token, which begin where the last token ends.
    /// </summary>
    public void Write(PackedLayout layout, Span<int> numbers)
    {
        Pad(TokenIds, numbers[..layout.PositionIdsAt], 0);
        Pad(PositionIds, numbers[layout.PositionIdsAt..layout.TokenTypeIdsAt], 0);
        Pad(TokenTypeIds, numbers[layout.TokenTypeIdsAt..layout.CuSeqlensAt], 0);
        Pad(CuSeqlens, numbers[layout.CuSeqlensAt..layout.ClsOffsetsAt], TotalTokens);
        Span<int> clsOffsets = numbers[layout.ClsOffsetsAt..layout.Count];
        for (int i = 0; i < clsOffsets.Length; i++) clsOffsets[i] = i;
    }

    private static void Pad(ReadOnlySpan<int> values, Span<int> destination, int padding)
    {
        values.CopyTo(destination);
        destination[values.Length..].Fill(padding);
    }

    private static void Reserve(ref int[] array, int length)
    {
        if (array.Length < length) Array.Resize(ref array, Math.Max(length, array.Length * 2));
    }
}
