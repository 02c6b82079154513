using System.Text;

namespace BgeMetal.Kernels.Primitives;

/// <summary>A group of wgmma products into the same accumulators, each of depth 16, as text: fence, products, end of the group.</summary>
/// <param name="sums">The accumulators.</param>
/// <param name="element">bf16 or f16.</param>
/// <param name="count">How many products.</param>
internal sealed class WarpGroupProducts(string[] sums, string element, int count)
{
    /// <summary>The depth of one product.</summary>
    public const int Depth = 16;

    private readonly StringBuilder _text = new("\t.reg .b64 da, db;\n\t.reg .b32 t;\n\t.reg .pred p;\n");
    private int _firstStep, _secondStep;
    private bool _firstTransposed, _secondTransposed;

    /// <summary>Whether the first product replaces what was in the sums.</summary>
    public bool Replaces { get; init; }

    /// <summary>The registers of the first operand, four a product; null where it lies in shared memory.</summary>
    public string[]? FirstInRegisters { get; init; }

    /// <summary>
    /// Where the first operand lies, in rows of 128 or 64 bytes, and whether depth runs along them or across; then, in an operand wider than a row, boxes as wide as one lie
    /// <paramref name="boxBytes"/> apart.
    /// </summary>
    public void First(string address, int rowBytes, bool depthContiguous, int boxBytes = 0)
    {
        WarpGroupDescriptor.Append(_text, "da", address, rowBytes, depthContiguous ? 0 : boxBytes);
        (_firstStep, _firstTransposed) = (WarpGroupDescriptor.Step(rowBytes, depthContiguous), !depthContiguous);
    }

    /// <summary>The same of the second operand.</summary>
    public void Second(string address, int rowBytes, bool depthContiguous, int boxBytes = 0)
    {
        WarpGroupDescriptor.Append(_text, "db", address, rowBytes, depthContiguous ? 0 : boxBytes);
        (_secondStep, _secondTransposed) = (WarpGroupDescriptor.Step(rowBytes, depthContiguous), !depthContiguous);
    }

    /// <summary>The text, once.</summary>
    public StringBuilder Text()
    {
        _text.Append($"\tsetp.{(Replaces ? "ne" : "eq")}.b32 p, 0, 0;\n\twgmma.fence.sync.aligned;\n");
        for (int i = 0; i < count; i++)
        {
            if (Replaces && i == 1) _text.Append("\tsetp.eq.b32 p, 0, 0;\n");
            if (i > 0 && FirstInRegisters is null) _text.Append($"\tadd.s64 da, da, {_firstStep};\n");
            if (i > 0) _text.Append($"\tadd.s64 db, db, {_secondStep};\n");
            _text.Append($"\twgmma.mma_async.sync.aligned.m64n{sums.Length * 2}k{Depth}.f32.{element}.{element} {{{string.Join(',', sums)}}}, ")
                .Append(FirstInRegisters is { } registers ? $"{{{string.Join(',', registers[(4 * i)..(4 * i + 4)])}}}, db, p, 1, 1, " : $"da, db, p, 1, 1, {(_firstTransposed ? 1 : 0)}, ")
                .Append($"{(_secondTransposed ? 1 : 0)};\n");
        }
        return _text.Append("\twgmma.commit_group.sync.aligned;\n");
    }
}
