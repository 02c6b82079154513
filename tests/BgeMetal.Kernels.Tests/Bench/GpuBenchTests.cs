using System.Diagnostics;
using System.Runtime.InteropServices;
using BgeMetal.Kernels.Bench;
using BgeMetal.Kernels.Runtime;
using BgeMetal.Kernels.Tests.Cuda;

namespace BgeMetal.Kernels.Tests.Bench;

/// <summary>The GPU's side of the harness, on a driver and a cuBLAS that record what they are told.</summary>
[Collection("stub driver")]
public sealed unsafe class GpuBenchTests(StubDriver stub)
{
    private static readonly BenchOp s_linear = BenchTable.All.First(op => op.Name == "Linear" && op.Mode == "forward");

    [Fact]
    public void Calls_go_round_their_operands_in_one_graph_and_are_timed_by_events()
    {
        stub.Reset(freeBytes: 100_000_000);
        using CudaDevice device = stub.Open();
        using CudaBench bench = new(device, Settings(rotateBytes: 20_000));
        BenchCase item = new(BenchTable.All.First(op => op.Name == "Cast"), new BenchShape("P=1000"), DType.BFloat16);
        _ = bench.Limits().Count();
        int before = stub.Log.Length;
        BenchResult result = bench.Measure(item).Single();
        string[] log = stub.Log[before..];
        // 6000 bytes a set: four sets are more than 20,000 bytes. Every event pair of the stub is 1.5 ms apart.
        Assert.Equal((375, 375, 375), (result.P20Us, result.P50Us, result.P80Us));
        Assert.Equal(0.016, result.GigabytesPerSecond);
        int capture = Array.IndexOf(log, "begin capture on 0x57"), end = Array.IndexOf(log, "end capture on 0x57");
        Assert.Equal(4, log[capture..end].Count(line => line.StartsWith("launch", StringComparison.Ordinal)));
        Assert.DoesNotContain(log[capture..end], line => line.StartsWith("alloc", StringComparison.Ordinal) || line.StartsWith("load", StringComparison.Ordinal));
        Assert.Equal(["replay 0x62 on 0x57", "mark on 0x57", "replay 0x62 on 0x57", "mark on 0x57", "mark on 0x57", "replay 0x62 on 0x57", "mark on 0x57"],
            log[(end + 3)..(end + 10)]);
        Assert.Equal(("Stub 0", "cuda", "bf16", "update"), (result.Device, result.Backend, result.DType, result.Mode));
        Assert.StartsWith("CUDA 12.4", result.Driver, StringComparison.Ordinal);
        Assert.Equal(8, log.Count(line => line.StartsWith("alloc", StringComparison.Ordinal)));
        Assert.Equal(8, log.Count(line => line == "free"));
    }

    [Fact]
    public void A_case_that_does_not_fit_is_left_out_with_a_note_and_gives_its_memory_back()
    {
        stub.Reset(freeBytes: 3_000_000);
        using CudaDevice device = stub.Open();
        BenchOp cast = BenchTable.All.First(op => op.Name == "Cast");
        List<string> notes = [];
        BenchResult[] results = [.. KernelBench.RunOnCuda(device, [new(cast, new BenchShape("P=600000"), DType.BFloat16), new(cast, new BenchShape("P=8"), DType.Float16)], Settings(rotateBytes: 0), notes.Add)];
        Assert.Contains(notes, note => note.StartsWith("Cast update bf16 P=600000 is left out: out of device memory on Stub 0:", StringComparison.Ordinal));
        Assert.Equal(["P=8"], results.Where(result => result.Op == "Cast").Select(result => result.Shape));
    }

