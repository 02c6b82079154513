using BgeMetal.Kernels.Cpu;

namespace BgeMetal.Kernels.Bench;

/// <summary>Attention on the CPU over B sequences of L tokens: query, key and value side by side in one matrix, as the library holds them.</summary>
internal static unsafe class AttentionCalls
{
    private const float Dropout = 0.1f;

    public static Action<WorkerTeam> Inference(CpuOperands o, BenchShape s) => Inference(o, s, s["L"]);

    /// <summary>One query a sequence: the last layer under CLS pooling.</summary>
    public static Action<WorkerTeam> FirstTokens(CpuOperands o, BenchShape s) => Inference(o, s, 1);

    public static Action<WorkerTeam> Training(CpuOperands o, BenchShape s) => new Operands(o, s).Forward(Dropout);

    public static Action<WorkerTeam> Backward(CpuOperands o, BenchShape s) => new Operands(o, s).Backward(0);

    public static Action<WorkerTeam> BackwardWithDropout(CpuOperands o, BenchShape s) => new Operands(o, s).Backward(Dropout);

    public static Action<WorkerTeam> Masked(CpuOperands o, BenchShape s) => new Operands(o, s).Masked(backward: false);

    public static Action<WorkerTeam> MaskedBackward(CpuOperands o, BenchShape s) => new Operands(o, s).Masked(backward: true);

    private static Action<WorkerTeam> Inference(CpuOperands o, BenchShape s, int queries)
    {
        int sequences = s["B"], length = s["L"], heads = s["H"], headDim = s["Dh"], width = heads * headDim;
        int stride = (3 * width) + CpuOperands.Padding, ldy = width + CpuOperands.Padding;
        float* qkv = o.Rows((long)sequences * length, 3 * width), y = o.Rows((long)sequences * queries, width);
        int* cuQ = o.Integers(sequences + 1, queries), cuK = o.Integers(sequences + 1, length);
        return team => Attention.Forward(team, qkv, stride, qkv + width, stride, qkv + (2 * width), stride, cuQ, cuK, sequences, heads, headDim,
            1 / MathF.Sqrt(headDim), y, ldy, null);
    }

    private sealed class Operands
    {
        private readonly int _sequences, _heads, _headDim, _width, _stride, _ldy, _length;
        private readonly float* _qkv, _y, _dy, _dqkv, _logSumExp;
        private readonly int* _cu;
        private readonly CpuOperands _memory;

        public Operands(CpuOperands o, BenchShape s)
        {
            (_memory, _sequences, _length, _heads, _headDim) = (o, s["B"], s["L"], s["H"], s["Dh"]);
            _width = _heads * _headDim;
            (_stride, _ldy) = ((3 * _width) + CpuOperands.Padding, _width + CpuOperands.Padding);
            long tokens = (long)_sequences * _length;
            _qkv = o.Rows(tokens, 3 * _width);
            _dqkv = o.Rows(tokens, 3 * _width);
            _y = o.Rows(tokens, _width);
            _dy = o.Rows(tokens, _width);
            _logSumExp = o.Floats(tokens * _heads);
            _cu = o.Integers(_sequences + 1, _length);
        }

        private float Scale => 1 / MathF.Sqrt(_headDim);

        public Action<WorkerTeam> Forward(float dropout) => team => AttentionTraining.Forward(team, _qkv, _stride, _qkv + _width, _stride, _qkv + (2 * _width), _stride,
            _cu, _cu, _sequences, _heads, _headDim, Scale, _y, _ldy, _logSumExp, dropout, 1);

        public Action<WorkerTeam> Backward(float dropout)
        {
            Forward(dropout)(_memory.Team);
            return team => AttentionBackward.Run(team, _qkv, _stride, _qkv + _width, _stride, _qkv + (2 * _width), _stride, _y, _ldy, _dy, _ldy, _logSumExp, _cu, _cu,
                _sequences, _heads, _headDim, Scale, dropout, 1, _dqkv, _stride, _dqkv + _width, _stride, _dqkv + (2 * _width), _stride);
        }

        public Action<WorkerTeam> Masked(bool backward)
        {
            int words = (_length + 63) / 64 * _length;
            ulong* visible = _memory.Bits((long)_sequences * words);
            int* starts = _memory.Integers(_sequences, words);
            void Forward(WorkerTeam team) => MaskedAttention.Forward(team, _qkv, _stride, _qkv + _width, _stride, _qkv + (2 * _width), _stride, _cu, _sequences, visible, starts,
                _heads, _headDim, Scale, _y, _ldy, _logSumExp, 0, 1);
            if (!backward) return Forward;
            Forward(_memory.Team);
            return team => MaskedAttention.Backward(team, _qkv, _stride, _qkv + _width, _stride, _qkv + (2 * _width), _stride, _y, _ldy, _dy, _ldy, _logSumExp, _cu, _sequences,
                visible, starts, _heads, _headDim, Scale, 0, 1, _dqkv, _stride, _dqkv + _width, _stride, _dqkv + (2 * _width), _stride);
        }
    }
}
