using System.Globalization;

namespace BgeMetal.Kernels.Bench;

/// <summary>
/// A count as people write it, for example <c>2 T K N</c> or <c>E (T K + 2 N)</c>: sums, differences, products (a blank or *) and quotients of numbers and
/// sizes. What a report shows is thereby what a benchmark computes with.
/// </summary>
internal sealed class Formula
{
    private readonly string _text;
    private int _position;
    private Func<string, double> _size = _ => 0;

    private Formula(string text) => _text = text;

    /// <summary>The value of <paramref name="text"/> with the sizes that <paramref name="size"/> names.</summary>
    /// <exception cref="FormatException">The text is no formula.</exception>
    public static double Evaluate(string text, Func<string, double> size)
    {
        Formula formula = new(text) { _size = size };
        double value = formula.Sum();
        return formula.Peek() == '\0' ? value : throw formula.Error("the end");
    }

    private double Sum()
    {
        double value = Product();
        while (Peek() is '+' or '-') value += _text[_position++] == '+' ? Product() : -Product();
        return value;
    }

    private double Product()
    {
        double value = Factor();
        while (Peek() is var next && (next is '*' or '/' or '(' || char.IsAsciiLetterOrDigit(next)))
        {
            if (next is '*' or '/') _position++;
            value = next == '/' ? value / Factor() : value * Factor();
        }
        return value;
    }

    private double Factor()
    {
        char next = Peek();
        if (next == '(')
        {
            _position++;
            double value = Sum();
            if (Peek() != ')') throw Error("')'");
            _position++;
            return value;
        }
        int start = _position;
        if (char.IsAsciiDigit(next))
        {
            while (_position < _text.Length && (char.IsAsciiDigit(_text[_position]) || _text[_position] == '.')) _position++;
            return double.Parse(_text.AsSpan(start, _position - start), CultureInfo.InvariantCulture);
        }
        if (!char.IsAsciiLetter(next)) throw Error("a number, a size or '('");
        while (_position < _text.Length && char.IsAsciiLetterOrDigit(_text[_position])) _position++;
        return _size(_text[start.._position]);
    }

    private char Peek()
    {
        while (_position < _text.Length && _text[_position] == ' ') _position++;
        return _position < _text.Length ? _text[_position] : '\0';
    }

    private FormatException Error(string expected) => new($"'{_text}': {expected} is expected at character {_position + 1}");
}
