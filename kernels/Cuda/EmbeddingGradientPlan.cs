using System.Numerics;
using BgeMetal.Kernels.Primitives;

namespace BgeMetal.Kernels.Cuda;

/// <summary>
/// The order in which rows of gradients are added to an embedding table, so that no two threads write one entry: the rows of each entry, in their own
/// order, cut into pieces of at most <see cref="PieceRows"/>. An entry with one piece is added to the table directly; the pieces of a frequent entry are
/// summed apart, and their sums added in a second pass. A plan may be renewed for the next batch, which then allocates nothing.
/// </summary>
public sealed class EmbeddingGradientPlan
{
    /// <summary>The most rows that one piece adds up.</summary>
    public const int PieceRows = 64;

    private const int DigitBits = 11, Digits = 1 << DigitBits;

    private readonly int[] _counts = new int[Digits];
    private int[] _numbers = [];
    private int[] _spare = [];
    private int _rows;
    private int _pieces;
    private int _merges;

    /// <summary>The five lists that follow, back to back in their order: what a device needs.</summary>
    public ReadOnlySpan<int> All => _numbers.AsSpan(0, MergeTargetsAt + _merges);

    /// <summary>Row numbers, grouped by entry.</summary>
    public ReadOnlySpan<int> Order => _numbers.AsSpan(0, _rows);

    /// <summary>Where each piece begins in <see cref="Order"/>, and the end.</summary>
    public ReadOnlySpan<int> Starts => _numbers.AsSpan(_rows, _pieces + 1);

    /// <summary>Each piece's table entry, or -1 - p for partial sum p.</summary>
    public ReadOnlySpan<int> Targets => _numbers.AsSpan(TargetsAt, _pieces);

    /// <summary>Where each frequent entry's partial sums begin, and the end.</summary>
    public ReadOnlySpan<int> MergeStarts => _numbers.AsSpan(MergeStartsAt, _merges + 1);

    /// <summary>Each frequent entry.</summary>
    public ReadOnlySpan<int> MergeTargets => _numbers.AsSpan(MergeTargetsAt, _merges);

    /// <summary>The number of partial sums: the workspace needs that many rows.</summary>
    public int Partials { get; private set; }

    private int TargetsAt => _rows + _pieces + 1;

    private int MergeStartsAt => TargetsAt + _pieces;

    private int MergeTargetsAt => MergeStartsAt + _merges + 1;

    /// <summary>A new plan.</summary>
    /// <inheritdoc cref="Renew"/>
    public static EmbeddingGradientPlan Build(ReadOnlySpan<int> ids, int entries, int excluded = -1)
    {
        EmbeddingGradientPlan plan = new();
        plan.Renew(ids, entries, excluded);
        return plan;
    }

    /// <summary>
    /// Plans for the entries that rows 0, 1, ... came from; rows of the entry <paramref name="excluded"/> (padding, which takes no gradient; negative for none)
    /// are left out. Takes time in proportion to the rows.
    /// </summary>
    /// <exception cref="ArgumentException">An entry is negative or not below <paramref name="entries"/>.</exception>
    public void Renew(ReadOnlySpan<int> ids, int entries, int excluded = -1)
    {
        int largest = 0;
        foreach (int id in ids)
        {
            if ((uint)id >= (uint)entries) throw new ArgumentException($"entry {id} is not in a table of {entries}", nameof(ids));
            largest = Math.Max(largest, id);
        }
        // A piece has at least one row, a frequent entry more than PieceRows of them.
        Reserve(ref _numbers, (3 * ids.Length) + (2 * (ids.Length / PieceRows)) + 2);
        Reserve(ref _spare, ids.Length);
        _rows = 0;
        for (int i = 0; i < ids.Length; i++)
            if (ids[i] != excluded) _numbers[_rows++] = i;
        for (int shift = 0; largest >> shift != 0; shift += DigitBits) SortByDigit(ids, shift);
        CountPieces(ids);
        WritePieces(ids);
    }

    /// <summary>The plan on a device where <paramref name="all"/> holds a copy of <see cref="All"/>.</summary>
    public EmbeddingGradientOrder At(DevicePointer<int> all)
    {
        return new EmbeddingGradientOrder(all, From(_rows), From(TargetsAt), _pieces, From(MergeStartsAt), From(MergeTargetsAt), _merges, Partials);

        DevicePointer<int> From(int offset) => new(all.Address + (sizeof(int) * (long)offset));
    }

    /// <summary>A stable counting sort of the order by one digit of the rows' entries.</summary>
    private void SortByDigit(ReadOnlySpan<int> ids, int shift)
    {
        Span<int> order = _numbers.AsSpan(0, _rows), sorted = _spare.AsSpan(0, _rows), counts = _counts;
        counts.Clear();
        foreach (int row in order) counts[(ids[row] >> shift) & (Digits - 1)]++;
        int next = 0;
        foreach (ref int count in counts) (count, next) = (next, next + count);
        foreach (int row in order) sorted[counts[(ids[row] >> shift) & (Digits - 1)]++] = row;
        sorted.CopyTo(order);
    }

    private void CountPieces(ReadOnlySpan<int> ids)
    {
        (_pieces, _merges, Partials) = (0, 0, 0);
        for (int begin = 0, end; begin < _rows; begin = end)
        {
            end = EndOfEntry(ids, begin);
            int pieces = (end - begin + PieceRows - 1) / PieceRows;
            _pieces += pieces;
            if (pieces == 1) continue;
            _merges++;
            Partials += pieces;
        }
    }

    private void WritePieces(ReadOnlySpan<int> ids)
    {
        int starts = _rows, targets = TargetsAt, mergeStarts = MergeStartsAt, mergeTargets = MergeTargetsAt, partials = 0;
        for (int begin = 0, end; begin < _rows; begin = end)
        {
            int id = ids[_numbers[begin]];
            end = EndOfEntry(ids, begin);
            bool frequent = end - begin > PieceRows;
            if (frequent)
            {
                _numbers[mergeStarts++] = partials;
                _numbers[mergeTargets++] = id;
            }
            for (int piece = begin; piece < end; piece += PieceRows)
            {
                _numbers[starts++] = piece;
                _numbers[targets++] = frequent ? -1 - partials++ : id;
            }
        }
        _numbers[starts] = _rows;
        _numbers[mergeStarts] = partials;
    }

    private int EndOfEntry(ReadOnlySpan<int> ids, int begin)
    {
        int id = ids[_numbers[begin]], end = begin + 1;
        while (end < _rows && ids[_numbers[end]] == id) end++;
        return end;
    }

    private static void Reserve(ref int[] array, int length)
    {
        if (array.Length < length) array = new int[(int)BitOperations.RoundUpToPowerOf2((uint)length)];
    }
}
