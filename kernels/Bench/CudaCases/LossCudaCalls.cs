using BgeMetal.Kernels.Cuda;
using BgeMetal.Kernels.Primitives;

namespace BgeMetal.Kernels.Bench;

/// <summary>A contrastive batch: all that either pass needs.</summary>
internal readonly struct ContrastiveOperands<T>(CudaOperands o, BenchShape s) where T : unmanaged, IElement
{
    private const float Temperature = 0.02f;

    private readonly InfoNceShape _shape = new(s["B"], s["G"], s["D"]);
    private readonly DeviceMatrix<T> _q = o.Matrix<T>(s["B"], s["D"], 0.05f), _p = o.Matrix<T>((long)s["B"] * s["G"], s["D"], 0.05f);
    private readonly DevicePointer<FP32> _rowLoss = o.Reserve<FP32>(s["B"]), _log = o.Reserve<FP32>(s["B"]), _loss = o.Reserve<FP32>(1);

    /// <summary>Enqueues the forward pass.</summary>
    public void Forward(bool inBatch) => InfoNce.Forward(o.Device, _shape, _q, _p, Temperature, inBatch, _rowLoss, _log, _loss, o.Workspace);

    /// <summary>Runs the forward pass, makes room for the gradients and returns the backward pass.</summary>
    public Action Backward(bool inBatch)
    {
        Forward(inBatch);
        ContrastiveOperands<T> batch = this;
        CudaOperands operands = o;
        DeviceMatrix<T> dq = o.Matrix<T>(_shape.Queries, _shape.Dim), dp = o.Matrix<T>((long)_shape.Queries * _shape.GroupSize, _shape.Dim);
        return () => InfoNce.Backward(operands.Device, batch._shape, batch._q, batch._p, Temperature, inBatch, batch._log, 1f, dq, false, dp, false, operands.Workspace);
    }
}

/// <summary>The contrastive loss over in-batch negatives.</summary>
internal readonly struct InfoNceForward : ICudaCall
{
    public static Action Prepare<T>(CudaOperands o, BenchShape s) where T : unmanaged, IElement
    {
        ContrastiveOperands<T> batch = new(o, s);
        return () => batch.Forward(inBatch: true);
    }
}

/// <summary>Its gradients.</summary>
internal readonly struct InfoNceGradient : ICudaCall
{
    public static Action Prepare<T>(CudaOperands o, BenchShape s) where T : unmanaged, IElement => new ContrastiveOperands<T>(o, s).Backward(inBatch: true);
}

/// <summary>Each query against its own group.</summary>
internal readonly struct OwnGroupForward : ICudaCall
{
    public static Action Prepare<T>(CudaOperands o, BenchShape s) where T : unmanaged, IElement
    {
        ContrastiveOperands<T> batch = new(o, s);
        return () => batch.Forward(inBatch: false);
    }
}

/// <summary>Its gradients.</summary>
internal readonly struct OwnGroupGradient : ICudaCall
{
    public static Action Prepare<T>(CudaOperands o, BenchShape s) where T : unmanaged, IElement => new ContrastiveOperands<T>(o, s).Backward(inBatch: false);
}

/// <summary>The matrix of similarities.</summary>
internal readonly struct ScoresForward : ICudaCall
{
    public static Action Prepare<T>(CudaOperands o, BenchShape s) where T : unmanaged, IElement
    {
        int b = s["B"], n = b * s["G"], d = s["D"];
        DeviceMatrix<T> q = o.Matrix<T>(b, d, 0.05f), p = o.Matrix<T>(n, d, 0.05f);
        DeviceMatrix<FP32> scores = o.Matrix<FP32>(b, n);
        return () => Scores.Forward(o.Device, b, n, d, q, p, 0.02f, scores);
    }
}

/// <summary>Cross-entropy of groups whose first column is right.</summary>
internal readonly struct GroupsForward : ICudaCall
{
    public static Action Prepare<T>(CudaOperands o, BenchShape s) where T : unmanaged, IElement
    {
        int b = s["B"], g = s["G"];
        DeviceMatrix<T> logits = o.Matrix<T>(b, g, 4);
        DevicePointer<FP32> rowLoss = o.Reserve<FP32>(b), loss = o.Reserve<FP32>(1);
        return () => SoftmaxCrossEntropy.Forward(o.Device, logits, b, g, default, rowLoss, loss);
    }
}

