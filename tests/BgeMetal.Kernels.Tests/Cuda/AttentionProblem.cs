using BgeMetal.Kernels.Cuda;
using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;
using BgeMetal.Kernels.Tests.Cpu;
using BgeMetal.Testing;
using BgeMetal.Testing.Reference;

namespace BgeMetal.Kernels.Tests.Cuda;

/// <summary>What an attention problem consists of, on no device yet.</summary>
internal sealed record AttentionSetting(int Heads, int HeadDim, int[] QueryLengths, int[] KeyLengths)
{
    /// <summary>Self-attention: as many queries as keys.</summary>
    public AttentionSetting(int heads, int headDim, params int[] lengths) : this(heads, headDim, lengths, lengths)
    {
    }

    /// <summary>What every element of the queries is larger by and of the keys smaller: scores far below zero.</summary>
    public double Apart { get; init; }

    public const ulong Seed = 0xFEDCBA9876543210;

    /// <summary>Of the probabilities; 0 for none.</summary>
    public float Dropout { get; init; }

    /// <summary>The mask's row for query row 0.</summary>
    public int FirstQuery { get; init; }

    /// <summary>Every query sees its own choice of keys, and not its own place.</summary>
    public bool Masked { get; init; }

    /// <summary>The query row that sees nothing, when masked.</summary>
    public int HiddenRow { get; init; } = -1;

    public int Width => Heads * HeadDim;

    public int[] QueryOffsets => CpuKernels.Offsets(QueryLengths);

    public int[] KeyOffsets => CpuKernels.Offsets(KeyLengths);

    public AttentionShape Shape => new(QueryLengths.Length, QueryOffsets[^1], QueryLengths.Max(), KeyLengths.Max(), Heads, HeadDim, 1 / MathF.Sqrt(HeadDim));

    /// <summary>Whether a query row sees a key, by the key's place in the sequence.</summary>
    public bool Sees(int row, int key)
    {
        if (!Masked) return true;
        int sequence = Array.FindLastIndex(QueryOffsets, offset => offset <= row), at = row - QueryOffsets[sequence];
        return row != HiddenRow && key != at && (key == 0 || ((row * 2654435761u) ^ (key * 40503u)) % 7 < 3);
    }

    /// <summary>The factor of dropout.</summary>
    public double Factor(int head, int row, int key) => DropoutTests.Factor(Dropout, Seed, (uint)head, (uint)(FirstQuery + row), (uint)key, Stream);

    /// <summary>The mask's stream.</summary>
    public const int Stream = 5;

    /// <summary>The bits of <see cref="Sees"/> and each sequence's first word.</summary>
    public (int[] Words, int[] Starts) Bits()
    {
        int[] starts = CpuKernels.Offsets([.. KeyLengths.Select(length => length * ((length + 63) / 64))]), words = new int[(2 * starts[^1]) + 2];
        for (int b = 0; b < KeyLengths.Length; b++)
            for (int row = 0; row < KeyLengths[b]; row++)
                for (int key = 0; key < KeyLengths[b]; key++)
                    if (Sees(KeyOffsets[b] + row, key)) words[(2 * (starts[b] + (row * ((KeyLengths[b] + 63) / 64)))) + (key / 32)] |= 1 << (key % 32);
        return (words, starts);
    }
}

/// <summary>An attention problem on a device: q, k and v are columns of wider matrices; results are NaN before they are computed.</summary>
internal sealed class AttentionProblem<T> : IDisposable where T : unmanaged, IElement
{
    private readonly KernelDevice _device;
    private readonly AttentionSetting _setting;
    private readonly DeviceTensor<T> _queries, _keysAndValues, _outputGradient, _dq, _dkAndDv;
    private readonly DeviceTensor<FP32> _delta;
    private readonly DeviceMemory _integers;
    private readonly int _wordsAt, _startsAt, _seedAt, _keyOffsetsAt;

    public AttentionProblem(KernelDevice device, AttentionSetting setting)
    {
        (_device, _setting) = (device, setting);
        int queries = setting.QueryOffsets[^1], keys = setting.KeyOffsets[^1], width = setting.Width;
        RandomData data = new(setting.HeadDim + keys);
        _queries = new(device, Rounded([.. data.Uniform(queries * width, 3).Select(x => x + setting.Apart)]), queries, width);
        _keysAndValues = new(device, Rounded([.. data.Uniform(keys * 2 * width, 2).Select((x, i) => i / width % 2 == 0 ? x - setting.Apart : x)]), keys, 2 * width);
        _outputGradient = new(device, Rounded(data.Uniform(queries * width)), queries, width);
        Output = new(device, queries, width);
        LogSumExp = new(device, setting.Heads, queries, padding: 0);
        _delta = new(device, setting.Heads, queries, padding: 0);
        (_dq, _dkAndDv) = (new(device, queries, width), new(device, keys, 2 * width));
        (int[] words, int[] starts) = setting.Bits();
        (_keyOffsetsAt, _startsAt) = (setting.QueryOffsets.Length, 2 * setting.QueryOffsets.Length);
        _seedAt = _startsAt + starts.Length;
        _wordsAt = (_seedAt + 3) / 2 * 2;
        int[] all = new int[_wordsAt + words.Length];
        setting.QueryOffsets.CopyTo(all, 0);
        setting.KeyOffsets.CopyTo(all, _keyOffsetsAt);
        starts.CopyTo(all, _startsAt);
        (all[_seedAt], all[_seedAt + 1]) = (unchecked((int)AttentionSetting.Seed), unchecked((int)(AttentionSetting.Seed >> 32)));
        words.CopyTo(all, _wordsAt);
        _integers = device.Allocate(4L * all.Length);
        device.Upload<int>(all, new(_integers.Address));
    }