    [Theory]
    [InlineData(nameof(CublasForm.Forward))]
    [InlineData(nameof(CublasForm.Input))]
    [InlineData(nameof(CublasForm.Weight))]
    public void The_peers_products_are_the_same_as_ours(string form)
    {
        stub.Reset(freeBytes: 100_000_000);
        string library = BuildPeer();
        using CudaDevice device = stub.Open();
        using Cublas peer = Cublas.TryLoad(device, library)!;
        using CudaOperands operands = new(device, default, new RandomPatterns(64));
        const int t = 5, k = 3, n = 4;
        Action multiply = peer.Prepare(Enum.Parse<CublasForm>(form), operands, new BenchShape("T=5 K=3 N=4"), DType.Float32);
        multiply();
        nint handle = NativeLibrary.Load(library);
        float* Matrix(int i) => (float*)((delegate* unmanaged<int, nint>)NativeLibrary.GetExport(handle, "stub_matrix"))(i);
        float* a = Matrix(0), b = Matrix(1), c = Matrix(2);
        (int rows, int columns, int depth, Func<int, int, int, double> product) = form switch
        {
            // a = W [N, K], b = x [T, K]; a = W [N, K], b = dy [T, N]; a = x [T, K], b = dy [T, N].
            nameof(CublasForm.Forward) => (t, n, k, (Func<int, int, int, double>)((i, j, l) => b[(i * k) + l] * a[(j * k) + l])),
            nameof(CublasForm.Input) => (t, k, n, (i, j, l) => b[(i * n) + l] * a[(l * k) + j]),
            _ => (n, k, t, (i, j, l) => b[(l * n) + i] * a[(l * k) + j]),
        };
        float[] before = new ReadOnlySpan<float>(c, rows * columns).ToArray();
        multiply();
        for (int i = 0; i < rows; i++)
            for (int j = 0; j < columns; j++)
            {
                double sum = form == nameof(CublasForm.Weight) ? before[(i * columns) + j] : 0;
                for (int l = 0; l < depth; l++) sum += product(i, j, l);
                Assert.Equal(sum, c[(i * columns) + j], 1e-5);
            }
        string call = Marshal.PtrToStringUTF8(((delegate* unmanaged<nint>)NativeLibrary.GetExport(handle, "stub_call"))())!;
        Assert.Equal($"types 0 0 0 compute 68 algorithm -1 beta {(form == nameof(CublasForm.Weight) ? 1 : 0)} stream 0x57", call);
        peer.Prepare(Enum.Parse<CublasForm>(form), operands, new BenchShape("T=5 K=3 N=4"), DType.BFloat16)();
        call = Marshal.PtrToStringUTF8(((delegate* unmanaged<nint>)NativeLibrary.GetExport(handle, "stub_call"))())!;
        Assert.StartsWith(form == nameof(CublasForm.Weight) ? "types 14 14 0 " : "types 14 14 14 ", call, StringComparison.Ordinal);
        NativeLibrary.Free(handle);
    }

    [Fact]
    public void Where_there_is_a_peer_its_row_follows_ours()
    {
        stub.Reset(freeBytes: 100_000_000);
        using CudaDevice device = stub.Open();
        BenchCase item = new(s_linear, new BenchShape("T=8 K=64 N=64"), DType.BFloat16);
        List<string> notes = [];
        BenchResult[] results = [.. KernelBench.RunOnCuda(device, [item], Settings(0) with { CublasPath = BuildPeer() }, notes.Add)];
        Assert.Equal(["cuda", "cublas"], results[^2..].Select(result => result.Backend));
        Assert.Equal(["cuBLAS is there: products are measured beside it"], notes);
    }

    [Fact]
    public void A_product_can_be_timed_by_each_kernel_that_computes_it()
    {
        stub.Reset(freeBytes: 1_000_000_000);
        using CudaDevice device = stub.Open();
        BenchCase[] cases = [new(s_linear, new BenchShape("T=300 K=1024 N=256"), DType.BFloat16), new(s_linear, new BenchShape("T=8 K=64 N=63"), DType.BFloat16), new(s_linear, new BenchShape("T=8 K=64 N=64"), DType.Float32)];
        BenchResult[] results = [.. KernelBench.RunOnCuda(device, cases, Settings(0) with { EachKernel = true }, _ => { })];
        Assert.Equal(["cuda", "cuda-mma", "cuda-128", "cuda-256", "cuda-pair", "cuda", "cuda"], results[6..].Select(result => result.Backend));
        Assert.Equal(ProductKernels.All, device.Products);
        string[] functions = [.. stub.Log.Where(line => line.StartsWith("function ", StringComparison.Ordinal)).Select(line => line.Split('_')[^2])];
        foreach (string tile in (string[])["WarpGroupTile128", "WarpGroupTile256", "WarpGroupPair128"]) Assert.Contains(tile, functions);
        // The pair's grid: two pairs below each other, two columns.
        Assert.Contains(stub.Log, line => line.StartsWith("launch grid 8 1 1 block 288 1 1 ", StringComparison.Ordinal));
    }

    [Fact]
    public void An_attention_of_narrow_heads_can_be_timed_by_mma_sync_too()
    {
        stub.Reset(freeBytes: 1_000_000_000);
        using CudaDevice device = stub.Open();
        BenchOp attention = BenchTable.All.Single(op => op is { Name: "Attention", Direction: KernelDirection.Forward });
        BenchCase[] cases = [new(attention, new BenchShape("B=2 L=70 H=2 Dh=32"), DType.BFloat16), new(attention, new BenchShape("B=2 L=70 H=2 Dh=128"), DType.BFloat16)];
        BenchResult[] results = [.. KernelBench.RunOnCuda(device, cases, Settings(0) with { EachKernel = true }, _ => { })];
        Assert.Equal(["cuda", "cuda-mma", "cuda"], results[6..].Select(result => result.Backend));
        string[] functions = [.. stub.Log.Where(line => line.StartsWith("function ", StringComparison.Ordinal) && line.Contains("Attend_", StringComparison.Ordinal)).Select(line => line["function ".Length..].Split('_')[0])];
        Assert.Equal(["WarpGroupAttention", "AttentionForward"], functions.Distinct());
    }

