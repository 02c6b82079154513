using BgeMetal.Kernels.Cuda;
using BgeMetal.Kernels.Primitives;

namespace BgeMetal.Kernels.Bench;

/// <summary>Contrastive loss with in-batch negatives.</summary>
internal readonly struct InfoNceForward : ICudaCall
{
    /// <summary>The usual temperature.</summary>
    public const float Temperature = 0.02f;

    public static Action Prepare<T>(CudaOperands o, BenchShape s) where T : unmanaged, IElement
    {
        InfoNceShape shape = new(s["B"], s["G"], s["D"]);
        DeviceMatrix<T> q = o.Matrix<T>(shape.Queries, shape.Dim, 0.05f), p = o.Matrix<T>((long)shape.Queries * shape.GroupSize, shape.Dim, 0.05f);
        DevicePointer<FP32> rows = o.Values<FP32>(shape.Queries), log = o.Values<FP32>(shape.Queries), loss = o.Values<FP32>(1);
        return () => InfoNce.Forward(o.Device, shape, q, p, Temperature, inBatch: true, rows, log, loss, o.Workspace);
    }
}

/// <summary>Both gradients of the contrastive loss.</summary>
internal readonly struct InfoNceGradient : ICudaCall
{
    public static Action Prepare<T>(CudaOperands o, BenchShape s) where T : unmanaged, IElement
    {
        InfoNceShape shape = new(s["B"], s["G"], s["D"]);
        long passages = (long)shape.Queries * shape.GroupSize;
        DeviceMatrix<T> q = o.Matrix<T>(shape.Queries, shape.Dim, 0.05f), p = o.Matrix<T>(passages, shape.Dim, 0.05f), dq = o.Matrix<T>(shape.Queries, shape.Dim), dp = o.Matrix<T>(passages, shape.Dim);
        DevicePointer<FP32> log = o.Positive<FP32>(shape.Queries);
        return () => InfoNce.Backward(o.Device, shape, q, p, InfoNceForward.Temperature, inBatch: true, log, 1f, dq, false, dp, false, o.Workspace);
    }
}

/// <summary>Masked-LM loss over the vocabulary, every row labelled.</summary>
internal readonly struct VocabularyLoss : ICudaCall
{
    public static Action Prepare<T>(CudaOperands o, BenchShape s) where T : unmanaged, IElement
    {
        LinearCrossEntropyShape shape = new(s["T"], s["D"], s["V"]);
        DeviceMatrix<T> x = o.Matrix<T>(shape.Rows, shape.Dim), weight = o.Matrix<T>(shape.Vocabulary, shape.Dim, 0.05f);
        DevicePointer<T> bias = o.Values<T>(shape.Vocabulary);
        DevicePointer<int> labels = o.Integers(shape.Rows, 7919, shape.Vocabulary);
        DevicePointer<FP32> rows = o.Values<FP32>(shape.Rows), log = o.Values<FP32>(shape.Rows), result = o.Values<FP32>(LinearCrossEntropy.ResultLength);
        return () => LinearCrossEntropy.Forward(o.Device, shape, x, weight, bias, labels, rows, log, result, o.Workspace);
    }
}

/// <summary>Its gradients for input, table and bias.</summary>
internal readonly struct VocabularyGradient : ICudaCall
{
    public static Action Prepare<T>(CudaOperands o, BenchShape s) where T : unmanaged, IElement
    {
        LinearCrossEntropyShape shape = new(s["T"], s["D"], s["V"]);
        DeviceMatrix<T> x = o.Matrix<T>(shape.Rows, shape.Dim), weight = o.Matrix<T>(shape.Vocabulary, shape.Dim, 0.05f), dx = o.Matrix<T>(shape.Rows, shape.Dim);
        DeviceMatrix<FP32> dWeight = o.Matrix<FP32>(shape.Vocabulary, shape.Dim);
        DevicePointer<T> bias = o.Values<T>(shape.Vocabulary);
        DevicePointer<int> labels = o.Integers(shape.Rows, 7919, shape.Vocabulary);
        DevicePointer<FP32> log = o.Positive<FP32>(shape.Rows), result = o.Positive<FP32>(LinearCrossEntropy.ResultLength), dBias = o.Values<FP32>(shape.Vocabulary);
        return () => LinearCrossEntropy.Backward(o.Device, shape, x, weight, bias, labels, log, result, default, dx, false, dWeight, dBias, o.Workspace);
    }
}

