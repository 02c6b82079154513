using BgeMetal.Kernels.Cuda;
using BgeMetal.Kernels.Primitives;

namespace BgeMetal.Kernels.Bench;

/// <summary>Attention over sequences of equal length, queries, keys and values side by side as the fused projection leaves them.</summary>
internal readonly struct AttentionForward : ICudaCall
{
    public static Action Prepare<T>(CudaOperands o, BenchShape s) where T : unmanaged, IElement => Prepare<T>(o, s, default, training: false);

    /// <summary>The same with dropout, with logSumExp for the backward pass, or with sequences of all lengths.</summary>
    public static Action Prepare<T>(CudaOperands o, BenchShape s, DropoutMask dropout, bool training, bool ragged = false) where T : unmanaged, IElement
    {
        AttentionOperands<T> a = new(o, s, ragged);
        DeviceMatrix<T> output = o.Matrix<T>(a.Shape.Queries, a.Width);
        DevicePointer<FP32> log = training ? o.Values<FP32>((long)a.Shape.Heads * a.Shape.Queries) : default;
        return () => Attention.Forward(o.Device, a.Shape, a.Q, a.K, a.V, a.Offsets, a.Offsets, dropout, default, output, log);
    }
}

/// <summary>With dropout and logSumExp, as in training.</summary>
internal readonly struct AttentionDropoutForward : ICudaCall
{
    public static Action Prepare<T>(CudaOperands o, BenchShape s) where T : unmanaged, IElement => AttentionForward.Prepare<T>(o, s, DropoutForward.Mask(o), training: true);
}

/// <summary>Sequences of all lengths up to L.</summary>
internal readonly struct RaggedAttentionForward : ICudaCall
{
    public static Action Prepare<T>(CudaOperands o, BenchShape s) where T : unmanaged, IElement => AttentionForward.Prepare<T>(o, s, default, training: true, ragged: true);
}

/// <summary>Every query sees a random half of the keys.</summary>
internal readonly struct MaskedAttentionForward : ICudaCall
{
    public static Action Prepare<T>(CudaOperands o, BenchShape s) where T : unmanaged, IElement
    {
        AttentionOperands<T> a = new(o, s);
        DeviceMatrix<T> output = o.Matrix<T>(a.Shape.Queries, a.Width);
        DevicePointer<FP32> log = o.Values<FP32>((long)a.Shape.Heads * a.Shape.Queries);
        VisibleKeys visible = a.RandomHalf(o);
        DropoutMask dropout = DropoutForward.Mask(o);
        return () => Attention.Forward(o.Device, a.Shape, a.Q, a.K, a.V, a.Offsets, a.Offsets, dropout, visible, output, log);
    }
}

/// <summary>The gradients of queries, keys and values.</summary>
internal readonly struct AttentionGradient : ICudaCall
{
    public static Action Prepare<T>(CudaOperands o, BenchShape s) where T : unmanaged, IElement => Prepare<T>(o, s, default, masked: false);

    /// <summary>The same with dropout, with a random half of the keys hidden, or with sequences of all lengths.</summary>
    public static Action Prepare<T>(CudaOperands o, BenchShape s, DropoutMask dropout, bool masked, bool ragged = false) where T : unmanaged, IElement
    {
        AttentionOperands<T> a = new(o, s, ragged), gradients = new(o, s, ragged);
        DeviceMatrix<T> output = o.Matrix<T>(a.Shape.Queries, a.Width), dy = o.Matrix<T>(a.Shape.Queries, a.Width);
        long rows = (long)a.Shape.Heads * a.Shape.Queries;
        DevicePointer<FP32> log = o.Values<FP32>(rows), delta = o.Values<FP32>(rows);
        VisibleKeys visible = masked ? a.RandomHalf(o) : default;
        Attention.Forward(o.Device, a.Shape, a.Q, a.K, a.V, a.Offsets, a.Offsets, dropout, visible, output, log);
        return () => Attention.Backward(o.Device, a.Shape, a.Q, a.K, a.V, a.Offsets, a.Offsets, dropout, visible, output, log, dy, gradients.Q, gradients.K, gradients.V, delta);
    }
}

/// <summary>With dropout.</summary>
internal readonly struct AttentionDropoutGradient : ICudaCall
{
    public static Action Prepare<T>(CudaOperands o, BenchShape s) where T : unmanaged, IElement => AttentionGradient.Prepare<T>(o, s, DropoutForward.Mask(o), masked: false);
}

/// <summary>Sequences of all lengths up to L.</summary>
internal readonly struct RaggedAttentionGradient : ICudaCall
{
    public static Action Prepare<T>(CudaOperands o, BenchShape s) where T : unmanaged, IElement => AttentionGradient.Prepare<T>(o, s, default, masked: false, ragged: true);
}

/// <summary>With dropout and a random half of the keys hidden.</summary>
internal readonly struct MaskedAttentionGradient : ICudaCall
{
    public static Action Prepare<T>(CudaOperands o, BenchShape s) where T : unmanaged, IElement => AttentionGradient.Prepare<T>(o, s, DropoutForward.Mask(o), masked: true);
}

/// <summary>What all of them read.</summary>
internal readonly struct AttentionOperands<T> where T : unmanaged, IElement
{
    public AttentionOperands(CudaOperands o, BenchShape s, bool ragged = false)
    {
        int sequences = s["B"], length = s["L"], heads = s["H"], headDim = s["Dh"];
        Width = heads * headDim;
        int[] offsets = new int[sequences + 1];
        for (int i = 0; i < sequences; i++) offsets[i + 1] = checked(offsets[i] + (ragged ? RaggedLength(i, length) : length));
        Shape = new(sequences, offsets[^1], length, length, heads, headDim, 1 / MathF.Sqrt(headDim));
        DevicePointer<T> rows = o.Values<T>(3L * Shape.Queries * Width);
        (Q, K, V) = (Part(rows, 0), Part(rows, 1), Part(rows, 2));
        Offsets = o.Upload<int>(offsets);
    }

    /// <summary>Lengths from 1 to <paramref name="longest"/>, evenly spread and without order (Knuth's multiplicative hash): a peer can compute the same.</summary>
    public static int RaggedLength(int index, int longest) => 1 + (int)((long)(uint)(index * 2654435761L) * longest >> 32);

    public AttentionShape Shape { get; }

    public int Width { get; }

    public DeviceMatrix<T> Q { get; }

    public DeviceMatrix<T> K { get; }

    public DeviceMatrix<T> V { get; }

    public DevicePointer<int> Offsets { get; }

    /// <summary>The bits of a choice of keys.</summary>
    public VisibleKeys RandomHalf(CudaOperands o)
    {
        int words = (Shape.LongestKeys + 63) / 64 * Shape.LongestKeys;
        byte[] bits = new byte[8L * words * Shape.Sequences];
        new Random(1).NextBytes(bits);
        return new(new(o.Upload<byte>(bits).Address), o.Integers(Shape.Sequences, words));
    }

    private DeviceMatrix<T> Part(DevicePointer<T> rows, int index) => new(new(rows.Address + ((long)index * Width << T.SizeShift)), 3 * Width);
}
