using BgeMetal.Kernels.Cuda;
using BgeMetal.Kernels.Primitives;

namespace BgeMetal.Kernels.Bench;

/// <summary>Word, position and type rows added.</summary>
internal readonly struct EmbeddingForward : ICudaCall
{
    private const int Positions = 512;

    public static Action Prepare<T>(CudaOperands o, BenchShape s) where T : unmanaged, IElement
    {
        int t = s["T"], d = s["D"];
        DevicePointer<int> ids = o.Integers(t, 7919, s["U"]), positions = o.Integers(t, 1, Positions), types = o.Integers(t, 0);
        DevicePointer<T> word = o.Values<T>((long)s["U"] * d), position = o.Values<T>((long)Positions * d), type = o.Values<T>(d);
        DeviceMatrix<T> y = o.Matrix<T>(t, d);
        return () => Embedding.Forward(o.Device, ids, positions, types, t, word, position, type, d, y);
    }
}

/// <summary>The word table's gradient; the plan is made on the host, once a batch.</summary>
internal readonly struct EmbeddingGradient : ICudaCall
{
    public static Action Prepare<T>(CudaOperands o, BenchShape s) where T : unmanaged, IElement
    {
        int t = s["T"], d = s["D"], u = s["U"];
        int[] ids = [.. Enumerable.Range(0, t).Select(i => (int)(i * 7919L % u))];
        EmbeddingGradientPlan plan = EmbeddingGradientPlan.Build(ids, u);
        EmbeddingGradientOrder order = plan.At(o.Upload(plan.All));
        DeviceMatrix<T> dy = o.Matrix<T>(t, d, 0.01f);
        DevicePointer<FP32> table = o.Values<FP32>((long)u * d);
        return () => Embedding.Backward(o.Device, dy, order, d, table, o.Workspace);
    }
}

/// <summary>y = LayerNorm(x), with its statistics.</summary>
internal readonly struct LayerNormForward : ICudaCall
{
    public static Action Prepare<T>(CudaOperands o, BenchShape s) where T : unmanaged, IElement
    {
        int t = s["T"], d = s["D"];
        DeviceMatrix<T> x = o.Matrix<T>(t, d), y = o.Matrix<T>(t, d);
        DevicePointer<T> gamma = o.Values<T>(d), beta = o.Values<T>(d);
        DevicePointer<FP32> mean = o.Values<FP32>(t), rstd = o.Positive<FP32>(t);
        return () => LayerNorm.Forward(o.Device, x, t, d, gamma, beta, 1e-12f, y, mean, rstd);
    }
}

/// <summary>y = LayerNorm(x + residual), with the sum and the statistics.</summary>
internal readonly struct AddLayerNorm : ICudaCall
{
    public static Action Prepare<T>(CudaOperands o, BenchShape s) where T : unmanaged, IElement => Prepare<T>(o, s, default);

    /// <summary>The same with dropout in front of the addition.</summary>
    public static Action Prepare<T>(CudaOperands o, BenchShape s, DropoutMask mask) where T : unmanaged, IElement
    {
        int t = s["T"], d = s["D"];
        DeviceMatrix<T> x = o.Matrix<T>(t, d), residual = o.Matrix<T>(t, d), sum = o.Matrix<T>(t, d), y = o.Matrix<T>(t, d);
        DevicePointer<T> gamma = o.Values<T>(d), beta = o.Values<T>(d);
        DevicePointer<FP32> mean = o.Values<FP32>(t), rstd = o.Positive<FP32>(t);
        return () => LayerNorm.AddForward(o.Device, x, mask, residual, t, d, gamma, beta, 1e-12f, sum, y, mean, rstd);
    }
}

/// <summary>y = LayerNorm(dropout(x) + residual).</summary>
internal readonly struct DropoutAddLayerNorm : ICudaCall
{
    public static Action Prepare<T>(CudaOperands o, BenchShape s) where T : unmanaged, IElement => AddLayerNorm.Prepare<T>(o, s, DropoutForward.Mask(o));
}

/// <summary>dx, dgamma and dbeta.</summary>
internal readonly struct LayerNormGradient : ICudaCall
{
    public static Action Prepare<T>(CudaOperands o, BenchShape s) where T : unmanaged, IElement
    {
        int t = s["T"], d = s["D"];
        DeviceMatrix<T> dy = o.Matrix<T>(t, d), x = o.Matrix<T>(t, d), dx = o.Matrix<T>(t, d);
        DevicePointer<T> gamma = o.Values<T>(d);
        DevicePointer<FP32> mean = o.Values<FP32>(t), rstd = o.Positive<FP32>(t), dgamma = o.Values<FP32>(d), dbeta = o.Values<FP32>(d);
        return () => LayerNorm.Backward(o.Device, dy, x, t, d, gamma, mean, rstd, false, dx, default, default, dgamma, dbeta, o.Workspace);
    }
}