    public DeviceTensor<T> Output { get; }

    public DeviceTensor<FP32> LogSumExp { get; }

    /// <summary>The largest norm error that the element type allows: rounding of the probabilities and of the result.</summary>
    public static double Limit => T.DType switch { DType.BFloat16 => 4e-3, DType.Float16 => 5e-4, _ => 2e-6 };

    private DeviceMatrix<T> K => _keysAndValues.Matrix;

    private DeviceMatrix<T> V => Right(_keysAndValues);

    private DropoutMask Dropout => _setting.Dropout == 0 ? default : new(_setting.Dropout, Integers(_seedAt), AttentionSetting.Stream, _setting.FirstQuery);

    private VisibleKeys Visible => _setting.Masked ? new(Integers(_wordsAt), Integers(_startsAt)) : default;

    /// <summary>Computes the output, and the logarithms if <paramref name="log"/> says so.</summary>
    public void Forward(bool log = true) => Attention.Forward(_device, _setting.Shape, _queries.Matrix, K, V, Integers(0), Integers(_keyOffsetsAt), Dropout, Visible,
        Output.Matrix, log ? LogSumExp.Start : default);

    /// <summary>Fails unless output and logarithms are the oracle's.</summary>
    public void AssertForward()
    {
        (double[] q, double[] k, double[] v) = Values();
        (double[] output, double[] log) = AttentionReference.Forward(q, k, v, _setting.QueryOffsets, _setting.KeyOffsets, _setting.Heads, _setting.HeadDim, _setting.Shape.Scale,
            _setting.Dropout == 0 ? null : _setting.Factor, _setting.Masked ? _setting.Sees : null);
        Tolerance.AssertNorm(Output.ToArray(), output, Limit, $"{T.DType}: output");
        Output.AssertPaddingUntouched();
        float[] actual = LogSumExp.ToArray();
        for (int i = 0; i < actual.Length; i++)
            Assert.True(actual[i] == log[i] || Math.Abs(actual[i] - log[i]) <= 2e-6 * Math.Max(1, Math.Abs(log[i])), $"{T.DType}: logSumExp[{i}] is {actual[i]:g9}, expected {log[i]:g9}");
    }

    /// <summary>Computes the gradients of q, k and v.</summary>
    public void Backward() => Attention.Backward(_device, _setting.Shape, _queries.Matrix, K, V, Integers(0), Integers(_keyOffsetsAt), Dropout, Visible, Output.Matrix,
        LogSumExp.Start, _outputGradient.Matrix, _dq.Matrix, _dkAndDv.Matrix, Right(_dkAndDv), _delta.Start);

    /// <summary>All gradients, one after the other.</summary>
    public float[] Gradients() => [.. _dq.ToArray(), .. _dkAndDv.ToArray()];

    /// <summary>Fails unless the gradients are the oracle's.</summary>
    public void AssertBackward()
    {
        // Gradients of scores sum to nothing in each row, but rounded ones do not: what is the same in all keys, or all queries, makes that larger.
        double limit = 3 * Limit * (1 + _setting.Apart);
        (double[] q, double[] k, double[] v) = Values();
        (double[] dq, double[] dk, double[] dv) = AttentionReference.Backward(_outputGradient.ToDoubles(), q, k, v, _setting.QueryOffsets, _setting.KeyOffsets, _setting.Heads,
            _setting.HeadDim, _setting.Shape.Scale, _setting.Dropout == 0 ? null : _setting.Factor, _setting.Masked ? _setting.Sees : null);
        Tolerance.AssertNorm(_dq.ToArray(), dq, limit, $"{T.DType}: dq");
        Tolerance.AssertNorm([.. Half(_dkAndDv, 0).Select(d => (float)d)], dk, limit, $"{T.DType}: dk");
        Tolerance.AssertNorm([.. Half(_dkAndDv, 1).Select(d => (float)d)], dv, limit, $"{T.DType}: dv");
        _dq.AssertPaddingUntouched();
        _dkAndDv.AssertPaddingUntouched();
    }

    public void Dispose()
    {
        _queries.Dispose();
        _keysAndValues.Dispose();
        _outputGradient.Dispose();
        _dq.Dispose();
        _dkAndDv.Dispose();
        _delta.Dispose();
        Output.Dispose();
        LogSumExp.Dispose();
        _integers.Dispose();
    }

    private DeviceMatrix<T> Right(DeviceTensor<T> both) => new(new(both.Start.Address + ((long)_setting.Width << T.SizeShift)), both.Stride);

    // To what every element type can hold: problems of different types are then the same.
    private static double[] Rounded(double[] values) => [.. values.Select(v => (double)BF16.FromBits(BF16.ToBits((float)v)))];

    private DevicePointer<int> Integers(int index) => new(_integers.Address + (4L * index));

    private (double[] Q, double[] K, double[] V) Values() => (_queries.ToDoubles(), Half(_keysAndValues, 0), Half(_keysAndValues, 1));

    private double[] Half(DeviceTensor<T> both, int half) => [.. both.ToDoubles().Where((_, i) => i / _setting.Width % 2 == half)];
}
