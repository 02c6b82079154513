using System.Diagnostics;
using System.Globalization;
using Spectre.Console;
using Spectre.Console.Rendering;

namespace BgeMetal.Cli.Output;

/// <summary>
/// Shows how far long work is: a bar with rate and remaining time for a person, a plain line every few seconds for a log, nothing with --quiet.
/// Report how many more units are finished, from any thread; dispose at the end.
/// </summary>
internal sealed class Progress : IProgress<long>, IDisposable
{
    private static readonly TimeSpan s_interval = TimeSpan.FromSeconds(5);
    private readonly Terminal _terminal;
    private readonly string _what, _unit;
    private readonly long? _total;
    private readonly bool _silent;
    private readonly Stopwatch _clock = Stopwatch.StartNew();
    private readonly TaskCompletionSource _done = new();
    private readonly Task _drawing = Task.CompletedTask;
    private long _count, _nextLine = s_interval.Ticks;

    public Progress(Terminal terminal, string what, string unit, long? total, TextWriter error)
    {
        (_terminal, _what, _unit, _total) = (terminal, what, unit, total);
        _silent = terminal.Quiet || (terminal.ResultsAreSeen && terminal.StreamsResults);
        if (terminal.ErrorsAreSeen && !_silent) _drawing = DrawAsync(error);
    }

    /// <summary>Units per second so far.</summary>
    private double Rate => Interlocked.Read(ref _count) / Math.Max(_clock.Elapsed.TotalSeconds, 1e-9);

    /// <inheritdoc/>
    public void Report(long value)
    {
        Interlocked.Add(ref _count, value);
        if (_terminal.ErrorsAreSeen || _silent) return;
        long next = Interlocked.Read(ref _nextLine), now = _clock.Elapsed.Ticks;
        if (now >= next && Interlocked.CompareExchange(ref _nextLine, now + s_interval.Ticks, next) == next) _terminal.Say(Line());
    }

    /// <summary>Takes the bar away.</summary>
    public void Dispose()
    {
        if (_done.TrySetResult()) _drawing.GetAwaiter().GetResult();
    }

    /// <summary>The state as one line.</summary>
    internal string Line()
    {
        long count = Interlocked.Read(ref _count);
        string of = _total is { } total ? $" of {Terminal.Count(total)}" : "";
        string left = _total is { } all && count > 0 && count < all ? $", {Duration(TimeSpan.FromSeconds(Math.Min((all - count) / Rate, 1e8)))} left" : "";
        return $"{_what}: {Terminal.Count(count)}{of} {_unit}, {Terminal.Count(Rate)} {_unit}/s{left}";
    }

    private static string Duration(TimeSpan time) => time.TotalHours >= 1 ? string.Create(CultureInfo.InvariantCulture, $"{(long)time.TotalHours} h {time.Minutes} min")
        : time.TotalMinutes >= 1 ? string.Create(CultureInfo.InvariantCulture, $"{time.Minutes} min {time.Seconds} s")
        : string.Create(CultureInfo.InvariantCulture, $"{Math.Ceiling(time.TotalSeconds):0} s");

    private Task DrawAsync(TextWriter error)
    {
        IAnsiConsole console = AnsiConsole.Create(new AnsiConsoleSettings { Out = new AnsiConsoleOutput(error) });
        return Task.Run(() => console.Progress().AutoClear(true)
            .Columns(new TaskDescriptionColumn(), new ProgressBarColumn(), new PercentageColumn(), new RateColumn(this), new RemainingTimeColumn())
            .StartAsync(async context =>
            {
                ProgressTask task = context.AddTask(Markup.Escape(_what), maxValue: Math.Max(1, _total ?? 1));
                task.IsIndeterminate = _total is null;
                while (await Task.WhenAny(_done.Task, Task.Delay(100)).ConfigureAwait(false) != _done.Task)
                    if (_total is not null) task.Value = Interlocked.Read(ref _count);
            }));
    }

    private sealed class RateColumn(Progress progress) : ProgressColumn
    {
        public override IRenderable Render(RenderOptions options, ProgressTask task, TimeSpan deltaTime) =>
            new Spectre.Console.Text($"{Terminal.Count(Interlocked.Read(ref progress._count))} {progress._unit}, {Terminal.Count(progress.Rate)}/s");
    }
}
