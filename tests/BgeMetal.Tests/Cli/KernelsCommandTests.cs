using System.Text.Json;
using BgeMetal.Kernels.Bench;
using BgeMetal.Kernels.Reports;
using BgeMetal.Kernels.Runtime;
using BgeMetal.Reports;

namespace BgeMetal.Tests.Cli;

public sealed class KernelsCommandTests : CommandFolder
{
    private const string Header = "op,backend,mode,dtype,shape,p20_us,p50_us,p80_us,gb_s,tflop_s,roofline_percent,peak_bytes,device,driver,commit,date";

    [Fact]
    public void List_names_every_kernel_of_the_registry()
    {
        JsonElement[] kernels = [.. JsonDocument.Parse(CliRun.Succeeds("kernels", "list", "--format", "json", "--arch", "sm_90a").Output).RootElement.EnumerateArray()];
        Assert.Equal(KernelRegistry.All.Select(k => k.Name), kernels.Select(k => k.GetProperty("name").GetString()));
        Assert.Equal(KernelRegistry.All.Select(k => k.Stem), kernels.Select(k => k.GetProperty("stem").GetString()));
        Assert.Equal(KernelRegistry.All.Select(k => k.TensorCores), kernels.Select(k => k.GetProperty("tensor_cores").GetBoolean()));
        Assert.All(kernels, k => Assert.Contains(k.GetProperty("direction").GetString(), new[] { "forward", "backward", "update" }));
        Assert.All(kernels, k => Assert.Contains(k.GetProperty("dtype").GetString(), new[] { "fp32", "bf16", "fp16" }));
        string table = CliRun.Succeeds("kernels", "list", "--arch", "sm_90a").Output;
        Assert.All(KernelRegistry.All, k => Assert.Contains($" {k.Name} ", table, StringComparison.Ordinal));
    }

    [Fact]
    public void What_is_listed_for_no_architecture_in_particular_runs_on_every_one()
    {
        JsonElement[] kernels = [.. JsonDocument.Parse(CliRun.Succeeds("kernels", "list", "--format", "json").Output).RootElement.EnumerateArray()];
        Assert.Equal(KernelRegistry.All.Where(k => k.RunsOn("sm_80") && k.RunsOn("sm_90")).Select(k => k.Name), kernels.Select(k => k.GetProperty("name").GetString()));
        Assert.InRange(kernels.Length, 300, KernelRegistry.All.Count - 1);
    }

