using BgeMetal.Cli;

namespace BgeMetal.Tests.Cli;

/// <summary>Pieces that are read and worked on ahead.</summary>
public sealed class PiecesAheadTests
{
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(4)]
    public void Results_come_in_order_whatever_finishes_first(int ahead)
    {
        int next = 0;
        IEnumerable<(string, int)> results = PiecesAhead.Run(() => next < 9 ? $"{next++}" : null, piece =>
        {
            Thread.Sleep(piece == "3" ? 50 : 1);
            return 10 * int.Parse(piece, System.Globalization.CultureInfo.InvariantCulture);
        }, ahead);
        Assert.Equal(Enumerable.Range(0, 9).Select(i => ($"{i}", 10 * i)), results);
    }

    [Fact]
    public void The_next_piece_is_worked_on_while_a_result_is_used()
    {
        using ManualResetEventSlim second = new();
        int next = 0;
        foreach ((string piece, int _) in PiecesAhead.Run(() => next < 2 ? $"{next++}" : null, piece =>
        {
            if (piece == "1") second.Set();
            return 0;
        }, ahead: 2))
            Assert.True(piece == "1" || second.Wait(TimeSpan.FromSeconds(30), TestContext.Current.CancellationToken));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    public void A_failure_of_reading_or_work_comes_after_the_results_before_it(int ahead)
    {
        foreach (bool reading in (bool[])[true, false])
        {
            int next = 0;
            List<string> seen = [];
            BgeMetalException error = Assert.Throws<BgeMetalException>(() =>
            {
                foreach ((string piece, string _) in PiecesAhead.Run(() => reading && next == 2 ? throw Bad() : $"{next++}", piece => piece == "2" ? throw Bad() : piece, ahead)) seen.Add(piece);
            });
            Assert.Equal(["0", "1"], seen);
            Assert.Equal(("rows.jsonl", 7L), (error.File, error.Line));
        }
    }

    [Fact]
    public void A_read_that_never_ends_is_not_waited_for_when_the_work_before_it_fails()
    {
        using ManualResetEventSlim never = new();
        int next = 0;
        Assert.Throws<BgeMetalException>(() => PiecesAhead.Run<string, int>(() =>
        {
            if (next++ == 1) never.Wait(CancellationToken.None);
            return "piece";
        }, _ => throw Bad(), ahead: 2).ToArray());
        never.Set();
    }

    private static BgeMetalException Bad() => new("bad input", "why", "rows.jsonl", 7);
}
