using BgeMetal.Kernels.Bench;
using BgeMetal.Kernels.Runtime;

namespace BgeMetal.Kernels.Tests.Bench;

/// <summary>The table of what is timed, and the formulas in it.</summary>
public sealed class BenchTableTests
{
    /// <summary>Stems that are the yardstick itself.</summary>
    private static readonly string[] s_notTimedOnGpu = ["Peak"];

    [Theory]
    [InlineData("2 T K N", 48)]
    [InlineData("2 * T K N", 48)]
    [InlineData("E (T K + K N + T N)", 52)]
    [InlineData("T K N / 4 - 1.5", 4.5)]
    [InlineData("(28 + E)T", 60)]
    [InlineData("0", 0)]
    public void Formulas_are_read_as_people_write_them(string text, double value)
    {
        Dictionary<string, double> sizes = new() { ["T"] = 2, ["K"] = 3, ["N"] = 4, ["E"] = 2 };
        Assert.Equal(value, Formula.Evaluate(text, name => sizes[name]));
    }

    [Theory]
    [InlineData("2 T +", "'2 T +': a number, a size or '(' is expected at character 6")]
    [InlineData("E (T", "'E (T': ')' is expected at character 5")]
    [InlineData("T ) K", "'T ) K': the end is expected at character 3")]
    [InlineData("", "'': a number, a size or '(' is expected at character 1")]
    public void A_broken_formula_says_where(string text, string message) =>
        Assert.Equal(message, Assert.Throws<FormatException>(() => Formula.Evaluate(text, _ => 1)).Message);

    [Fact]
    public void Shapes_are_read_and_missing_sizes_are_named()
    {
        BenchShape shape = new("T=4096 Dh=32");
        Assert.Equal((4096, 32), (shape["T"], shape["Dh"]));
        Assert.Equal("shape 'T=4096 Dh=32' has no D", Assert.Throws<KeyNotFoundException>(() => shape["D"]).Message);
        Assert.Throws<FormatException>(() => new BenchShape("T=-1"));
        Assert.Throws<FormatException>(() => new BenchShape("T"));
    }

    [Fact]
    public void Every_case_has_a_cost_that_its_shape_can_tell()
    {
        Assert.All(KernelBench.CpuCases("").Concat(KernelBench.CudaCases("")), item =>
        {
            (double flops, double bytes) = item.Op.Cost(item.Shape, item.DType);
            Assert.True(bytes > 0 && flops >= 0, item.ToString());
        });
    }

    [Fact]
    public void Every_stem_and_direction_that_has_kernels_is_timed()
    {
        (string, KernelDirection)[] timed = [.. BenchTable.All.Where(op => op.Cuda is not null).Select(op => (op.Stem, op.Direction)).Distinct()];
        Assert.Empty(KernelRegistry.All.Where(k => !s_notTimedOnGpu.Contains(k.Stem)).Select(k => (k.Stem, k.Direction)).Distinct().Except(timed));
        Assert.DoesNotContain(timed, pair => s_notTimedOnGpu.Contains(pair.Item1));
    }

    [Fact]
    public void Every_stem_of_the_design_is_timed_on_the_cpu() => Assert.Equal(
        ["AdamW", "Attention", "BagOfWords", "Dropout", "Embedding", "GlobalNorm", "InfoNce", "KlDivergence", "LayerNorm", "Linear", "LinearCrossEntropy", "NormalizeRows", "Pooling", "SoftmaxCrossEntropy", "TopK"],
        KernelBench.CpuCases("").Select(item => item.Op.Stem).Distinct().Order(StringComparer.Ordinal));

    [Fact]
    public void Cases_are_named_once_and_found_by_words()
    {
        Assert.Equal(KernelBench.CudaCases("").Count, KernelBench.CudaCases("").Select(item => item.ToString()).Distinct().Count());
        Assert.Equal(KernelBench.CpuCases("").Count, KernelBench.CpuCases("").Select(item => item.ToString()).Distinct().Count());
        Assert.All(KernelBench.CudaCases("linear.BF16 k=768"), item => Assert.Equal(("Linear", DType.BFloat16, 768), (item.Op.Stem, item.DType, item.Shape["K"])));
        Assert.NotEmpty(KernelBench.CudaCases("linear.bf16 k=768"));
        Assert.Empty(KernelBench.CudaCases("linear nonsense"));
    }

    [Fact]
    public void The_roofline_is_the_slower_of_memory_and_arithmetic()
    {
        Roofline roofline = new(BytesPerSecond: 1e12, FlopsPerSecond: 1e14);
        Assert.Equal(50, roofline.PercentAt(flops: 1e9, bytes: 1e9, seconds: 2e-3), 9);
        Assert.Equal(25, roofline.PercentAt(flops: 1e12, bytes: 1e9, seconds: 4e-2), 9);
        Assert.Equal(0, default(Roofline).PercentAt(1, 1, 1));
    }

    [Fact]
    public void Rates_are_those_of_the_median()
    {
        BenchCase item = new(BenchTable.All.First(op => op.Name == "Linear" && op.Mode == "forward"), new BenchShape("T=1000 K=100 N=10"), DType.BFloat16);
        BenchResult result = BenchResult.Of(item, "cuda", "forward", [50, 10, 20, 40, 30, 60], new Roofline(1e12, 1e12), 7, "device", "driver");
        Assert.Equal((20, 30, 50), (result.P20Us, result.P50Us, result.P80Us));
        Assert.Equal(0.06667, result.TeraflopsPerSecond);       // 2e6 operations in 30 us
        Assert.Equal(7.4, result.GigabytesPerSecond);           // 222,000 bytes
        Assert.Equal(6.7, result.RooflinePercent);
    }
}
