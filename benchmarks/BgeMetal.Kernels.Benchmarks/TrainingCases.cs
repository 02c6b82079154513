using BgeMetal.Kernels.Cpu;

namespace BgeMetal.Kernels.Benchmarks;

/// <summary>dW += dY^T X, beside <see cref="LinearCase"/> of the same shape.</summary>
internal sealed unsafe class LinearWeightCase : KernelCase
{
    private readonly int _m, _k, _n;
    private readonly float* _x, _dy, _dw;

    public LinearWeightCase(int m, int k, int n)
    {
        (_m, _k, _n) = (m, k, n);
        _x = Floats((long)m * (k + 16));
        _dy = Floats((long)m * (n + 16), 0.01f);
        _dw = Floats((long)n * k);
    }

    public override string Op => "LinearWeight";

    public override string Mode => "backward";

    public override string Shape => $"M={_m} K={_k} N={_n}";

    public override double Flops => 2.0 * _m * _k * _n;

    public override double Bytes => 4.0 * (((double)_m * _k) + (2.0 * _k * _n) + ((double)_m * _n));

    public override void Run(WorkerTeam team) => LinearBackward.Weight(team, _dy, _n + 16, _x, _k + 16, _m, _n, _k, _dw, _k);
}

/// <summary>Attention in training: the forward pass with dropout, or the backward pass, with dropout or without.</summary>
internal sealed unsafe class AttentionTrainingCase : KernelCase
{
    private readonly int _sequences, _length, _heads, _headDim;
    private readonly bool _backward;
    private readonly float _dropout;
    private readonly float* _qkv, _y, _dy, _dqkv, _log;
    private readonly int* _cu;

    public AttentionTrainingCase(int sequences, int length, int heads, int headDim, bool backward, float dropout)
    {
        (_sequences, _length, _heads, _headDim, _backward, _dropout) = (sequences, length, heads, headDim, backward, dropout);
        long tokens = (long)sequences * length;
        _qkv = Floats(tokens * ((3 * Width) + 16));
        _dqkv = Floats(tokens * ((3 * Width) + 16));
        _y = Floats(tokens * (Width + 16));
        _dy = Floats(tokens * (Width + 16));
        _log = Floats(tokens * heads);
        _cu = Offsets(sequences, length);
        if (backward) Forward(WorkerTeam.Single);
    }

    public override string Op => _dropout > 0 ? "AttentionDropout" : "Attention";

    public override string Mode => _backward ? "backward" : "forward";

    public override string Shape => $"B={_sequences} L={_length} H={_heads} Dh={_headDim}";

    public override double Flops => (_backward ? 10.0 : 4.0) * _sequences * _length * _length * Width;

    public override double Bytes => (_backward ? 32.0 : 16.0) * _sequences * _length * Width;

    private int Width => _heads * _headDim;

    public override void Run(WorkerTeam team)
    {
        if (!_backward)
        {
            Forward(team);
            return;
        }
        int stride = (3 * Width) + 16;
        AttentionBackward.Run(team, _qkv, stride, _qkv + Width, stride, _qkv + (2 * Width), stride, _y, Width + 16, _dy, Width + 16, _log, _cu, _cu, _sequences,
            _heads, _headDim, 1 / MathF.Sqrt(_headDim), _dropout, 1, _dqkv, stride, _dqkv + Width, stride, _dqkv + (2 * Width), stride);
    }

    private void Forward(WorkerTeam team)
    {
        int stride = (3 * Width) + 16;
        AttentionTraining.Forward(team, _qkv, stride, _qkv + Width, stride, _qkv + (2 * Width), stride, _cu, _cu, _sequences, _heads, _headDim,
            1 / MathF.Sqrt(_headDim), _y, Width + 16, _log, _dropout, 1);
    }
}

/// <summary>The masked-LM loss, forward or both gradients.</summary>
internal sealed unsafe class LinearCrossEntropyCase : KernelCase
{
    private readonly int _rows, _vocabulary, _dim;
    private readonly bool _backward;
    private readonly float* _x, _weight, _bias, _dx, _dweight, _dbias, _loss, _log;
    private readonly int* _labels;

    public LinearCrossEntropyCase(int rows, int vocabulary, int dim, bool backward)
    {
        (_rows, _vocabulary, _dim, _backward) = (rows, vocabulary, dim, backward);
        _x = Floats((long)rows * (dim + 16));
        _dx = Floats((long)rows * (dim + 16));
        _weight = Floats((long)vocabulary * dim, 0.05f);
        _dweight = Floats((long)vocabulary * dim);
        _bias = Floats(vocabulary);
        _dbias = Floats(vocabulary);
        _loss = Floats(rows);
        _log = Floats(rows);
        _labels = Offsets(rows, vocabulary / rows);
        LinearCrossEntropy.Forward(WorkerTeam.Single, _x, dim + 16, rows, dim, _weight, dim, vocabulary, _bias, _labels, _loss, _log);
    }

    public override string Op => "LinearCrossEntropy";

    public override string Mode => _backward ? "backward" : "forward";

    public override string Shape => $"R={_rows} V={_vocabulary} D={_dim}";

    public override double Flops => (_backward ? 8.0 : 2.0) * _rows * _vocabulary * _dim;

    public override double Bytes => (_backward ? 12.0 : 4.0) * _vocabulary * _dim;

    public override void Run(WorkerTeam team)
    {
        if (_backward)
        {
            LinearCrossEntropy.Backward(team, _x, _dim + 16, _rows, _dim, _weight, _dim, _vocabulary, _bias, _labels, _log, 1f, _dx, _dim + 16, false,
                _dweight, _dim, _dbias);
        }
        else
        {
            LinearCrossEntropy.Forward(team, _x, _dim + 16, _rows, _dim, _weight, _dim, _vocabulary, _bias, _labels, _loss, _log);
        }
    }
}

/// <summary>What is bound by memory: LayerNorm's gradient, AdamW, dropout.</summary>
internal sealed unsafe class TrainingRowCase : KernelCase
{
    private readonly string _op;
    private readonly int _rows, _columns;
    private readonly float* _a, _b, _c, _d, _row;

    public TrainingRowCase(string op, int rows, int columns)
    {
        (_op, _rows, _columns) = (op, rows, columns);
        long count = (long)rows * (columns + 16);
        _a = Floats(count);
        _b = Floats(count);
        _c = Floats(count);
        _row = Floats(Math.Max(rows, columns));
        _d = Floats(count);
        for (long i = 0; i < count; i++) _d[i] = Math.Abs(_d[i]);            // second moments are not negative
    }

    public override string Op => _op;

    public override string Mode => _op == "LayerNorm" ? "backward" : "forward";

    public override string Shape => $"{_rows}x{_columns}";

    public override double Flops => 0;

    public override double Bytes => (_op switch { "AdamW" => 28.0, "Dropout" => 8.0, _ => 12.0 }) * _rows * _columns;

    public override void Run(WorkerTeam team)
    {
        int stride = _columns + 16;
        switch (_op)
        {
            case "AdamW":
                AdamW.Step(team, _a, _b, _c, _d, 0, (long)_rows * _columns, 1e-5, 0.9, 0.999, 1e-8, 0.01, 0.5, 0.5, 1f);
                break;
            case "Dropout":
                Dropout.Forward(team, _a, stride, _rows, _columns, 0.1f, 1, _b, stride);
                break;
            default:
                LayerNormBackward.Run(team, _a, stride, _b, stride, _rows, _columns, _row, _row, _row, _c, stride, false, _d, _d + _columns);
                break;
        }
    }
}
