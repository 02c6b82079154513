using BgeMetal.Kernels.Bench;
using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;
using BgeMetal.Kernels.Tests.Cuda;

namespace BgeMetal.Kernels.Tests.Bench;

/// <summary>The harness itself, at sizes where nothing is worth timing: every case of the table runs, on either backend.</summary>
[Collection("emulation")]
public sealed class BenchRunTests(EmulationFixture fixture)
{
    /// <summary>Every letter of every formula, as small as can be.</summary>
    internal const string Tiny = "T=5 K=16 N=24 D=16 U=3 B=2 L=3 H=2 Dh=8 G=2 V=10 W=2 P=40";

    private static readonly CudaBenchSettings s_once = new() { Seconds = 0, FewestSamples = 1, RotateBytes = 0, CopyBytes = 4096, PeakIterations = 1, WorkspaceLength = 4096 };

    [Fact]
    public void Every_operation_runs_on_the_cpu()
    {
        BenchCase[] cases = [.. BenchTable.All.Where(op => op.Cpu is not null).Select(op => new BenchCase(op, new BenchShape(op.Stem == "TopK" ? "B=2 N=20 D=8" : Tiny), DType.Float32))];
        BenchResult[] results = [.. KernelBench.RunOnCpu(cases, threads: 2, seconds: 0)];
        Assert.Equal(["Copy", "Copy", "MultiplyAdd", .. cases.Select(item => item.Op.Name)], results.Select(result => result.Op));
        Assert.All(results, result => Assert.Equal("cpu", result.Backend));
        Assert.All(results.Skip(3), result => Assert.True(result.P20Us > 0 && result.P50Us >= result.P20Us && result.P80Us >= result.P50Us && result.GigabytesPerSecond > 0, result.ToString()));
        Assert.All(results.Take(3), result => Assert.True(result.GigabytesPerSecond + result.TeraflopsPerSecond > 0, result.ToString()));
    }

    [Fact]
    public void Every_operation_runs_on_the_emulated_device()
    {
        // One type each, in turn: the kernels' own tests have every type.
        BenchCase[] cases = [.. BenchTable.All.Where(op => op.Cuda is not null).Select((op, i) => new BenchCase(op, new BenchShape(Tiny), op.CudaTypes[i % op.CudaTypes.Count]))];
        List<string> notes = [];
        BenchResult[] results = [.. KernelBench.RunOnCuda(fixture.Device, cases, s_once, notes.Add)];
        Assert.Equal(["MultiplyAdd", "TensorCores", "TensorCores", "Copy", .. cases.Select(item => item.Op.Name)], results.Select(result => result.Op));
        Assert.All(results.Skip(4), result => Assert.True(result.P50Us > 0 && result.GigabytesPerSecond > 0 && result.PeakBytes > 4 * 4096, result.ToString()));
        Assert.Equal(["no cuBLAS on this machine: products have no peer"], notes);
    }

    [Fact]
    public void Operands_are_random_to_their_last_element_and_the_same_in_every_run()
    {
        KernelDevice device = fixture.Device;
        using CudaOperands first = new(device, default, new RandomPatterns(64)), second = new(device, default, new RandomPatterns(64));
        float[] Read(CudaOperands operands)
        {
            ushort[] bits = new ushort[1000];
            device.Download(operands.Values<BF16>(1000, 0.5f).Cast<ushort>(), bits);
            return [.. bits.Select(b => BF16.FromBits(b))];
        }
        float[] values = Read(first);
        Assert.Equal(values, Read(second));
        Assert.All(values, value => Assert.InRange(value, -0.5f, 0.5f));
        Assert.All(values.Chunk(100), part => Assert.True(part.Distinct().Count() > 30));
        Assert.Equal(2000, first.SizeBytes);
    }

