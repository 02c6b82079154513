using BgeMetal.Kernels.Bench;
using BgeMetal.Kernels.Runtime;
using BgeMetal.Kernels.Tests.Cuda;
using BgeMetal.Testing;

namespace BgeMetal.Kernels.Tests.Bench;

/// <summary>Every operation gives the same bits at every run, whatever the workspace holds; and what does not is found.</summary>
[Collection("emulation")]
public sealed class RepeatTests(EmulationFixture fixture)
{
    private const long Ample = 1 << 24, WorkspaceLength = 4096;

    [Fact]
    public void Every_operation_gives_the_same_bits_again_on_the_emulated_device()
    {
        BenchCase[] cases = [.. RepeatCheck.Cases("", large: false).GroupBy(item => item.Op).Select((types, i) => types.ElementAt(i % types.Count()) with { Shape = new BenchShape(BenchRunTests.Tiny) })];
        RepeatResult[] results = [.. RepeatCheck.Run(fixture.Device, cases, repeats: 2, Ample, WorkspaceLength)];
        Assert.Equal(BenchTable.All.Count(op => op.Cuda is not null), results.Length);
        Assert.All(results, result => Assert.True(result.IsGood && result.Repeats == 2, result.ToString()));
    }

    [Fact]
    public void A_result_that_moves_and_a_sum_over_what_nothing_wrote_are_found()
    {
        int runs = 0;
        BenchCase moving = Case((o, s, _) =>
        {
            long address = o.Reserve<int>(s["P"]).Address;
            return () => o.Device.Fill(address + 8, (byte)(runs++ == 3 ? 1 : 0), 1);
        }), unwritten = Case((o, s, _) =>
        {
            long address = o.Reserve<int>(s["P"]).Address;
            return () => o.Device.Copy(o.Workspace.Start.Address, address + 4, 4);
        });
        RepeatResult[] results = [.. RepeatCheck.Run(fixture.Device, [moving, unwritten], repeats: 5, Ample, WorkspaceLength)];
        Assert.Equal((1, "run 3, operand 0, byte 8 of 40"), (results[0].Differing, results[0].First));
        // The workspace is filled in three ways: of five runs only the third is like the first.
        Assert.Equal((4, "run 1, operand 0, byte 4 of 40"), (results[1].Differing, results[1].First));
        Assert.All(results, result => Assert.False(result.IsGood));
    }

    [Fact]
    public void What_is_too_large_and_what_fails_are_reported_and_the_rest_goes_on()
    {
        BenchCase large = Case((o, s, _) =>
        {
            o.Reserve<int>(s["P"]);
            return () => { };
        }), failing = Case((o, _, _) =>
        {
            o.Reserve<int>(1);
            return () => throw new DeviceException("as the test says");
        });
        RepeatResult[] results = [.. RepeatCheck.Run(fixture.Device, [large, failing, large], repeats: 1, mostBytes: 39, WorkspaceLength)];
        Assert.Equal(["its operands take 40 bytes, at most 39 are compared", "", "its operands take 40 bytes, at most 39 are compared"], results.Select(result => result.LeftOut));
        Assert.Equal(["", "as the test says", ""], results.Select(result => result.Error));
        Assert.Equal([true, false, true], results.Select(result => result.IsGood));
    }

    [Fact]
    public void Small_cases_cover_every_operation_and_type_and_fill_no_tile()
    {
        IReadOnlyList<BenchCase> small = RepeatCheck.Cases("", large: false);
        Assert.Equal(KernelBench.CudaCases("").Select(item => (item.Op, item.DType)).Distinct(), small.Select(item => (item.Op, item.DType)));
        Assert.Equal(2 * small.Count, RepeatCheck.Cases("", large: true).Count);
        Assert.Contains(small, item => item.ToString() == "Linear forward bf16 T=1030 K=768 N=768");
        Assert.Contains(small, item => item.ToString() == "Attention backward bf16 B=23 L=128 H=12 Dh=64");
        Assert.Contains(small, item => item.ToString() == "TopK update bf16 B=1 N=20001 D=384");
    }

    private static BenchCase Case(CudaCall call) => new(new BenchOp("Test", "Test", KernelDirection.Update, "0", "P") { Cuda = call, CudaShapes = ["P=10"] }, new BenchShape("P=10"), DType.Float32);
}

/// <summary>The same at sizes for which a GPU is needed.</summary>
[Collection("gpu")]
public sealed class GpuRepeatTests(GpuFixture fixture)
{
    [CudaFact]
    public void Every_operation_gives_the_same_bits_at_every_run()
    {
        RepeatResult[] results = [.. RepeatCheck.Run(fixture.DeviceOrSkip(), RepeatCheck.Cases("", large: false), repeats: 10)];
        Assert.Empty(results.Where(result => !result.IsGood).Select(result => result.ToString()));
    }
}
