using BgeMetal.Data;
using BgeMetal.Retrieval;

namespace BgeMetal.Tests.Models;

/// <summary>Texts that are tokenised beside a GPU's work.</summary>
public sealed class TokenizedBlocksTests
{
    [Theory]
    [InlineData(0, true, 0)]
    [InlineData(5000, false, 1)]
    [InlineData(4096, true, 1)]
    [InlineData(9000, true, 3)]
    public void Every_text_is_run_once_in_order(int count, bool beside, int blocks)
    {
        List<int> run = [];
        int calls = 0;
        long tokens = TokenizedBlocks.Run(count, beside, Tokenize, (first, sequences) =>
        {
            Assert.Equal(run.Count, first);
            run.AddRange(sequences.Select(sequence => sequence.Ids.Span[0]));
            calls++;
        });
        Assert.Equal(Enumerable.Range(0, count), run);
        Assert.Equal((blocks, 2L * count), (calls, tokens));
    }

    [Fact]
    public void A_bad_text_surfaces_as_itself_after_the_blocks_before_it_and_a_failed_block_waits_for_the_tokeniser()
    {
        int runs = 0;
        BgeMetalException error = Assert.Throws<BgeMetalException>(() => TokenizedBlocks.Run(9000, true,
            (first, count) => first > 5000 ? throw new BgeMetalException("bad", "why", "texts.jsonl", 8193) : Tokenize(first, count), (_, _) => runs++));
        Assert.Equal(("texts.jsonl", 8193L, 2), (error.File, error.Line, runs));
        bool tokenized = false;
        Assert.Throws<InvalidOperationException>(() => TokenizedBlocks.Run(9000, true, (first, count) =>
        {
            Thread.Sleep(first > 0 ? 100 : 0);
            tokenized |= first > 0;
            return Tokenize(first, count);
        }, (_, _) => throw new InvalidOperationException()));
        Assert.True(tokenized);
    }

    private static TokenSequence[] Tokenize(int first, int count) => [.. Enumerable.Range(first, count).Select(i => new TokenSequence(new[] { i, 0 }))];
}
