using System.Globalization;
using BgeMetal.Kernels;

namespace BgeMetal.Cli.Output;

/// <summary>What <c>--profile</c> shows: a line for each kernel, the longest first.</summary>
internal static class KernelTable
{
    /// <summary>Writes the lines to the error stream; nothing where nothing was measured.</summary>
    public static void Show(Terminal terminal, IReadOnlyList<KernelTime> times)
    {
        if (times.Count == 0) return;
        double all = times.Sum(time => time.Microseconds);
        int width = times.Max(time => time.Name.Length);
        terminal.WriteLine($"{"kernel".PadRight(width)}  {"launches",10}  {"ms",12}  {"us each",10}  share");
        foreach (KernelTime time in times)
            terminal.WriteLine(string.Create(CultureInfo.InvariantCulture,
                $"{time.Name.PadRight(width)}  {time.Launches,10:N0}  {time.Microseconds / 1e3,12:N3}  {time.Microseconds / time.Launches,10:N1}  {time.Microseconds / all,5:P1}"));
        terminal.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{"all".PadRight(width)}  {times.Sum(time => time.Launches),10:N0}  {all / 1e3,12:N3}"));
    }
}
