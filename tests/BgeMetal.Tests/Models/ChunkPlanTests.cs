using BgeMetal.Data;
using BgeMetal.Retrieval;

namespace BgeMetal.Tests.Models;

public sealed class ChunkPlanTests
{
    [Theory]
    [InlineData(32, 128, 384, 2, 16)]
    [InlineData(32, 128, 384, 1, 11)]
    [InlineData(4, 100, 384, 2, 2)]
    [InlineData(3, 500, 384, 2, 3)]
    public void Texts_of_one_length_give_so_many_chunks(int texts, int length, int chunkTokens, int threads, int chunks)
    {
        ChunkPlan plan = ChunkPlan.Make(Texts(Enumerable.Repeat(length, texts)), chunkTokens, threads);
        Assert.Equal(chunks, plan.Chunks);
        Assert.False(plan.SplitInside);
    }

    [Fact]
    public void Every_text_is_in_one_chunk_and_chunks_keep_their_size()
    {
        Random random = new(1);
        TokenSequence[] texts = Texts(Enumerable.Range(0, 500).Select(_ => random.Next(1, 300)));
        ChunkPlan plan = ChunkPlan.Make(texts, 384, 3);
        List<int> seen = [];
        for (int chunk = 0; chunk < plan.Chunks; chunk++)
        {
            int[] members = plan.Members(chunk).ToArray();
            Assert.True(members.Length == 1 || members.Sum(member => texts[member].Length) <= 384);
            seen.AddRange(members);
        }
        Assert.Equal(Enumerable.Range(0, 500), seen.Order());
    }

    [Fact]
    public void One_text_or_few_tokens_are_split_inside_of_the_operations()
    {
        Assert.True(ChunkPlan.Make(Texts([500]), 384, 2).SplitInside);
        Assert.True(ChunkPlan.Make(Texts([10, 10]), 384, 2).SplitInside);
        Assert.False(ChunkPlan.Make(Texts([500]), 384, 1).SplitInside);
        Assert.False(ChunkPlan.Make(Texts([100, 100]), 384, 2).SplitInside);
    }

    private static TokenSequence[] Texts(IEnumerable<int> lengths) => [.. lengths.Select(length => new TokenSequence(new int[length]))];
}
