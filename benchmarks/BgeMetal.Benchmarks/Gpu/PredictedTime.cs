using System.Globalization;
using BgeMetal.Benchmarks.Models;
using BgeMetal.Kernels;
using BgeMetal.Kernels.Bench;
using BgeMetal.Kernels.Runtime;

namespace BgeMetal.Benchmarks.Gpu;

/// <summary>A GPU by its data sheet, and what is assumed of it and of its driver. Predictions, not measurements.</summary>
/// <param name="Name">What it is called.</param>
/// <param name="TensorFlops">Dense bf16 peak.</param>
/// <param name="BytesPerSecond">Memory bandwidth.</param>
internal sealed record PredictedGpu(string Name, double TensorFlops, double BytesPerSecond)
{
    /// <summary>What part of either peak a kernel is taken to reach.</summary>
    public const double Efficiency = 0.6;

    /// <summary>The least that a kernel takes behind another one on a stream, from launch to drained, and in a graph, in microseconds.</summary>
    public const double LeastUs = 2.5, LeastInGraphUs = 1.8;

    /// <summary>The driver's own time on the host: of a launch, of a copy, of a graph, of a wait.</summary>
    public const double LaunchUs = 2.2, CopyUs = 3, ReplayUs = 6, WaitUs = 8;

    /// <summary>H100 SXM and H200 SXM.</summary>
    public static IReadOnlyList<PredictedGpu> All { get; } = [new("H100", 989e12, 3.35e12), new("H200", 989e12, 4.8e12)];
}

/// <summary>The operations of a BERT encoder's pass at some size, each with its cost by the benchmark table's formulas.</summary>
internal sealed class PredictedTime(EncoderShape shape, int sequences, int length)
{
    private const DType Type = DType.BFloat16;
    private readonly List<(double Flops, double Bytes)> _costs = [];

    private int Tokens => sequences * length;

    /// <summary>Operations with a cost.</summary>
    public int Operations => _costs.Count;

    /// <summary>Embedding with CLS pooling and normalisation.</summary>
    public static PredictedTime Forward(EncoderShape shape, int sequences, int length)
    {
        PredictedTime time = new(shape, sequences, length);
        time.AddForward();
        time.Add("NormalizeRows", KernelDirection.Forward, $"B={sequences} D={shape.HiddenSize}");
        return time;
    }

    /// <summary>The same, back again, and an update of all parameters.</summary>
    public static PredictedTime Step(EncoderShape shape, int sequences, int length)
    {
        PredictedTime time = new(shape, sequences, length);
        time.AddForward();
        time.AddBackward();
        long parameters = shape.Parameters().Sum(parameter => parameter.Dimensions.Aggregate(1L, (product, size) => product * size));
        time.Add("GlobalNorm", KernelDirection.Update, $"P={parameters}");
        time.Add("AdamWCast", KernelDirection.Update, $"P={parameters}");
        return time;
    }

    /// <summary>Microseconds on a GPU when it never waits: every operation its roofline time, and every one of the launches at least <paramref name="leastUs"/>.</summary>
    public double GpuUs(PredictedGpu gpu, long launches, double leastUs) => Math.Max(0, launches - Operations) * leastUs
        + _costs.Sum(cost => Math.Max(leastUs, 1e6 * Math.Max(cost.Flops / gpu.TensorFlops, cost.Bytes / gpu.BytesPerSecond) / PredictedGpu.Efficiency));

    private void AddForward()
    {
        int d = shape.HiddenSize, f = shape.IntermediateSize;
        Add("Embedding", KernelDirection.Forward, $"T={Tokens} D={d} U={Math.Min(Tokens, shape.VocabularySize)}");
        Add("LayerNorm", KernelDirection.Forward, Rows(Tokens, d));
        for (int layer = 1; layer < shape.Layers; layer++)
        {
            Add("Linear", KernelDirection.Forward, Product(Tokens, d, 3 * d));
            Add("Attention", KernelDirection.Forward, $"B={sequences} L={length} H={shape.Heads} Dh={shape.HeadSize}");
            AddFeedForward(Tokens);
        }
        Add("Linear", KernelDirection.Forward, Product(Tokens, d, 2 * d));
        Add("Linear", KernelDirection.Forward, Product(sequences, d, d));
        Add("AttentionCls", KernelDirection.Forward, $"B={sequences} L={length} H={shape.Heads} Dh={shape.HeadSize}");
        AddFeedForward(sequences);

        void AddFeedForward(int rows)
        {
            Add("Linear", KernelDirection.Forward, Product(rows, d, d));
            Add("AddLayerNorm", KernelDirection.Forward, Rows(rows, d));
            Add("LinearGelu", KernelDirection.Forward, Product(rows, d, f));
            Add("Linear", KernelDirection.Forward, Product(rows, f, d));
            Add("AddLayerNorm", KernelDirection.Forward, Rows(rows, d));
        }
    }

    private void AddBackward()
    {
        int d = shape.HiddenSize, f = shape.IntermediateSize;
        for (int layer = 1; layer < shape.Layers; layer++)
        {
            AddLinear(Tokens, d, 3 * d);
            Add("Attention", KernelDirection.Backward, $"B={sequences} L={length} H={shape.Heads} Dh={shape.HeadSize}");
            AddFeedForward(Tokens);
        }
        AddLinear(Tokens, d, 2 * d);
        AddLinear(sequences, d, d);
        AddFeedForward(sequences);
        Add("LayerNorm", KernelDirection.Backward, Rows(Tokens, d));
        Add("Embedding", KernelDirection.Backward, $"T={Tokens} D={d} U={Math.Min(Tokens, shape.VocabularySize)}");

        void AddFeedForward(int rows)
        {
            AddLinear(rows, d, d);
            AddLinear(rows, d, f);
            AddLinear(rows, f, d);
            Add("Gelu", KernelDirection.Backward, Rows(rows, f));
            for (int i = 0; i < 2; i++) Add("LayerNorm", KernelDirection.Backward, Rows(rows, d));
        }

        void AddLinear(int rows, int inputs, int outputs)
        {
            Add("LinearInput", KernelDirection.Backward, Product(rows, inputs, outputs));
            Add("LinearWeight", KernelDirection.Backward, Product(rows, inputs, outputs));
            Add("LinearBias", KernelDirection.Backward, Product(rows, inputs, outputs));
        }
    }

    private static string Rows(int rows, int columns) => string.Create(CultureInfo.InvariantCulture, $"T={rows} D={columns}");

    private static string Product(int rows, int inputs, int outputs) => string.Create(CultureInfo.InvariantCulture, $"T={rows} K={inputs} N={outputs}");

    private void Add(string name, KernelDirection direction, string sizes) =>
        _costs.Add(BenchTable.All.Single(op => op.Name == name && op.Direction == direction).Cost(new BenchShape(sizes), Type));
}
