using BgeMetal.Cli.Output;

namespace BgeMetal.Tests.Cli;

public sealed class ProgressTests
{
    [Theory]
    [InlineData(200L, 50, @"^embedding: 50 of 200 texts, [0-9.,]+ texts/s, .+ left$")]
    [InlineData(200L, 200, @"^embedding: 200 of 200 texts, [0-9.,]+ texts/s$")]
    [InlineData(null, 1234, @"^embedding: 1,234 texts, [0-9.,]+ texts/s$")]
    [InlineData(200L, 0, @"^embedding: 0 of 200 texts, 0 texts/s$")]
    public void A_line_tells_count_total_rate_and_remaining_time(long? total, int done, string pattern)
    {
        using Terminal terminal = Silent(new StringWriter());
        using Progress progress = terminal.Watch("embedding", "texts", total);
        progress.Report(done - (done / 2));
        progress.Report(done / 2);
        Assert.Matches(pattern, progress.Line());
    }

    [Fact]
    public void A_log_gets_no_line_for_quick_work()
    {
        using StringWriter error = new();
        using (Terminal terminal = Silent(error))
        using (Progress progress = terminal.Watch("embedding", "texts", 1000))
            for (int i = 0; i < 1000; i++) progress.Report(1);
        Assert.Equal("", error.ToString());
    }

    [Fact]
    public void Quiet_leaves_warnings_and_errors()
    {
        using StringWriter error = new();
        using (Terminal terminal = Silent(error))
        {
            terminal.Quiet = true;
            terminal.Say("note");
            terminal.Warn("odd");
            terminal.Fail("two\nlines");
        }
        Assert.Equal(["warning: odd", "error: two lines"], error.ToString().Split(Environment.NewLine, StringSplitOptions.RemoveEmptyEntries));
    }

    private static Terminal Silent(StringWriter error) => new(Stream.Null, error, resultsAreSeen: false, errorsAreSeen: false, CancellationToken.None);
}
