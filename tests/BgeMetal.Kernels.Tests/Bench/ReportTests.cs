using BgeMetal.Kernels.Reports;
using BgeMetal.Kernels.Runtime;
using BgeMetal.Kernels.Tests.Cuda;

namespace BgeMetal.Kernels.Tests.Bench;

/// <summary>What is said of kernels without running them.</summary>
public sealed class ReportTests
{
    /// <summary>Checked against NVIDIA's occupancy calculator's rules by hand: what runs out first, and how many blocks are left.</summary>
    [Theory]
    [InlineData("sm_90", 128, 204, 98432, 2, "registers")]       // 6656 a warp: two warps in each of four partitions, 2 blocks; shared memory would allow 2 as well
    [InlineData("sm_80", 128, 210, 98432, 1, "shared memory")]
    [InlineData("sm_90", 128, 93, 65664, 3, "shared memory")]
    [InlineData("sm_90", 256, 63, 0, 4, "registers")]
    [InlineData("sm_90", 128, 32, 0, 16, "threads")]
    [InlineData("sm_90", 32, 16, 0, 32, "blocks")]
    [InlineData("sm_89", 1024, 32, 0, 1, "threads")]
    [InlineData("sm_80", 256, 255, 200_000, 0, "shared memory")]
    public void Occupancy_is_what_runs_out_first(string architecture, int threads, int registers, int sharedBytes, int blocks, string limit)
    {
        Occupancy occupancy = Occupancy.Of(architecture, threads, registers, sharedBytes);
        Assert.Equal((blocks, limit), (occupancy.Blocks, occupancy.Limit));
        Assert.Equal(100.0 * blocks * threads / MultiprocessorLimits.Of(architecture).Threads, occupancy.Percent, 9);
    }

    [Fact]
    public void Impossible_kernels_and_unknown_architectures_are_refused()
    {
        Assert.Throws<ArgumentOutOfRangeException>(() => Occupancy.Of("sm_90", 2048, 32, 0));
        Assert.Throws<ArgumentOutOfRangeException>(() => Occupancy.Of("sm_90", 128, 256, 0));
        Assert.Equal("'sm_70' is not one of sm_80, sm_86, sm_89, sm_90 (Parameter 'architecture')",
            Assert.Throws<ArgumentException>(() => KernelReport.Compile(KernelRegistry.All[0], "sm_70")).Message);
    }

    [Fact]
    public void Instructions_are_counted_by_name_without_predicates_modifiers_and_padding() => Assert.Equal(
        [new("LDG", 2), new("EXIT", 1), new("HMMA", 1), new("UIADD3", 1)],
        KernelAssembler.CountByName("""
            	Function : Gemm
                    /*0000*/                   LDG.E.128 R4, desc[UR4][R2.64] ;      /* 0x0000000402047981 */
                                                                                     /* 0x000fe200000e0d00 */
                    /*0010*/              @!P0 LDG.E R5, [R2] ;                      /* 0x0000000402047981 */
                    /*0020*/               @P1 HMMA.16816.F32.BF16 R4, R8, R12, R4 ; /* 0x0000000c0804723c */
                    /*0030*/             @!UP0 UIADD3 UR4, UR4, 0x1, URZ ;           /* 0x0000000104047890 */
                    /*0040*/                   EXIT ;                                /* 0x000000000000794d */
                    /*0050*/                   NOP;                                  /* 0x0000000000007918 */
            """));

    [Fact]
    public void A_report_holds_the_text_that_is_loaded_and_the_assemblers_account_of_it()
    {
        KernelDescriptor kernel = KernelRegistry.All.Single(k => k.Name == "Cast.Convert.FP32.BF16");
        KernelReport report = KernelReport.Create(kernel, "sm_90");
        Assert.Equal(new KernelCache(null).Get(kernel, "sm_90"), report.Ptx);
        Ptxas.RequireOrSkip();
        Assert.Equal((0, 0, 0), (report.Assembled!.SpillBytes, report.Assembled.StackBytes, report.Assembled.TensorCoreInstructions));
        Assert.InRange(report.Assembled.Registers, 8, 64);
        Assert.Equal(8, report.Occupancy!.Value.Blocks);
        Assert.SkipUnless(CudaToolkit.Find("cuobjdump") is not null, "no cuobjdump on this machine");
        Assert.Equal(report.Assembled.Instructions, report.Assembled.InstructionMix.Sum(pair => pair.Value));
        Assert.Contains(report.Assembled.InstructionMix, pair => pair.Key == "STG");
    }

    [Fact]
    public void Text_that_ptxas_refuses_is_an_error_with_its_words()
    {
        Ptxas.RequireOrSkip();
        Assert.Contains("ptxas", Assert.Throws<InvalidOperationException>(() => KernelAssembler.Assemble(".version 7.8\n.target sm_90\nnonsense", "sm_90")).Message, StringComparison.Ordinal);
    }
}