    [Fact]
    public void List_with_costs_holds_the_assemblers_account_of_the_kernels_that_are_asked_for()
    {
        if (CudaToolkit.Find("ptxas") is null)
        {
            CliRun.Fails(1, ["--costs", "no ptxas"], "kernels", "list", "--costs");
            Assert.Skip("no ptxas on this machine");
        }
        JsonElement[] kernels = [.. JsonDocument.Parse(CliRun.Succeeds("kernels", "list", "cast.", "--costs", "--format", "json", "--arch", "sm_80").Output).RootElement.EnumerateArray()];
        Assert.Equal(KernelRegistry.All.Where(k => k.Name.StartsWith("Cast.", StringComparison.Ordinal)).Select(k => k.Name), kernels.Select(k => k.GetProperty("name").GetString()));
        Assert.All(kernels, k => Assert.Equal((0, 0), (k.GetProperty("spill_bytes").GetInt32(), k.GetProperty("stack_bytes").GetInt32())));
        Assert.All(kernels, k => Assert.InRange(k.GetProperty("registers").GetInt32(), 8, 64));
        Assert.Contains("registers", CliRun.Succeeds("kernels", "list", "Cast.", "--costs").Output, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("sm_80")]
    [InlineData("sm_90")]
    public void Ptx_prints_the_text_that_is_loaded_and_nothing_else(string architecture)
    {
        KernelDescriptor kernel = KernelRegistry.All.Single(k => k.Name == "Cast.Convert.FP32.BF16");
        string text = CliRun.Succeeds("kernels", "ptx", "cast.convert.fp32.bf16", "--arch", architecture).Output;
        Assert.Equal(KernelReport.Compile(kernel, architecture), text);
        Assert.Contains($".target {architecture}", text, StringComparison.Ordinal);
    }

    [Fact]
    public void What_needs_a_gpu_says_so_where_there_is_none()
    {
        Assert.SkipWhen(BgeMetal.Testing.CudaPresence.IsAvailable, "there is one");
        foreach (string command in new[] { "probe", "repeat" }) CliRun.Fails(1, ["error: no CUDA driver: "], "kernels", command);
        CliRun.Fails(2, ["--shape: 'B' of 'B' is not NAME=NUMBER"], "kernels", "bench", "--shape", "B");
    }

    [Fact]
    public void A_probes_results_are_read_as_they_were_written()
    {
        ProbeReport report = new()
        {
            Device = "GPU",
            Architecture = "sm_90",
            Driver = "CUDA 13.0",
            Facts = [new("launches", "host, each of a row", 2.5, "us")],
            Kernels = [new() { Kernel = "A.B", Registers = 40, ExpectedRegisters = 38 }, new() { Kernel = "C", Error = "cannot load C: \"why\"" }],
            Failures = [new("C", "cannot load C")],
        };
        ProbeResults.Write(In("results"), "first", report);
        ProbeReport read = ProbeResults.Read(In("results/first.json"));
        Assert.Equal((report.Device, report.Driver), (read.Device, read.Driver));
        Assert.Equal((report.Facts, report.Kernels, report.Failures), (read.Facts, read.Kernels, read.Failures), EqualParts);
        Assert.Equal(3, System.IO.File.ReadAllLines(In("results/first_kernels.csv")).Length);
    }

    private static bool EqualParts(
        (IReadOnlyList<ProbeFact> Facts, IReadOnlyList<KernelLoad> Kernels, IReadOnlyList<ProbeFailure> Failures) a,
        (IReadOnlyList<ProbeFact> Facts, IReadOnlyList<KernelLoad> Kernels, IReadOnlyList<ProbeFailure> Failures) b) =>
        a.Facts.SequenceEqual(b.Facts) && a.Kernels.SequenceEqual(b.Kernels) && a.Failures.SequenceEqual(b.Failures);

    [Theory]
    [InlineData("Gem.Multiply", "Gemm.Multiply.")]
    [InlineData("LayerNorm.Forwrad.BF16", "LayerNorm.Forward.BF16.")]
    [InlineData("mean", "Pooling.Mean.")]
    public void An_unknown_kernel_is_answered_with_the_nearest(string name, string nearest)
    {
        CliRun.Fails(1, [$"no kernel '{name}'", nearest, "bgemetal kernels list"], "kernels", "show", name);
        CliRun.Fails(1, [$"no kernel '{name}'", nearest], "kernels", "ptx", name);
    }

    [Fact]
    public void An_unknown_architecture_or_verb_is_wrong_usage()
    {
        CliRun.Fails(2, ["--arch", "sm_70", "sm_90"], "kernels", "ptx", "Cast.Convert.FP32.BF16", "--arch", "sm_70");
        CliRun.Fails(2, ["unknown command 'lst'", "did you mean 'list'"], "kernels", "lst");
    }

    [Fact]
    public void Kernels_of_one_architecture_are_shown_and_listed_for_no_other()
    {
        const string name = "WarpGroupGemm.Multiply.BF16.Nt.WarpGroupTile256.LinearOutput";
        Assert.Contains(".target sm_90a", CliRun.Succeeds("kernels", "ptx", name).Output, StringComparison.Ordinal);
        CliRun.Fails(1, ["--arch sm_80", $"{name} is for sm_90a only"], "kernels", "ptx", name, "--arch", "sm_80");
        CliRun.Fails(1, ["--arch sm_80", $"{name} is for sm_90a only"], "kernels", "show", name, "--arch", "sm_80");
        if (CudaToolkit.Find("ptxas") is null) return;
        Assert.Equal("[]", CliRun.Succeeds("kernels", "list", name, "--costs", "--format", "json", "--arch", "sm_80").Output.Trim());
    }

    [Fact]
    public void Show_gives_launch_facts_formulas_and_where_there_is_ptxas_its_account()
    {
        JsonElement facts = JsonDocument.Parse(CliRun.Succeeds("kernels", "show", "LayerNorm.Forward.BF16.Off", "--format", "json", "--arch", "sm_80").Output).RootElement;
        Assert.Equal(("LayerNorm", "forward", "bf16", "sm_80", 128), (facts.GetProperty("stem").GetString(), facts.GetProperty("direction").GetString(),
            facts.GetProperty("dtype").GetString(), facts.GetProperty("architecture").GetString(), facts.GetProperty("threads").GetInt32()));
        Assert.Contains(facts.GetProperty("formulas").EnumerateArray(), f => f.GetProperty("op").GetString() == "AddLayerNorm" && f.GetProperty("bytes").GetString() == "4 E T D");
        bool assembled = CudaToolkit.Find("ptxas") is not null;
        Assert.Equal(assembled ? JsonValueKind.Number : JsonValueKind.Null, facts.GetProperty("registers").ValueKind);
        Assert.Equal(assembled ? JsonValueKind.Number : JsonValueKind.Null, facts.GetProperty("blocks_per_multiprocessor").ValueKind);
        Assert.Contains("4 E T D bytes", CliRun.Succeeds("kernels", "show", "LayerNorm.Forward.BF16.Off").Output, StringComparison.Ordinal);
    }

    [Fact]
    public void Bench_measures_on_the_cpu_and_adds_rows()
    {
        string csv = In("kernels.csv"), png = In("roofline.png");
        for (int run = 1; run <= 2; run++)
        {
            CliRun result = CliRun.Succeeds("kernels", "bench", "SoftmaxCrossEntropy", "--device", "cpu", "--threads", "2", "--seconds", "0", "--output", csv, "--plot", png);
            Assert.Equal(6, result.Output.TrimEnd().Split('\n').Length);
            string[] lines = System.IO.File.ReadAllLines(csv);
            Assert.Equal(1 + (5 * run), lines.Length);
            Assert.Equal(Header, lines[0]);
            Assert.Single(lines, line => line == Header);
        }
        Assert.All(KernelResults.Read(csv).Where(row => !row.IsLimit), row =>
        {
            Assert.Equal(("SoftmaxCrossEntropy", "cpu", "B=4096 G=16"), (row.Op, row.Backend, row.Shape));
            Assert.True(row.P50Us > 0 && row.GigabytesPerSecond > 0 && row.PeakBytes > 0);
        });
        Assert.Equal([0x89, (byte)'P', (byte)'N', (byte)'G'], System.IO.File.ReadAllBytes(png)[..4]);
    }

    [Fact]
    public void Bench_says_what_is_wrong()
    {
        CliRun.Fails(1, ["nothing to measure", "CPU", "'nonsense'"], "kernels", "bench", "nonsense", "--device", "cpu");
        CliRun.Fails(2, ["--plot", "--output"], "kernels", "bench", "KlDivergence", "--plot", In("x.png"));
        string alien = File("alien.csv", "a,b\n1,2\n");
        CliRun.Fails(1, ["kernel results", "header", "alien.csv"], "kernels", "bench", "KlDivergence", "--device", "cpu", "--seconds", "0", "--output", alien);
        Assert.Equal("a,b\n1,2\n", System.IO.File.ReadAllText(alien));
        Assert.SkipWhen(CudaDevice.List().Count > 0, "this machine has a GPU");
        CliRun.Fails(1, ["no CUDA driver"], "kernels", "bench", "--device", "cuda");
    }

    [Fact]
    public void A_broken_line_is_named_and_an_empty_file_has_no_roofline()
    {
        string csv = File("broken.csv", Header + "\nCopy,cpu,roofline,fp32,x,0,0,0,10,0,0,0,d,v,c,2026-01-01\nLinear,cpu,forward,fp32\n");
        BgeMetalException error = Assert.Throws<BgeMetalException>(() => KernelResults.Read(csv));
        Assert.Equal((csv, 3L), (error.File, error.Line));
        Assert.Throws<BgeMetalException>(() => RooflinePlot.Write(File("none.csv", Header + "\n"), In("x.png")));
        Assert.False(System.IO.File.Exists(In("x.png")));
    }

    [Fact]
    public void Rows_hold_every_digit_and_the_day()
    {
        string csv = In("rows.csv");
        BenchResult result = new()
        {
            Op = "Linear",
            Backend = "cuda",
            Mode = "forward",
            DType = "bf16",
            Shape = "T=1 K=2 N=3",
            P20Us = 1.5,
            P50Us = 2.25,
            P80Us = 1234567,
            GigabytesPerSecond = 0.0001234,
            TeraflopsPerSecond = 987.6,
            RooflinePercent = 71.2,
            PeakBytes = 1L << 40,
            Device = "GPU, with a comma",
            Driver = "CUDA 12.4",
        };
        KernelResults.Append(csv, [result], "0123abcd", new DateTime(2026, 3, 4, 5, 6, 7, DateTimeKind.Utc));
        Assert.Equal($"{Header}\nLinear,cuda,forward,bf16,T=1 K=2 N=3,1.5,2.25,1234567,0.0001234,987.6,71.2,1099511627776,\"GPU, with a comma\",CUDA 12.4,0123abcd,2026-03-04\n",
            System.IO.File.ReadAllText(csv));
        Assert.Equal(987.6, KernelResults.Read(csv).Single().TeraflopsPerSecond);
    }
}
