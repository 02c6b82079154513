using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;

namespace BgeMetal.Kernels.Tests.Cuda;

/// <summary>A matrix on a device, with padded rows; everything that is not given a value is NaN, so that reads and writes outside are seen.</summary>
internal sealed class DeviceTensor<T> : IDisposable where T : unmanaged, IElement
{
    private readonly KernelDevice _device;
    private readonly DeviceMemory _memory;

    /// <summary>A matrix of NaN.</summary>
    public DeviceTensor(KernelDevice device, int rows, int columns, int padding = 8)
    {
        (_device, Rows, Columns, Stride) = (device, rows, columns, columns + padding);
        _memory = device.Allocate(((long)rows * Stride) << T.SizeShift);
        device.Fill(_memory.Address, 0xff, _memory.SizeBytes);
    }

    /// <summary>A matrix of values, rounded to the element type.</summary>
    public DeviceTensor(KernelDevice device, double[] values, int rows, int columns, int padding = 8) : this(device, rows, columns, padding)
    {
        Assert.Equal(rows * columns, values.Length);
        uint[] bits = Raw();
        for (int r = 0; r < rows; r++)
            for (int c = 0; c < columns; c++)
                bits[(r * Stride) + c] = T.ToBits((float)values[(r * columns) + c]);
        // Where somebody watches, what lies between the rows stays unwritten.
        int pieces = device is PtxDevice ? rows : 1, length = device is PtxDevice ? columns : bits.Length;
        for (int i = 0; i < pieces; i++)
        {
            ReadOnlySpan<uint> piece = bits.AsSpan(i * Stride, length);
            long address = _memory.Address + (((long)i * Stride) << T.SizeShift);
            if (T.SizeShift == 2) device.Upload(piece, new(address));
            else device.Upload<ushort>([.. piece.ToArray().Select(b => (ushort)b)], new(address));
        }
    }

    public int Rows { get; }

    public int Columns { get; }

    public int Stride { get; }

    public DeviceMatrix<T> Matrix => new(Start, Stride);

    public DevicePointer<T> Start => new(_memory.Address);

    /// <summary>The values, without padding.</summary>
    public float[] ToArray()
    {
        uint[] bits = Raw();
        float[] values = new float[Rows * Columns];
        for (int r = 0; r < Rows; r++)
            for (int c = 0; c < Columns; c++)
                values[(r * Columns) + c] = T.FromBits(bits[(r * Stride) + c]);
        return values;
    }

    /// <summary>The values as the kernel sees them: what the oracle should be fed.</summary>
    public double[] ToDoubles() => [.. ToArray().Select(v => (double)v)];

    /// <summary>Fails when a kernel wrote between the rows.</summary>
    public void AssertPaddingUntouched()
    {
        uint[] bits = Raw();
        for (int r = 0; r < Rows; r++)
            for (int c = Columns; c < Stride; c++)
                Assert.True(float.IsNaN(T.FromBits(bits[(r * Stride) + c])), $"row {r}, column {c} lies outside the matrix and was written");
    }

    /// <summary>Fails unless every value is within the rounding of the element type, plus a floor for binary32 sums (relative to the largest value, and absolute), of the expected one.</summary>
    public void AssertNear(double[] expected, double floor = 4e-6, string? what = null, double least = 0)
    {
        float[] actual = ToArray();
        double relative = T.DType switch { DType.BFloat16 => 1 / 256.0, DType.Float16 => 1 / 2048.0, _ => 0 };
        double scale = expected.Max(Math.Abs);
        for (int i = 0; i < actual.Length; i++)
        {
            double allowed = (1.02 * relative * Math.Abs(expected[i])) + (floor * scale) + (relative * 1e-4) + least;
            Assert.True(Math.Abs(actual[i] - expected[i]) <= allowed,
                $"{what} [{i / Columns}, {i % Columns}]: {actual[i]:g9}, expected {expected[i]:g9} within {allowed:g3}");
        }
        AssertPaddingUntouched();
    }

    /// <summary>Fails unless every value is exactly the expected one.</summary>
    public void AssertExactly(double[] expected, string? what = null)
    {
        float[] actual = ToArray();
        for (int i = 0; i < actual.Length; i++)
            Assert.True(actual[i] == expected[i], $"{what} [{i / Columns}, {i % Columns}]: {actual[i]:g9}, expected {expected[i]:g9}");
        AssertPaddingUntouched();
    }

    public void Dispose() => _memory.Dispose();

    private uint[] Raw()
    {
        if (T.SizeShift == 2)
        {
            uint[] words = new uint[Rows * Stride];
            _device.Download(new DevicePointer<uint>(_memory.Address), words.AsSpan());
            return words;
        }
        ushort[] halves = new ushort[Rows * Stride];
        _device.Download(new DevicePointer<ushort>(_memory.Address), halves.AsSpan());
        return [.. halves.Select(h => (uint)h)];
    }
}

/// <summary>One emulated device for all tests that use one, which then run one after the other.</summary>
public sealed class EmulationFixture : IDisposable
{
    public EmulatedDevice Device { get; } = new(8);

    public void Dispose() => Device.Dispose();
}

/// <summary>One GPU for all tests that use one.</summary>
public sealed class GpuFixture : IDisposable
{
    public CudaDevice? Device { get; } = BgeMetal.Testing.CudaPresence.IsAvailable ? CudaDevice.Open() : null;

    /// <summary>The GPU; skips the calling test where there is none.</summary>
    public CudaDevice DeviceOrSkip()
    {
        Assert.SkipUnless(Device is not null, BgeMetal.Testing.CudaPresence.Reason);
        Device!.Products = ProductKernels.All;
        return Device;
    }

    /// <summary>The same on mma.sync alone, which this GPU would pass over for its own kernels; skips where it has none of its own.</summary>
    public CudaDevice PortableOrSkip()
    {
        CudaDevice device = HopperOrSkip();
        device.Products = ProductKernels.Mma;
        return device;
    }

    /// <summary>The GPU, if it has sm_90a's instructions; skips the calling test otherwise.</summary>
    public CudaDevice HopperOrSkip()
    {
        Assert.SkipUnless(DeviceOrSkip().HasWarpGroups, "the GPU or its driver has no warp-group products");
        return Device!;
    }

    public void Dispose() => Device?.Dispose();
}

[CollectionDefinition("emulation")]
public sealed class EmulationTestGroup : ICollectionFixture<EmulationFixture>;

[CollectionDefinition("gpu")]
public sealed class GpuTestGroup : ICollectionFixture<GpuFixture>;
