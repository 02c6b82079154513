using BgeMetal.Kernels.Bench;
using BgeMetal.Kernels.Cuda;
using BgeMetal.Kernels.Runtime;
using BgeMetal.Kernels.Tests.Cuda;

namespace BgeMetal.Kernels.Tests.Bench;

/// <summary>The probe on a driver that runs nothing: what it asks, and that no failure ends it.</summary>
[Collection("stub driver")]
public sealed class ProbeTests(StubDriver stub)
{
    private static readonly KernelDescriptor[] s_kernels = [Of<SlabSumArguments>(ColumnSum.Finish), Of<ColumnSumArguments<BF16>>(ColumnSum.Slabs<BF16>)];

    private static readonly ProbeSettings s_small = new()
    {
        Launches = 20,
        GraphLaunches = 5,
        CopyBytes = 4096,
        Copies = 2,
        Kernels = s_kernels,
        Costs = new AssembledTable(["# ptxas 12.4", "kernel,architecture,threads,registers,shared_bytes", $"{s_kernels[0]},sm_80,128,60,0", $"{s_kernels[0]},sm_90,128,30,0"]),
        Limits = new CudaBenchSettings { Seconds = 0, FewestSamples = 1, RotateBytes = 0, CopyBytes = 4096, PeakIterations = 1, WorkspaceLength = 65536, CublasPath = "libno-such-cublas.so.1" },
    };

    [Fact]
    public void Every_kernel_is_loaded_and_its_costs_are_compared_with_the_table()
    {
        stub.Reset(freeBytes: 100_000_000);
        using CudaDevice device = stub.Open();
        ProbeReport report = DeviceProbe.Run(device, s_small, _ => { }, openMs: 3);
        Assert.Equal(("Stub 0", "sm_90"), (report.Device, report.Architecture));
        Assert.Equal(s_kernels.Select(k => k.Name), report.Kernels.Select(k => k.Kernel));
        Assert.All(report.Kernels, k => Assert.Equal((40, 16, 3, 90, ""), (k.Registers, k.LocalBytes, k.BlocksPerMultiprocessor, k.Binary, k.Error)));
        Assert.Equal([30, null], report.Kernels.Select(k => k.ExpectedRegisters));
        Assert.Equal((2, 0, 2, 1), (Fact(report, "loaded"), Fact(report, "failed"), Fact(report, "with local memory"), Fact(report, "with more registers than in the table")));
        Assert.Equal((3, 227 * 1024), (Fact(report, "open"), Fact(report, "shared memory of a block at most")));
        // Every event pair of the stub is 1.5 ms apart.
        Assert.Equal((75, 300), (Fact(report, "device, each of a row"), Fact(report, "device, each launch")));
        Assert.All(report.Facts.Where(fact => fact.Unit is "GB/s" or "TFLOP/s"), fact => Assert.True(fact.Value > 0, fact.ToString()));
        Assert.Equal(["device", "kernels", "launches", "graphs", "copies", "limits"], report.Facts.Select(fact => fact.Group).Distinct());
        // Nothing runs there, so the one thing that is computed is wrong, and is said to be.
        ProbeFailure failure = Assert.Single(report.Failures);
        Assert.Equal(new ProbeFailure("product on tensor cores", "17680 of 17680 elements are wrong"), failure);
    }

    [Fact]
    public void A_driver_that_refuses_every_text_is_probed_to_the_end()
    {
        stub.Reset(freeBytes: 100_000_000, loadResult: 218);
        using CudaDevice device = stub.Open();
        ProbeReport report = DeviceProbe.Run(device, s_small, _ => { }, openMs: 0);
        Assert.Equal([.. s_kernels.Select(k => k.Name), "product on tensor cores", "launches", "graphs", "limits"], report.Failures.Select(failure => failure.Part));
        Assert.All(report.Failures, failure => Assert.Contains("CUDA_ERROR_INVALID_PTX (as the stub says) ptxas: line 7 is wrong", failure.Message, StringComparison.Ordinal));
        Assert.Equal((0, 2), (Fact(report, "loaded"), Fact(report, "failed")));
        Assert.True(Fact(report, "to the device, pinned") > 0);
    }

    [Fact]
    public void A_second_process_only_loads()
    {
        stub.Reset(freeBytes: 100_000_000);
        using CudaDevice device = stub.Open();
        ProbeReport report = DeviceProbe.Run(device, s_small with { LoadsOnly = true }, _ => { }, openMs: 0);
        Assert.Equal(["device", "kernels"], report.Facts.Select(fact => fact.Group).Distinct());
        Assert.DoesNotContain(stub.Log, line => line.StartsWith("launch", StringComparison.Ordinal));
        Assert.Empty(report.Failures);
    }

    [Fact]
    public void Clusters_that_do_not_all_run_at_once_are_a_failure()
    {
        KernelDescriptor pair = KernelRegistry.All.First(kernel => kernel.ClusterBlocks == 2);
        stub.Reset(freeBytes: 100_000_000);
        using CudaDevice device = stub.Open();
        ProbeSettings settings = s_small with { LoadsOnly = true, Kernels = [s_kernels[0], pair] };
        ProbeReport report = DeviceProbe.Run(device, settings, _ => { }, openMs: 0);
        // Four multiprocessors with room for two blocks each.
        Assert.Contains("clusters of grid 8 block 288 shared 114736", stub.Log);
        Assert.Equal(4, Fact(report, "clusters at once, fewest of any kernel"));
        Assert.Empty(report.Failures);
        stub.SetClusters(3);
        try
        {
            Assert.Equal(new ProbeFailure(pair.Name, "3 clusters run at once, the grid has up to 4"), Assert.Single(DeviceProbe.Run(device, settings, _ => { }, openMs: 0).Failures));
        }
        finally
        {
            stub.SetClusters(4);
        }
    }

    [Fact]
    public void A_table_that_is_none_says_where() =>
        Assert.Equal("line 2: 'a,sm_90,128,many' is not kernel,architecture,threads,registers,..", Assert.Throws<FormatException>(() => new AssembledTable(["# x", "a,sm_90,128,many"])).Message);

    private static KernelDescriptor Of<T>(Action<T> kernel) => KernelRegistry.Of(kernel.Method);

    private static double Fact(ProbeReport report, string name) => report.Facts.Single(fact => fact.Name == name).Value;
}

/// <summary>The probe where kernels do run.</summary>
[Collection("emulation")]
public sealed class EmulatedProbeTests(EmulationFixture fixture)
{
    [Fact]
    public void The_product_is_right_and_everything_is_measured()
    {
        ProbeReport report = DeviceProbe.Run(fixture.Device, new ProbeSettings
        {
            Launches = 1,
            CopyBytes = 4096,
            Copies = 1,
            Limits = new CudaBenchSettings { Seconds = 0, FewestSamples = 1, RotateBytes = 0, CopyBytes = 4096, PeakIterations = 1, WorkspaceLength = 4096 },
        }, _ => { }, openMs: 0);
        Assert.Empty(report.Failures);
        Assert.Equal(0, report.Facts.Single(fact => fact.Name == "wrong elements of a product on tensor cores").Value);
        Assert.Equal(["device", "kernels", "launches", "copies", "limits"], report.Facts.Select(fact => fact.Group).Distinct());
    }
}