/// <summary>Cross-entropy of groups, the first column being right.</summary>
internal readonly struct GroupLoss : ICudaCall
{
    public static Action Prepare<T>(CudaOperands o, BenchShape s) where T : unmanaged, IElement
    {
        int b = s["B"], g = s["G"];
        DeviceMatrix<T> logits = o.Matrix<T>(b, g);
        DevicePointer<FP32> rows = o.Values<FP32>(b), loss = o.Values<FP32>(1);
        return () => SoftmaxCrossEntropy.Forward(o.Device, logits, b, g, default, rows, loss);
    }
}

/// <summary>Its gradient.</summary>
internal readonly struct GroupGradient : ICudaCall
{
    public static Action Prepare<T>(CudaOperands o, BenchShape s) where T : unmanaged, IElement
    {
        int b = s["B"], g = s["G"];
        DeviceMatrix<T> logits = o.Matrix<T>(b, g), dlogits = o.Matrix<T>(b, g);
        return () => SoftmaxCrossEntropy.Backward(o.Device, logits, b, g, default, 1f, dlogits, false);
    }
}

/// <summary>Divergence from a teacher's groups.</summary>
internal readonly struct DistillationForward : ICudaCall
{
    public static Action Prepare<T>(CudaOperands o, BenchShape s) where T : unmanaged, IElement
    {
        int b = s["B"], g = s["G"];
        DeviceMatrix<T> scores = o.Matrix<T>(b, g);
        DeviceMatrix<FP32> teacher = o.Matrix<FP32>(b, g);
        DevicePointer<FP32> rows = o.Values<FP32>(b), loss = o.Values<FP32>(1);
        return () => KlDivergence.Forward(DistillationLoss.Divergence, o.Device, scores, b, g, teacher, g, 1, 1, rows, loss);
    }
}

/// <summary>Its gradient.</summary>
internal readonly struct DistillationGradient : ICudaCall
{
    public static Action Prepare<T>(CudaOperands o, BenchShape s) where T : unmanaged, IElement
    {
        int b = s["B"], g = s["G"];
        DeviceMatrix<T> scores = o.Matrix<T>(b, g), dscores = o.Matrix<T>(b, g);
        DeviceMatrix<FP32> teacher = o.Matrix<FP32>(b, g);
        return () => KlDivergence.Backward(DistillationLoss.Divergence, o.Device, scores, b, g, teacher, g, 1, 1, 1f, dscores, false);
    }
}

/// <summary>The ten best of a corpus for each query, from nothing to the results.</summary>
internal readonly struct NearestRows : ICudaCall
{
    private const int Neighbours = 10;

    public static Action Prepare<T>(CudaOperands o, BenchShape s) where T : unmanaged, IElement
    {
        TopKShape shape = new(s["B"], s["D"], Neighbours);
        int n = s["N"];
        DeviceMatrix<T> queries = o.Matrix<T>(shape.Queries, shape.Dim), corpus = o.Matrix<T>(n, shape.Dim);
        DevicePointer<long> state = o.Reserve<long>(TopK.StateLength(shape)), rows = o.Reserve<long>((long)shape.Queries * Neighbours);
        DevicePointer<FP32> scores = o.Values<FP32>((long)shape.Queries * Neighbours);
        return () =>
        {
            TopK.Begin(o.Device, shape, state);
            TopK.Add(o.Device, shape, queries, corpus, n, 0, state, o.Workspace);
            TopK.Finish(o.Device, shape, state, rows, scores);
        };
    }
}