/// <summary>y = dropout(x).</summary>
internal readonly struct DropoutForward : ICudaCall
{
    public static Action Prepare<T>(CudaOperands o, BenchShape s) where T : unmanaged, IElement
    {
        int t = s["T"], d = s["D"];
        DeviceMatrix<T> x = o.Matrix<T>(t, d), y = o.Matrix<T>(t, d);
        DropoutMask mask = Mask(o);
        return () => Dropout.Apply(o.Device, x, t, d, mask, y);
    }

    /// <summary>A tenth is dropped.</summary>
    public static DropoutMask Mask(CudaOperands o) => new(0.1f, o.Integers(2, 12345), 0);
}

/// <summary>The mean of each sequence's rows.</summary>
internal readonly struct MeanPooling : ICudaCall
{
    public static Action Prepare<T>(CudaOperands o, BenchShape s) where T : unmanaged, IElement
    {
        int b = s["B"], l = s["L"], d = s["D"];
        DeviceMatrix<T> x = o.Matrix<T>((long)b * l, d), y = o.Matrix<T>(b, d);
        DevicePointer<int> cu = o.Integers(b + 1, l);
        return () => Pooling.Mean(o.Device, x, cu, b, d, y);
    }
}

/// <summary>Its gradient.</summary>
internal readonly struct MeanPoolingGradient : ICudaCall
{
    public static Action Prepare<T>(CudaOperands o, BenchShape s) where T : unmanaged, IElement
    {
        int b = s["B"], l = s["L"], d = s["D"];
        DeviceMatrix<T> dx = o.Matrix<T>((long)b * l, d), dy = o.Matrix<T>(b, d);
        DevicePointer<int> cu = o.Integers(b + 1, l);
        return () => Pooling.MeanBackward(o.Device, dy, cu, b, d, dx);
    }
}

/// <summary>Unit rows.</summary>
internal readonly struct Normalize : ICudaCall
{
    public static Action Prepare<T>(CudaOperands o, BenchShape s) where T : unmanaged, IElement
    {
        int b = s["B"], d = s["D"];
        DeviceMatrix<T> x = o.Matrix<T>(b, d), y = o.Matrix<T>(b, d);
        return () => NormalizeRows.Forward(o.Device, x, b, d, y);
    }
}

/// <summary>Their gradient.</summary>
internal readonly struct NormalizeGradient : ICudaCall
{
    public static Action Prepare<T>(CudaOperands o, BenchShape s) where T : unmanaged, IElement
    {
        int b = s["B"], d = s["D"];
        DeviceMatrix<T> x = o.Matrix<T>(b, d), dy = o.Matrix<T>(b, d), dx = o.Matrix<T>(b, d);
        return () => NormalizeRows.Backward(o.Device, dy, x, b, d, dx);
    }
}

/// <summary>One step over all parameters; in a low-precision type the rounded copy is written as well.</summary>
internal readonly struct AdamWStep : ICudaCall
{
    public static Action Prepare<T>(CudaOperands o, BenchShape s) where T : unmanaged, IElement
    {
        int p = s["P"];
        AdamWState state = new(o.Values<FP32>(p), o.Values<FP32>(p, 0.01f), o.Values<FP32>(p, 0.01f), o.Positive<FP32>(p), p, o.Upload<int>([p]), o.Upload<int>([1]), 1);
        AdamWOptions options = new(Beta1: 0.9);
        DevicePointer<FP32> schedule = o.Upload<FP32>([new(1e-5f), new(2), new(2)]), norm = o.Upload<FP32>([new(1), new(1), new(0)]);
        DevicePointer<T> copy = T.SizeShift == 1 ? o.Reserve<T>(p) : default;
        return () => AdamW.Step(o.Device, state, options, schedule, norm, copy);
    }
}

/// <summary>The norm of all gradients.</summary>
internal readonly struct GradientNorm : ICudaCall
{
    public static Action Prepare<T>(CudaOperands o, BenchShape s) where T : unmanaged, IElement
    {
        int p = s["P"];
        DevicePointer<FP32> gradients = o.Values<FP32>(p), result = o.Reserve<FP32>(3);
        return () => GlobalNorm.Compute(o.Device, gradients, p, default, 1, result, o.Workspace);
    }
}

/// <summary>binary32 to the low-precision type.</summary>
internal readonly struct CastDown : ICudaCall
{
    public static Action Prepare<T>(CudaOperands o, BenchShape s) where T : unmanaged, IElement
    {
        int p = s["P"];
        DevicePointer<FP32> source = o.Values<FP32>(p);
        DevicePointer<T> target = o.Reserve<T>(p);
        // Two of the three instantiations exist; the table asks for no other.
        return typeof(T) == typeof(BF16) ? () => Cast.Convert<FP32, BF16>(o.Device, source, target.Cast<BF16>(), p)
            : () => Cast.Convert<FP32, FP16>(o.Device, source, target.Cast<FP16>(), p);
    }
}