    [Fact]
    public void Every_operation_can_be_captured_it_neither_allocates_nor_waits()
    {
        // The stub answers a wait inside of a capture as the driver does, with an error.
        stub.Reset(freeBytes: 1_000_000_000);
        using CudaDevice device = stub.Open();
        BenchCase[] cases = [.. BenchTable.All.Where(op => op.Cuda is not null).Select((op, i) => new BenchCase(op, new BenchShape(BenchRunTests.Tiny), op.CudaTypes[i % op.CudaTypes.Count]))];
        List<string> notes = [];
        BenchResult[] results = [.. KernelBench.RunOnCuda(device, cases, Settings(0) with { FewestSamples = 1 }, notes.Add)];
        Assert.Single(notes);
        Assert.Equal(["MultiplyAdd", "TensorCores", "WarpGroups", "TensorCores", "WarpGroups", "Copy"], results[..6].Select(result => result.Op));
        Assert.Equal(cases.Length, results.Length - 6);
    }

    [Fact]
    public void A_case_that_fails_is_left_out_and_a_gpu_that_fails_again_and_again_is_given_up()
    {
        stub.Reset(freeBytes: 100_000_000);
        using CudaDevice device = stub.Open();
        BenchCase good = new(BenchTable.All.First(op => op.Name == "Cast"), new BenchShape("P=8"), DType.BFloat16);
        BenchCase bad = new(new BenchOp("Test", "Test", KernelDirection.Update, "0", "P") { Cuda = (_, _, _) => throw new DeviceException("as the test says") }, new BenchShape("P=8"), DType.BFloat16);
        List<string> notes = [];
        BenchResult[] results = [.. KernelBench.RunOnCuda(device, [bad, bad, good, bad, bad, good], Settings(0), notes.Add)];
        Assert.Equal(2, results.Count(result => result.Op == "Cast"));
        Assert.Equal(4, notes.Count(note => note == "Test update bf16 P=8 is left out: as the test says"));
        Assert.Throws<DeviceException>(() => KernelBench.RunOnCuda(device, [bad, bad, bad, good], Settings(0), notes.Add).Count());
    }

    [Fact]
    public void The_peer_that_a_python_environment_brings_is_found()
    {
        stub.Reset();
        string environment = Path.Combine(Path.GetDirectoryName(stub.Path)!, "venv"), folder = Path.Combine(environment, "lib", "python3.12", "site-packages", "nvidia", "cu13", "lib");
        Directory.CreateDirectory(folder);
        File.Copy(BuildPeer(), Path.Combine(folder, "libcublas.so.13"), overwrite: true);
        string? before = Environment.GetEnvironmentVariable("VIRTUAL_ENV");
        Environment.SetEnvironmentVariable("VIRTUAL_ENV", environment);
        try
        {
            Assert.Contains(Path.Combine(folder, "libcublas.so.13"), CublasSearch.Candidates());
            using CudaDevice device = stub.Open();
            using Cublas? peer = Cublas.TryLoad(device);
            Assert.NotNull(peer);
        }
        finally
        {
            Environment.SetEnvironmentVariable("VIRTUAL_ENV", before);
        }
    }

    [Fact]
    public void Cases_behind_the_end_of_the_budget_are_left_out_and_counted()
    {
        stub.Reset(freeBytes: 100_000_000);
        using CudaDevice device = stub.Open();
        BenchOp cast = BenchTable.All.First(op => op.Name == "Cast");
        List<string> notes = [];
        BenchResult[] results = [.. KernelBench.RunOnCuda(device, [new(cast, new BenchShape("P=8"), DType.BFloat16), new(cast, new BenchShape("P=16"), DType.BFloat16)], Settings(0) with { BudgetSeconds = 1e-6 }, notes.Add)];
        Assert.DoesNotContain(results, result => result.Op == "Cast");
        Assert.Equal("2 of 2 cases are left out, from Cast update bf16 P=8 on: the time is spent", notes[^1]);
    }

    [Fact]
    public void A_library_that_is_not_there_or_is_another_is_no_peer()
    {
        stub.Reset();
        using CudaDevice device = stub.Open();
        Assert.Null(Cublas.TryLoad(device, "libno-such-cublas.so.1"));
        Assert.Null(Cublas.TryLoad(device, stub.Path));
    }

    private static CudaBenchSettings Settings(long rotateBytes) => new()
    {
        Seconds = 0,
        FewestSamples = 3,
        RotateBytes = rotateBytes,
        CopyBytes = 4096,
        PeakIterations = 1,
        WorkspaceLength = 65536,
        CublasPath = "libno-such-cublas.so.1",
    };

    private string BuildPeer()
    {
        string library = Path.Combine(Path.GetDirectoryName(stub.Path)!, "libstubcublas.so");
        if (File.Exists(library)) return library;
        ProcessStartInfo start = new("gcc", ["-shared", "-fPIC", "-O1", "-w", "-o", library, Path.Combine(AppContext.BaseDirectory, "Bench", "stub_cublas.c")]);
        using Process compiler = Process.Start(start)!;
        compiler.WaitForExit();
        Assert.Equal(0, compiler.ExitCode);
        return library;
    }
}
