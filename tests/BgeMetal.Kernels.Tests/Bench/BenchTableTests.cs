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
    public void Shapes_that_are_given_replace_the_tables_where_an_operation_has_their_sizes()
    {
        IReadOnlyList<BenchCase> cases = KernelBench.CudaCases("bf16", [new BenchShape("B=3 L=40 H=2 Dh=32"), new BenchShape("T=100 K=64 N=32")]);
        Assert.Contains(cases, item => item.ToString() == "Attention backward bf16 B=3 L=40 H=2 Dh=32");
        Assert.Contains(cases, item => item.ToString() == "LinearGelu forward bf16 T=100 K=64 N=32");
        Assert.All(cases, item => Assert.Contains(item.Op.Stem, new[] { "Attention", "Linear" }));
        Assert.Empty(KernelBench.CudaCases("", [new BenchShape("B=3")]));
    }

    [Fact]
    public void Ragged_lengths_are_even_over_their_range_and_always_the_same()
    {
        int[] lengths = [.. Enumerable.Range(0, 4096).Select(i => AttentionOperands<BF16>.RaggedLength(i, 512))];
        Assert.Equal([1, 317, 121, 438], lengths[..4]);
        Assert.Equal((1, 512), (lengths.Min(), lengths.Max()));
        Assert.InRange(lengths.Average(), 255, 258);
        Assert.InRange(lengths.Average(l => (double)l * l) / (512 * 512 / 3.0), 0.99, 1.02);
    }

    [Fact]
    public void A_budget_shares_what_is_left_and_learns_what_a_case_costs_beside()
    {
        double now = 100;
        TimeBudget budget = new(seconds: 10, most: 0.5, () => now);
        Assert.Equal(0.5, budget.Next(10));                     // one second a case, half a second at most
        now += 2;                                               // the case took 1.5 s beside its measuring
        Assert.Equal(0.5, budget.Next(4), 9);                   // 8 s for 4: 2 - 1.5
        now += 5.5;
        Assert.Equal(0.01, budget.Next(3), 9);                  // 2.5 s for 3, and 3.25 s a case beside: the least
        Assert.False(budget.IsSpent);
        now += 3;
        Assert.True(budget.IsSpent);
        TimeBudget none = new(seconds: 0, most: 0.5, () => now);
        now += 1e6;
        Assert.Equal(0.5, none.Next(1));
        Assert.False(none.IsSpent);
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
