using System.Diagnostics;

namespace BgeMetal.Kernels.Bench;

/// <summary>
/// Shares seconds out among cases: what is left, divided by the cases that are left, less what a case has cost so far beside its measuring (operands, loading,
/// graphs).
/// </summary>
/// <param name="seconds">For everything; 0 for no limit.</param>
/// <param name="most">What a case gets at most.</param>
/// <param name="now">The clock, in seconds.</param>
internal sealed class TimeBudget(double seconds, double most, Func<double> now)
{
    private const double Least = 0.01;
    private readonly double _begin = now();
    private double _granted;
    private int _cases;

    /// <summary>A budget by the wall clock, beginning now.</summary>
    public TimeBudget(double seconds, double most) : this(seconds, most, () => Stopwatch.GetTimestamp() / (double)Stopwatch.Frequency)
    {
    }

    /// <summary>Whether nothing is left.</summary>
    public bool IsSpent => seconds > 0 && now() - _begin >= seconds;

    /// <summary>Seconds of measuring for the next of <paramref name="casesLeft"/> cases.</summary>
    public double Next(int casesLeft)
    {
        double elapsed = now() - _begin, beside = _cases == 0 ? 0 : Math.Max(0, elapsed - _granted) / _cases;
        double share = seconds <= 0 ? most : Math.Clamp(((seconds - elapsed) / casesLeft) - beside, Math.Min(Least, most), most);
        (_granted, _cases) = (_granted + share, _cases + 1);
        return share;
    }
}