    [Fact]
    public void Peak_kernels_compute_what_their_operations_say_on_the_emulated_device_and_in_the_interpreted_text()
    {
        using PtxDevice interpreted = new();
        foreach (KernelDevice device in new KernelDevice[] { fixture.Device, interpreted })
        {
            // One step adds 16 * 0.5 * 0.5 = 4 to each of 64 accumulators.
            Assert.All(Run(device, PeakKernels.TensorCores<BF16>, Pair(BF16.ToBits(0.5f)), 3), sum => Assert.Equal(64 * 4 * 3, sum));
            Assert.All(Run(device, PeakKernels.TensorCores<FP16>, Pair(FP16.ToBits(0.5f)), 1), sum => Assert.Equal(64 * 4, sum));
            // x <- x / 2 + 1/2, four times an iteration, from 0: 1 - 2^-8 after two.
            Assert.All(Run(device, PeakKernels.MultiplyAdd, BitConverter.SingleToUInt32Bits(0.5f), 2), sum => Assert.Equal(64 * (1 - (1 / 256f)), sum));
        }
    }

    [Fact]
    public void The_warp_group_peak_multiplies_what_lies_in_shared_memory_every_time()
    {
        const int iterations = 3;
        double[] expected = PeakSums(PeakKernels.NoiseBF16, pattern => BF16.FromBits(pattern), Pair(BF16.ToBits(0.5f)), iterations);
        double[] expectedHalf = PeakSums(PeakKernels.NoiseFP16, pattern => FP16.FromBits(pattern), Pair(FP16.ToBits(0.5f)), iterations);
        Assert.True(expected.Select(sum => Math.Round(sum, 3)).Distinct().Count() > 200);
        using PtxDevice interpreted = new(hasWarpGroups: true);
        foreach (KernelDevice device in new KernelDevice[] { fixture.Device, interpreted })
        {
            Near(expected, Run(device, PeakKernels.WarpGroups<BF16>, Pair(BF16.ToBits(0.5f)), iterations, PeakKernels.NoiseBF16));
            Near(expectedHalf, Run(device, PeakKernels.WarpGroups<FP16>, Pair(FP16.ToBits(0.5f)), iterations, PeakKernels.NoiseFP16));
        }

        static void Near(double[] expected, float[] actual)
        {
            for (int i = 0; i < actual.Length; i++) Assert.Equal(expected[i % expected.Length], actual[i], 1e-2);
        }
    }

    // What each thread's accumulators add up to, from the layouts of the copy engine's boxes and of wgmma's accumulators.
    private static double[] PeakSums(uint noise, Func<uint, float> read, uint operand, int iterations)
    {
        double Element(int box, int row, int k)
        {
            int address = TensorCopy.Swizzle((box * 64 * 128) + (row * 128) + (k * 2));
            uint word = operand ^ (PeakKernels.Scatter((uint)(address / 4)) & noise);
            return read((word >> (8 * (address & 2))) & 0xffff);
        }
        double[] sums = new double[PeakKernels.Threads], columns = [.. Enumerable.Range(0, 256 * 64).Select(i => Element(2, i / 64, i % 64))];
        for (int t = 0; t < sums.Length; t++)
            for (int i = 0; i < 128; i++)
            {
                int row = (16 * (t / 32 % 4)) + (t % 32 / 4) + (8 * (i / 2 % 2)), column = (8 * (i / 4)) + (2 * (t % 4)) + (i % 2);
                for (int k = 0; k < 64; k++) sums[t] += iterations * Element(t / 128, row, k) * columns[(column * 64) + k];
            }
        return sums;
    }

    private static float[] Run(KernelDevice device, Action<PeakArguments> kernel, uint operand, int iterations, uint noise = 0)
    {
        using DeviceTensor<FP32> result = new(device, 1, 2 * PeakKernels.Threads);
        device.Launch(kernel, new GridSize(2), new PeakArguments { Result = result.Start, Iterations = iterations, Operand = operand, Noise = noise });
        device.Synchronize();
        result.AssertPaddingUntouched();
        return result.ToArray();
    }

    private static uint Pair(uint bits) => bits | bits << 16;
}
