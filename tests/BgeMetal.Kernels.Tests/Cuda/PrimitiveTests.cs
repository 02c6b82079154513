using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;
using BgeMetal.Testing.Reference;

namespace BgeMetal.Kernels.Tests.Cuda;

public sealed class PrimitiveTests
{
    [Fact]
    public void Erf_and_tanh_are_accurate_to_binary32_everywhere()
    {
        for (float x = -6; x <= 6; x += 0.00137f)
        {
            Assert.Equal(ActivationReference.Erf(x), DeviceMath.Erf(x), 3e-7 * Math.Abs(ActivationReference.Erf(x)));
            Assert.Equal(Math.Tanh(x), DeviceMath.Tanh(x), 3e-7 * Math.Abs(Math.Tanh(x)));
        }
        Assert.Equal((1f, -1f, 0f), (DeviceMath.Tanh(100), DeviceMath.Erf(-100), DeviceMath.Erf(0)));
    }

    /// <summary>The known answers of the authors' own implementation (Random123, kat_vectors).</summary>
    [Theory]
    [InlineData(0ul, 0ul, 0ul, 0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u)]
    [InlineData(0xfffffffffffffffful, 0xfffffffffffffffful, 0xfffffffffffffffful, 0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu)]
    [InlineData(0x85a308d3243f6a88ul, 0x0370734413198a2eul, 0x299f31d0a4093822ul, 0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u)]
    public void Philox_gives_its_known_answers(ulong position, ulong stream, ulong seed, uint x, uint y, uint z, uint w)
    {
        Philox.Words words = Philox.Generate(position, stream, seed);
        Assert.Equal((x, y, z, w), (words.X, words.Y, words.Z, words.W));
    }

    [Fact]
    public void Bf16_rounds_to_nearest_even_and_keeps_what_it_can_hold()
    {
        for (uint bits = 0; bits < 0x7F80; bits++)
        {
            Assert.Equal(bits, BF16.ToBits(BF16.FromBits(bits)));
            double half = ((double)BF16.FromBits(bits) + BF16.FromBits(bits + 1)) / 2;
            if (bits + 1 < 0x7F80) Assert.Equal(bits + (bits & 1), BF16.ToBits((float)half));
        }
        Assert.True(float.IsNaN(BF16.FromBits(BF16.ToBits(float.NaN))));
        Assert.Equal(float.PositiveInfinity, BF16.FromBits(BF16.ToBits(float.MaxValue)));
    }

    [Fact]
    public void Every_intrinsic_has_its_instructions() => Assert.True(IntrinsicTable.Entries().Count() >= 25);

    [Fact]
    public void Kernels_are_declared_once_each_with_whole_warps()
    {
        Assert.Equal(KernelRegistry.All.Count, KernelRegistry.All.Select(k => k.Name).Distinct().Count());
        Assert.All(KernelRegistry.All, k => Assert.Equal(0, k.Threads % 32));
        Assert.All(new[] { "Linear", "LayerNorm", "Embedding", "Pooling", "NormalizeRows", "AdamW", "GlobalNorm", "Cast",
            "InfoNce", "SoftmaxCrossEntropy", "KlDivergence", "Scores", "AddScaled", "Rows", "Regroup", "BagOfWords" },
            stem => Assert.Contains(KernelRegistry.All, k => k.Stem == stem));
    }
}
