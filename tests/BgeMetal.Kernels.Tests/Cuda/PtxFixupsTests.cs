using BgeMetal.Kernels.Runtime;

namespace BgeMetal.Kernels.Tests.Cuda;

public sealed class PtxFixupsTests
{
    private const string Text = """
        .version 7.8
        .target sm_80
        .visible .func (.param .b32 retval_77) Base_78(
        	.param .b64 _start_79
        )
        ;

        .visible .func (.param .b32 retval_12) Helper_13(
        	.param .b64 _x_14
        )
        {

        	ld.param.b64	%rd1, [_x_14];
        	ret;
        }

        .visible .entry Kernel_4711(
        	.param .align 8 .b8 _map_100[128],
        	.param .align 8 .b8 _arguments_101[64]
        )
        {
        	ld.param.b64	%rd1, [_arguments_101];
        	call (result), Called_55, (a);
        	bra.uni	L_3;
        }

        """;

    [Fact]
    public void Branches_lose_their_uniformity_and_the_target_is_the_real_one()
    {
        string text = PtxFixups.Apply(Text, "sm_90a", "Linear_X");
        Assert.Contains("bra\tL_", text, StringComparison.Ordinal);
        Assert.DoesNotContain("bra.uni", text, StringComparison.Ordinal);
        Assert.Contains(".target sm_90a\n", text, StringComparison.Ordinal);
    }

    [Fact]
    public void Functions_that_nobody_calls_go_and_called_ones_stay()
    {
        string called = Text.Replace("Called_55", "Helper_13", StringComparison.Ordinal);
        Assert.DoesNotContain(".func", PtxFixups.Apply(Text, "sm_80", "K"), StringComparison.Ordinal);
        string text = PtxFixups.Apply(called, "sm_80", "K");
        Assert.Contains("Helper_", text, StringComparison.Ordinal);
        Assert.DoesNotContain("Base_", text, StringComparison.Ordinal);
        Assert.Contains(".entry K(", text, StringComparison.Ordinal);
    }

    [Fact]
    public void Numbers_in_names_do_not_depend_on_what_was_compiled_before()
    {
        string later = Text.Replace("101", "205", StringComparison.Ordinal).Replace("100", "204", StringComparison.Ordinal).Replace("4711", "9", StringComparison.Ordinal);
        Assert.Equal(PtxFixups.Apply(Text, "sm_80", "K"), PtxFixups.Apply(later, "sm_80", "K"));
        Assert.Contains("[_arguments_1]", PtxFixups.Apply(Text, "sm_80", "K"), StringComparison.Ordinal);
    }

    [Fact]
    public void A_kernel_that_runs_in_clusters_says_how_large_they_are_and_others_do_not()
    {
        Assert.Contains("_arguments_1[64]\n)\n.explicitcluster\n.reqnctapercluster 2, 1, 1\n{", PtxFixups.Apply(Text, "sm_90a", "K", clusterBlocks: 2), StringComparison.Ordinal);
        Assert.DoesNotContain("cluster", PtxFixups.Apply(Text, "sm_90a", "K"), StringComparison.Ordinal);
    }

    [Fact]
    public void A_kernel_that_copies_by_tensor_maps_gets_what_the_engine_asks_for()
    {
        const string text = """
            .extern .shared .align 4 .b8 __dyn_shared_alloca[];

            .visible .entry Kernel_4711(
            	.param .align 8 .b8 _arguments_101[336]
            )
            {
            	ld.param.b64	%rd1, [_arguments_101];
            	mov.b64 m, __tensor_map_parameters;
            	mov.f32	%f1, %f1;
            	mov.f32	%f1, %f12;
            	wgmma.fence.sync.aligned;
            	ret;
            }

            """;
        string result = PtxFixups.Apply(text, "sm_90a", "K");
        Assert.Contains(".param .align 64 .b8 _arguments_0[336]", result, StringComparison.Ordinal);
        Assert.Contains(".extern .shared .align 1024 .b8", result, StringComparison.Ordinal);
        Assert.Contains("mov.b64 m, _arguments_0;", result, StringComparison.Ordinal);
        Assert.DoesNotContain("%f1, %f1;", result, StringComparison.Ordinal);
        Assert.Contains("%f1, %f12;", result, StringComparison.Ordinal);
    }
}
