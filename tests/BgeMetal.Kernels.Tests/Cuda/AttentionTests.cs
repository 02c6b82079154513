using BgeMetal.Kernels.Cuda;
using BgeMetal.Kernels.Runtime;
using BgeMetal.Testing;

namespace BgeMetal.Kernels.Tests.Cuda;

/// <summary>Attention's kernels against the oracle, on whatever device a derived class supplies.</summary>
public abstract class AttentionTests(KernelDevice device)
{
    /// <summary>Heads, their columns and lengths: one token, odd lengths, tiles and their neighbours, ragged batches; every head dimension with a padding of its own.</summary>
    public static TheoryData<int, int, int[]> Cases => new()
    {
        { 2, 64, [1, 17, 65] }, { 1, 32, [7, 33] }, { 1, 8, [63, 64] }, { 2, 40, [65] }, { 1, 72, [19, 129] }, { 1, 128, [66] },
    };

    [Theory, MemberData(nameof(Cases))]
    public void Bf16_agrees_with_the_oracle(int heads, int headDim, int[] lengths) => Forward<BF16>(new(heads, headDim, lengths));

    [Theory, MemberData(nameof(Cases))]
    public void Fp32_agrees_with_the_oracle(int heads, int headDim, int[] lengths) => Forward<FP32>(new(heads, headDim, lengths));

    [Fact]
    public void Fp16_agrees_with_the_oracle() => Forward<FP16>(new(1, 64, 70));

    [Fact]
    public void One_query_a_sequence_looks_at_all_its_keys()
    {
        Forward<BF16>(new(2, 32, [1, 1, 1], [5, 130, 1]));
        Forward<FP32>(new(2, 64, [1, 1], [3, 70]));
    }

    [Fact]
    public void Sequences_without_keys_or_without_queries_are_allowed()
    {
        Forward<BF16>(new(1, 32, [2, 0, 3], [0, 5, 4]));
        Forward<FP32>(new(1, 32, [2, 0, 3], [0, 5, 4]));
    }

    [Theory]
    [InlineData(64, 30)]
    [InlineData(72, 20)]
    public void Dropout_draws_the_masks_of_the_cpu(int headDim, int firstQuery)
    {
        AttentionSetting setting = new(2, headDim, 18, 67) { Dropout = 0.3f, FirstQuery = firstQuery };
        Forward<FP32>(setting);
        Forward<BF16>(setting);
    }

    [Fact]
    public void Hidden_keys_are_hidden_with_dropout_and_without()
    {
        AttentionSetting setting = new(2, 32, 3, 67) { Masked = true, HiddenRow = 20 };
        Forward<BF16>(setting);
        Forward<FP32>(setting with { Dropout = 0.2f });
        Forward<FP32>(setting with { HeadDim = 72 });
    }

    [Fact]
    public void Logarithms_are_optional_and_a_rerun_is_bit_equal()
    {
        using AttentionProblem<BF16> problem = new(device, new(1, 64, 40));
        problem.Forward();
        float[] first = problem.Output.ToArray();
        problem.Forward(log: false);
        Tolerance.AssertBitEqual(problem.Output.ToArray(), first);
    }

    [Fact]
    public void Sizes_out_of_range_are_refused()
    {
        foreach (AttentionShape shape in new AttentionShape[] { new(1, 1, 1, 1, 1, 20, 1), new(1, 1, 1, 1, 1, 136, 1), new(0, 1, 1, 1, 1, 8, 1), new(1, 1, 1, 1, 1, 8, 0) })
            Assert.Throws<ArgumentException>(() => Attention.Forward<BF16>(device, shape, default, default, default, default, default, default, default, default, default));
        Assert.Throws<ArgumentException>(() => Attention.Forward<BF16>(device, new(1, 1, 1, 1, 1, 8, 1), new(new(8), 8), default, default, default, default, default, default, default, default));
    }

    private void Forward<T>(AttentionSetting setting) where T : unmanaged, IElement
    {
        using AttentionProblem<T> problem = new(device, setting);
        problem.Forward();
        problem.AssertForward();
    }
}

/// <summary>On the emulated device.</summary>
[Collection("emulation")]
public sealed class EmulatedAttentionTests(EmulationFixture fixture) : AttentionTests(fixture.Device);

/// <summary>On a GPU, where there is one.</summary>
[Collection("gpu")]
public sealed class GpuAttentionTests(GpuFixture fixture) : AttentionTests(fixture.DeviceOrSkip());
