using BgeMetal.Kernels.Simd;

namespace BgeMetal.Kernels.Tests.Cpu;

[Collection(CpuKernels.Name)]
public sealed unsafe class DropoutTests
{
    // The known answers of Random123's kat_vectors for philox4x32 with 10 rounds: counter, key (low half first), words.
    public static TheoryData<uint[], ulong, uint[]> KnownAnswers => new()
    {
        { [0, 0, 0, 0], 0, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8] },
        { [0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF], 0xFFFFFFFFFFFFFFFF, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD] },
        { [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344], 0x299F31D0A4093822, [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1] },
    };

    [Theory]
    [MemberData(nameof(KnownAnswers))]
    public void Philox_gives_the_published_words(uint[] counter, ulong key, uint[] expected) => CpuKernels.AtEachWidth(width =>
    {
        Assert.Equal(expected, Words(counter[0], counter[1], counter[2], counter[3], key));
        ulong* words = stackalloc ulong[32];
        for (uint lane = 0; lane < 8; lane++)
        {
            Philox.Eight(counter[0] - (3 * lane), 3, counter[1] - (5 * lane), 5, counter[2], counter[3], key, words);
            for (int w = 0; w < 4; w++) Assert.True(words[(8 * w) + lane] == expected[w], $"{width}, lane {lane}, word {w}");
        }
    });

    [Fact]
    public void Rows_and_columns_of_a_mask_agree_with_its_definition() => CpuKernels.AtEachWidth(width =>
    {
        const ulong seed = 0xFEDCBA9876543210;
        DropoutMask mask = new(0.3f, seed, 5);
        float* factors = stackalloc float[256];
        foreach (int count in new[] { 1, 31, 32, 67 })
        {
            mask.Row(11, 8, count, factors);
            for (int j = 0; j < count; j++) Assert.True(factors[j] == (float)Factor(0.3f, seed, 5, 11, (uint)(8 + j)), $"{width}: row, {j}");
        }
        mask.FourColumns(11, 29, 8, factors, 40);
        for (int c = 0; c < 4; c++)
            for (int i = 0; i < 29; i++)
                Assert.True(factors[(40 * c) + i] == (float)Factor(0.3f, seed, 5, (uint)(11 + i), (uint)(8 + c)), $"{width}: column {c}, {i}");
    });

    /// <summary>A mask's factor by its definition, one element at a time.</summary>
    internal static double Factor(float probability, ulong seed, uint stream, uint row, uint column, uint site = 0) =>
        Words(column / 4, row, stream, site, seed)[column % 4] >= Math.Round(probability * 4294967296.0) ? (float)(1 / (1 - (double)probability)) : 0;

    private static uint[] Words(uint x, uint y, uint z, uint w, ulong key)
    {
        uint key0 = (uint)key, key1 = (uint)(key >> 32);
        for (int round = 0; round < 10; round++)
        {
            ulong first = (ulong)x * 0xD2511F53, second = (ulong)z * 0xCD9E8D57;
            (x, y, z, w) = ((uint)(second >> 32) ^ y ^ key0, (uint)second, (uint)(first >> 32) ^ w ^ key1, (uint)first);
            key0 += 0x9E3779B9;
            key1 += 0xBB67AE85;
        }
        return [x, y, z, w];
    }
}
