using BgeMetal.Kernels.Cuda;
using BgeMetal.Kernels.Primitives;

namespace BgeMetal.Kernels.Bench;

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
