using BgeMetal.Kernels.Cuda;
using BgeMetal.Kernels.Runtime;
using BgeMetal.Testing;

namespace BgeMetal.Kernels.Tests.Cuda;

/// <summary>Attention's kernels against the oracle, on whatever device a derived class supplies.</summary>
public abstract class AttentionTests(KernelDevice device)
{
    private protected KernelDevice Device { get; } = device;

    /// <summary>Heads, their columns and lengths: one token, odd lengths, tiles and their neighbours, ragged batches; every head dimension with a padding of its own.</summary>
    public static TheoryData<int, int, int[]> Cases => new()
    {
        { 2, 64, [1, 17] }, { 1, 64, [65] }, { 1, 32, [7, 33] }, { 1, 32, [129] }, { 1, 8, [64] }, { 1, 40, [5, 3] }, { 1, 72, [19] }, { 1, 128, [33] },
    };

    [Theory, MemberData(nameof(Cases))]
    public void Bf16_agrees_with_the_oracle(int heads, int headDim, int[] lengths) => Check<BF16>(new(heads, headDim, lengths));

    [Theory, MemberData(nameof(Cases))]
    public void Fp32_agrees_with_the_oracle(int heads, int headDim, int[] lengths) => Check<FP32>(new(heads, headDim, lengths));

    [Fact]
    public void Fp16_agrees_with_the_oracle() => Check<FP16>(new(1, 64, 35));

    [Fact]
    public void One_query_a_sequence_looks_at_all_its_keys()
    {
        Check<BF16>(new(1, 32, [1, 1, 1], [5, 130, 1]));
        Check<FP32>(new(1, 64, [1, 1], [3, 70]));
    }

    [Fact]
    public void Sequences_without_keys_or_without_queries_are_allowed()
    {
        Check<BF16>(new(1, 32, [2, 0, 3], [0, 5, 4]));
        Check<FP32>(new(1, 32, [2, 0, 3], [0, 5, 4]));
    }

    [Fact]
    public void Dropout_draws_the_masks_of_the_cpu()
    {
        AttentionSetting setting = new(2, 64, 18, 67) { Dropout = 0.3f, FirstQuery = 30 };
        Check<FP32>(setting with { Heads = 1 });
        Check<BF16>(setting);
        Check<BF16>(new(1, 72, 37) { Dropout = 0.3f });
    }

    [Fact]
    public void Hidden_keys_are_hidden_with_dropout_and_without()
    {
        AttentionSetting setting = new(1, 32, 3, 67) { Masked = true, HiddenRow = 20 };
        Check<BF16>(setting);
        Check<FP32>(setting with { Dropout = 0.2f });
        Check<BF16>(new(1, 72, 35) { Masked = true, HiddenRow = 34, Dropout = 0.2f });
    }

    [Fact]
    public void Logarithms_are_optional_and_a_rerun_is_bit_equal()
    {
        using AttentionProblem<BF16> problem = new(Device, new(1, 64, 40) { Dropout = 0.1f });
        problem.Forward();
        problem.Backward();
        float[] output = problem.Output.ToArray(), gradients = problem.Gradients();
        problem.Forward(log: false);
        problem.Backward();
        Tolerance.AssertBitEqual(problem.Output.ToArray(), output, "output");
        Tolerance.AssertBitEqual(problem.Gradients(), gradients, "gradients");
    }

    [Fact]
    public void Sizes_out_of_range_are_refused()
    {
        foreach (AttentionShape shape in new AttentionShape[] { new(1, 1, 1, 1, 1, 20, 1), new(1, 1, 1, 1, 1, 136, 1), new(0, 1, 1, 1, 1, 8, 1), new(1, 1, 1, 1, 1, 8, 0) })
            Assert.Throws<ArgumentException>(() => Attention.Forward<BF16>(Device, shape, default, default, default, default, default, default, default, default, default));
        Assert.Throws<ArgumentException>(() => Attention.Forward<BF16>(Device, new(1, 1, 1, 1, 1, 8, 1), new(new(8), 8), default, default, default, default, default, default, default, default));
    }

    private protected void Check<T>(AttentionSetting setting) where T : unmanaged, IElement
    {
        using AttentionProblem<T> problem = new(Device, setting);
        problem.Forward();
        problem.AssertForward();
        problem.Backward();
        problem.AssertBackward();
    }
}

/// <summary>On the emulated device.</summary>
[Collection("emulation")]
public sealed class EmulatedAttentionTests(EmulationFixture fixture) : AttentionTests(fixture.Device);

/// <summary>At an encoder's own sizes, where only a GPU is fast enough: the tensor cores against the exact kernels.</summary>
[Collection("gpu")]
public sealed class GpuAttentionScaleTests(GpuFixture fixture)
{
    [CudaFact]
    public void A_packed_batch_agrees_with_the_exact_kernels() =>
        Compare(new(12, 64, [.. Enumerable.Range(0, 32).Select(i => 1 + (i * 331 % 512))]) { Dropout = 0.1f });

    [CudaFact]
    public void A_masked_batch_agrees_with_the_exact_kernels() => Compare(new(12, 64, 512, 77, 300, 128) { Masked = true, HiddenRow = 600 });

    [CudaFact]
    public void Small_heads_agree_with_the_exact_kernels() => Compare(new(12, 32, [.. Enumerable.Repeat(256, 16)]));

    [CudaFact]
    public void Short_sequences_agree_with_the_exact_kernels()
    {
        Compare(new(12, 64, [.. Enumerable.Range(0, 200).Select(i => 1 + (i * 331 % 128))]) { Dropout = 0.1f });
        Compare(new(12, 32, [.. Enumerable.Range(0, 200).Select(i => 1 + (i * 331 % 128))]));
        Compare(new(12, 64, [.. Enumerable.Range(0, 400).Select(i => 1 + (i * 331 % 64))]));
        Compare(new(12, 32, [.. Enumerable.Range(0, 400).Select(i => 1 + (i * 331 % 64))]) { Dropout = 0.1f });
    }

    [CudaFact]
    public void A_long_sequence_agrees_with_the_exact_kernels() => Compare(new(2, 64, 8192, 1));

    private void Compare(AttentionSetting setting)
    {
        CudaDevice device = fixture.DeviceOrSkip();
        using AttentionProblem<FP32> exact = new(device, setting);
        using AttentionProblem<BF16> low = new(device, setting);
        exact.Forward();
        exact.Backward();
        low.Forward();
        low.Backward();
        Tolerance.AssertNorm(low.Output.ToArray(), exact.Output.ToDoubles(), AttentionProblem<BF16>.Limit, "output");
        Tolerance.AssertNorm(low.Gradients(), [.. exact.Gradients().Select(g => (double)g)], 3 * AttentionProblem<BF16>.Limit, "gradients");
        float[] first = low.Gradients();
        low.Backward();
        Tolerance.AssertBitEqual(low.Gradients(), first, "a rerun");
    }
}

/// <summary>On a GPU, where there is one.</summary>
[Collection("gpu")]
public sealed class GpuAttentionTests(GpuFixture fixture) : AttentionTests(fixture.DeviceOrSkip());

/// <summary>On a GPU with kernels of its own, by those of every GPU.</summary>
[Collection("gpu")]
public sealed class GpuPortableAttentionTests(GpuFixture fixture) : AttentionTests(fixture.PortableOrSkip());
