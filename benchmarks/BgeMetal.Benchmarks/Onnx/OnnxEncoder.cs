using Microsoft.ML.OnnxRuntime;

namespace BgeMetal.Benchmarks.Onnx;

/// <summary>
/// One ONNX Runtime session over a model of <see cref="BertGraph"/>: sequential execution, all graph optimisations, a chosen number of threads. Takes jagged token ids and
/// pads them on the right to the longest text of the call.
/// </summary>
internal sealed class OnnxEncoder : IDisposable
{
    private static readonly string[] InputNames = ["input_ids", "attention_mask", "token_type_ids"];

    private readonly SessionOptions options;
    private readonly InferenceSession session;
    private readonly RunOptions runOptions = new();
    private readonly string[] outputNames;
    private long[] ids = [], mask = [], types = [];

    /// <summary>Loads the model.</summary>
    /// <param name="spinning">Whether idle worker threads spin (the package's default) or sleep; spinning threads suffer badly when other processes want the cores. They stop when a
    /// run ends: otherwise they would go on into the time of the contestant that is measured next.</param>
    public OnnxEncoder(string modelPath, int threads, bool spinning)
    {
        options = new()
        {
            IntraOpNumThreads = threads,
            InterOpNumThreads = 1,
            ExecutionMode = ExecutionMode.ORT_SEQUENTIAL,
            GraphOptimizationLevel = GraphOptimizationLevel.ORT_ENABLE_ALL,
        };
        options.AddSessionConfigEntry("session.intra_op.allow_spinning", spinning ? "1" : "0");
        options.AddSessionConfigEntry("session.force_spinning_stop", "1");
        session = new(modelPath, options);
        outputNames = [session.OutputNames[0]];
    }

    /// <summary>The version of the native library.</summary>
    public static string Version => OrtEnv.Instance().GetVersionString();

    /// <summary>What the caller does with one call's output, padded: [texts, sequence, hidden] or, for a CLS model, [texts, hidden].</summary>
    public delegate void OutputReader(ReadOnlySpan<float> output, int paddedLength);

    /// <summary>Runs the texts as one padded batch.</summary>
    /// <param name="tokenTypeIds">Token types by text, or null for all zero.</param>
    public void Run(ReadOnlySpan<int[]> tokenIds, int[][]? tokenTypeIds, OutputReader read)
    {
        int longest = 0;
        foreach (int[] text in tokenIds)
            longest = Math.Max(longest, text.Length);
        int cells = tokenIds.Length * longest;
        if (ids.Length < cells)
            (ids, mask, types) = (new long[cells], new long[cells], new long[cells]);
        Array.Clear(ids, 0, cells);
        Array.Clear(mask, 0, cells);
        Array.Clear(types, 0, cells);
        for (int b = 0; b < tokenIds.Length; b++)
            for (int t = 0; t < tokenIds[b].Length; t++)
            {
                ids[b * longest + t] = tokenIds[b][t];
                mask[b * longest + t] = 1;
                types[b * longest + t] = tokenTypeIds is null ? 0 : tokenTypeIds[b][t];
            }

        long[] dimensions = [tokenIds.Length, longest];
        using OrtValue idValue = Tensor(ids, cells, dimensions);
        using OrtValue maskValue = Tensor(mask, cells, dimensions);
        using OrtValue typeValue = Tensor(types, cells, dimensions);
        using IDisposableReadOnlyCollection<OrtValue> outputs = session.Run(runOptions, InputNames, [idValue, maskValue, typeValue], outputNames);
        read(outputs[0].GetTensorDataAsSpan<float>(), longest);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        session.Dispose();
        runOptions.Dispose();
        options.Dispose();
    }

    private static OrtValue Tensor(long[] values, int count, long[] dimensions) =>
        OrtValue.CreateTensorValueFromMemory(OrtMemoryInfo.DefaultInstance, new Memory<long>(values, 0, count), dimensions);
}
