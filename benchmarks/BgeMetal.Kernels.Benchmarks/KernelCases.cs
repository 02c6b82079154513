using BgeMetal.Kernels.Cpu;

namespace BgeMetal.Kernels.Benchmarks;

/// <summary>Kernel calls with their operands, shared by the quick run and by BenchmarkDotNet. Operands are random and in native memory.</summary>
internal abstract unsafe class KernelCase : IDisposable
{
    private readonly List<NativeBuffer> _buffers = [];
    private readonly Random _random = new(1);

    /// <summary>The operation's stem.</summary>
    public abstract string Op { get; }

    public abstract string Shape { get; }

    /// <summary>The pass: forward or backward.</summary>
    public virtual string Mode => "forward";

    /// <summary>Floating-point operations of one call; 0 where bytes are what counts.</summary>
    public abstract double Flops { get; }

    /// <summary>Bytes of operands and results of one call.</summary>
    public abstract double Bytes { get; }

    public abstract void Run(WorkerTeam team);

    public void Dispose()
    {
        foreach (NativeBuffer buffer in _buffers) buffer.Dispose();
    }

    protected float* Floats(long count, float scale = 1)
    {
        NativeBuffer buffer = NativeBuffer.OfFloats(count);
        _buffers.Add(buffer);
        for (long i = 0; i < count; i++) buffer.Floats[i] = ((_random.NextSingle() * 2) - 1) * scale;
        return buffer.Floats;
    }

    protected int* Offsets(int sequences, int length)
    {
        NativeBuffer buffer = new((sequences + 1) * sizeof(int));
        _buffers.Add(buffer);
        for (int i = 0; i <= sequences; i++) ((int*)buffer.Bytes)[i] = i * length;
        return (int*)buffer.Bytes;
    }
}

internal sealed unsafe class LinearCase : KernelCase
{
    private readonly int _m, _k, _n;
    private readonly LinearEpilogue _epilogue;
    private readonly float* _x, _packed, _bias, _residual, _y;

    public LinearCase(int m, int k, int n, LinearEpilogue epilogue)
    {
        (_m, _k, _n, _epilogue) = (m, k, n, epilogue);
        _x = Floats((long)m * (k + 16));
        _packed = Floats(PackedMatrix.Length(n, k), 0.05f);
        _bias = Floats(n + 32);
        _residual = Floats((long)m * (n + 16));
        _y = Floats((long)m * (n + 16));
    }

    public override string Op => _epilogue == LinearEpilogue.None ? "Linear" : $"Linear{_epilogue}";

    public override string Shape => $"M={_m} K={_k} N={_n}";

    public override double Flops => 2.0 * _m * _k * _n;

    public override double Bytes => 4.0 * (((double)_m * _k) + ((double)_k * _n) + ((double)_m * _n));

    public override void Run(WorkerTeam team) =>
        Linear.Forward(team, _x, _k + 16, _m, _k, _packed, _bias, _n, _epilogue, _residual, _n + 16, _y, _n + 16);
}

internal sealed unsafe class AttentionCase : KernelCase
{
    private readonly int _sequences, _length, _heads, _headDim, _queries;
    private readonly float* _qkv, _y;
    private readonly int* _cuQ, _cuK;

    public AttentionCase(int sequences, int length, int heads, int headDim, bool clsOnly = false)
    {
        (_sequences, _length, _heads, _headDim, _queries) = (sequences, length, heads, headDim, clsOnly ? 1 : length);
        _qkv = Floats((long)sequences * length * ((3 * Width) + 16));
        _y = Floats((long)sequences * length * (Width + 16));
        _cuQ = Offsets(sequences, _queries);
        _cuK = Offsets(sequences, length);
    }

    public override string Op => "Attention";

    public override string Shape => $"B={_sequences} Lq={_queries} L={_length} H={_heads} Dh={_headDim}";

    public override double Flops => 4.0 * _sequences * _queries * _length * Width;

    public override double Bytes => 4.0 * _sequences * ((2.0 * _length) + (2 * _queries)) * Width;

    private int Width => _heads * _headDim;

    public override void Run(WorkerTeam team)
    {
        int stride = (3 * Width) + 16;
        Attention.Forward(team, _qkv, stride, _qkv + Width, stride, _qkv + (2 * Width), stride, _cuQ, _cuK, _sequences, _heads, _headDim,
            1 / MathF.Sqrt(_headDim), _y, Width + 16, null);
    }
}

