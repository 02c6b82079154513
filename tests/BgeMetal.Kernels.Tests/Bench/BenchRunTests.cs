using BgeMetal.Kernels.Bench;
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

    private static float[] Run(KernelDevice device, Action<PeakArguments> kernel, uint operand, int iterations)
    {
        using DeviceTensor<FP32> result = new(device, 1, 2 * PeakKernels.Threads);
        device.Launch(kernel, new GridSize(2), new PeakArguments { Result = result.Start, Iterations = iterations, Operand = operand });
        device.Synchronize();
        result.AssertPaddingUntouched();
        return result.ToArray();
    }

    private static uint Pair(uint bits) => bits | bits << 16;
}