/// <summary>Its gradient.</summary>
internal readonly struct GroupsGradient : ICudaCall
{
    public static Action Prepare<T>(CudaOperands o, BenchShape s) where T : unmanaged, IElement
    {
        int b = s["B"], g = s["G"];
        DeviceMatrix<T> logits = o.Matrix<T>(b, g, 4), dlogits = o.Matrix<T>(b, g);
        return () => SoftmaxCrossEntropy.Backward(o.Device, logits, b, g, default, 1f, dlogits, accumulate: false);
    }
}

/// <summary>Divergence from a teacher's scores.</summary>
internal readonly struct DistillationForward : ICudaCall
{
    public static Action Prepare<T>(CudaOperands o, BenchShape s) where T : unmanaged, IElement
    {
        int b = s["B"], g = s["G"];
        DeviceMatrix<T> scores = o.Matrix<T>(b, g, 4);
        DeviceMatrix<FP32> teacher = o.Matrix<FP32>(b, g, 4);
        DevicePointer<FP32> rowLoss = o.Reserve<FP32>(b), loss = o.Reserve<FP32>(1);
        return () => KlDivergence.Forward(DistillationLoss.Divergence, o.Device, scores, b, g, teacher, g, 1, 1, rowLoss, loss);
    }
}

/// <summary>Its gradient.</summary>
internal readonly struct DistillationGradient : ICudaCall
{
    public static Action Prepare<T>(CudaOperands o, BenchShape s) where T : unmanaged, IElement
    {
        int b = s["B"], g = s["G"];
        DeviceMatrix<T> scores = o.Matrix<T>(b, g, 4), dscores = o.Matrix<T>(b, g);
        DeviceMatrix<FP32> teacher = o.Matrix<FP32>(b, g, 4);
        return () => KlDivergence.Backward(DistillationLoss.Divergence, o.Device, scores, b, g, teacher, g, 1, 1, 1f, dscores, accumulate: false);
    }
}

/// <summary>A column of scores as groups.</summary>
internal readonly struct RegroupForward : ICudaCall
{
    public static Action Prepare<T>(CudaOperands o, BenchShape s) where T : unmanaged, IElement
    {
        int b = s["B"], g = s["G"];
        DeviceMatrix<T> scores = o.Matrix<T>((long)b * g, 1), groups = o.Matrix<T>(b, g);
        return () => Regroup.Forward(o.Device, scores, b, g, groups);
    }
}

/// <summary>And back.</summary>
internal readonly struct RegroupGradient : ICudaCall
{
    public static Action Prepare<T>(CudaOperands o, BenchShape s) where T : unmanaged, IElement
    {
        int b = s["B"], g = s["G"];
        DeviceMatrix<T> dscores = o.Matrix<T>((long)b * g, 1), dgroups = o.Matrix<T>(b, g);
        return () => Regroup.Backward(o.Device, dgroups, b, g, dscores, accumulate: false);
    }
}

/// <summary>Rows by index.</summary>
internal readonly struct RowsGather : ICudaCall
{
    public static Action Prepare<T>(CudaOperands o, BenchShape s) where T : unmanaged, IElement
    {
        int t = s["T"], d = s["D"];
        DeviceMatrix<T> x = o.Matrix<T>(t, d), y = o.Matrix<T>(t, d);
        DevicePointer<int> indices = o.Integers(t, 7919, t);
        return () => Rows.Gather(o.Device, x, indices, t, d, y, accumulate: false);
    }
}

/// <summary>y += x.</summary>
internal readonly struct MatrixSum : ICudaCall
{
    public static Action Prepare<T>(CudaOperands o, BenchShape s) where T : unmanaged, IElement
    {
        int t = s["T"], d = s["D"];
        DeviceMatrix<T> x = o.Matrix<T>(t, d), y = o.Matrix<T>(t, d);
        return () => AddScaled.Run(o.Device, x, t, d, 1f, accumulate: true, y);
    }
}