internal sealed unsafe class LayerNormCase : KernelCase
{
    private readonly int _rows, _hidden;
    private readonly float* _x, _residual, _gamma, _y;

    public LayerNormCase(int rows, int hidden)
    {
        (_rows, _hidden) = (rows, hidden);
        _x = Floats((long)rows * (hidden + 16));
        _residual = Floats((long)rows * (hidden + 16));
        _gamma = Floats(hidden);
        _y = Floats((long)rows * (hidden + 16));
    }

    public override string Op => "AddLayerNorm";

    public override string Shape => $"T={_rows} D={_hidden}";

    public override double Flops => 0;

    public override double Bytes => 12.0 * _rows * _hidden;

    public override void Run(WorkerTeam team) => LayerNorm.AddForward(
        team, _x, _hidden + 16, _residual, _hidden + 16, _rows, _hidden, _gamma, _gamma, 1e-12f, null, 0, _y, _hidden + 16, null, null);
}

internal sealed unsafe class ElementwiseCase<TFunction> : KernelCase where TFunction : struct, Simd.ILaneFunction
{
    private readonly int _rows, _columns;
    private readonly float* _x;

    public ElementwiseCase(int rows, int columns)
    {
        (_rows, _columns) = (rows, columns);
        _x = Floats((long)rows * columns);
    }

    public override string Op => typeof(TFunction).Name.Replace("Function", "", StringComparison.Ordinal);

    public override string Shape => $"{_rows}x{_columns}";

    public override double Flops => 0;

    public override double Bytes => 8.0 * _rows * _columns;

    public override void Run(WorkerTeam team) => Simd.Elementwise.Apply<TFunction>(_x, _columns, _rows, _columns);
}

internal sealed unsafe class TopKCase : KernelCase
{
    private readonly int _m, _dim, _k;
    private readonly long _rows;
    private readonly float* _queries, _corpus, _scores;
    private readonly long* _indices;

    public TopKCase(int m, long rows, int dim, int k)
    {
        (_m, _rows, _dim, _k) = (m, rows, dim, k);
        _queries = Floats((long)m * dim);
        _corpus = Floats(rows * dim);
        _scores = Floats((long)m * k);
        _indices = (long*)Floats((long)m * k * 2);
    }

    public override string Op => "TopK";

    public override string Shape => $"M={_m} N={_rows} D={_dim} k={_k}";

    public override double Flops => 2.0 * _m * _rows * _dim;

    public override double Bytes => 4.0 * _rows * _dim;

    public override void Run(WorkerTeam team) => TopK.Search(team, _queries, _dim, _m, _dim, _corpus, _dim, _rows, _k, _indices, _scores);
}

/// <summary>Reading memory once and doing nothing with it: the ceiling of a single-query search.</summary>
internal sealed unsafe class ReadCase : KernelCase
{
    private readonly long _count;
    private readonly float* _data;

    public ReadCase(long count)
    {
        _count = count;
        _data = Floats(count);
    }

    public override string Op => "Read";

    public override string Shape => $"{_count * 4 >> 20} MiB";

    public override double Flops => 0;

    public override double Bytes => 4.0 * _count;

    public override void Run(WorkerTeam team)
    {
        ReadJob job = new() { Data = _data, Count = _count / team.Threads };
        team.Run(ref job, team.Threads);
    }

    private struct ReadJob : ITeamJob
    {
        public float* Data;
        public long Count;

        public readonly void Execute(int part, int worker) => Sum(Data + (part * Count), Count);

        [System.Runtime.CompilerServices.MethodImpl(System.Runtime.CompilerServices.MethodImplOptions.AggressiveOptimization)]
        private static void Sum(float* data, long count)
        {
            System.Runtime.Intrinsics.Vector256<float> a = default, b = default, c = default, d = default;
            for (long i = 0; i <= count - 32; i += 32)
            {
                a += System.Runtime.Intrinsics.Vector256.Load(data + i);
                b += System.Runtime.Intrinsics.Vector256.Load(data + i + 8);
                c += System.Runtime.Intrinsics.Vector256.Load(data + i + 16);
                d += System.Runtime.Intrinsics.Vector256.Load(data + i + 24);
            }
            if (System.Runtime.Intrinsics.Vector256.Sum(a + b + c + d) == 0.12345f) throw new InvalidOperationException("unlikely");
        }
    }
}
