using System.Globalization;

namespace BgeMetal.Kernels.Bench;

/// <summary>
/// The sizes of one call by name, written <c>T=4096 K=384 N=1536</c>. T tokens or rows, B sequences or queries, L tokens of a sequence, D columns, K inputs,
/// N outputs, H heads, Dh head size, G group size, V vocabulary, U distinct entries, P parameters.
/// </summary>
public sealed class BenchShape
{
    private readonly (string Name, int Value)[] _sizes;

    /// <summary>Reads a shape.</summary>
    /// <exception cref="FormatException">The text is not a list of NAME=NUMBER.</exception>
    public BenchShape(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        Text = text;
        _sizes = [.. text.Split(' ', StringSplitOptions.RemoveEmptyEntries).Select(word => word.Split('=') is [var name, var value]
            && int.TryParse(value, NumberStyles.None, CultureInfo.InvariantCulture, out int number) ? (name, number) : throw new FormatException($"'{word}' of '{text}' is not NAME=NUMBER"))];
    }

    /// <summary>The shape as it was written.</summary>
    public string Text { get; }

    /// <summary>The names of the sizes.</summary>
    public IEnumerable<string> Names => _sizes.Select(size => size.Name);

    /// <summary>The same shape with other sizes.</summary>
    internal BenchShape With(Func<string, int, int> size) => new(string.Join(' ', _sizes.Select(old => $"{old.Name}={size(old.Name, old.Value)}")));

    /// <summary>One size.</summary>
    /// <exception cref="KeyNotFoundException">The shape has no such size.</exception>
    public int this[string name]
    {
        get
        {
            foreach ((string known, int value) in _sizes)
                if (known == name) return value;
            throw new KeyNotFoundException($"shape '{Text}' has no {name}");
        }
    }

    /// <inheritdoc/>
    public override string ToString() => Text;
}
