using System.Text;

namespace BgeMetal.Data.Training;

/// <summary>
/// How an instruction and a text become one text: Python's format strings with two values, as FlagEmbedding's options take them: <c>{}{}</c>,
/// <c>Instruct: {}\nQuery: {}</c> (a backslash and an n stand for a line feed), <c>{0}</c> and <c>{1}</c>, <c>{{</c> and <c>}}</c> for braces.
/// </summary>
public sealed class InstructionFormat
{
    private readonly string _format;
    private readonly List<(string Literal, int Value)> _pieces = [];
    private string _end = "";

    private InstructionFormat(string format) => _format = format;

    /// <summary>The instruction, then the text.</summary>
    public static InstructionFormat Plain { get; } = Parse("{}{}");

    /// <summary>Reads a format.</summary>
    /// <exception cref="BgeMetalException">A brace is not closed, a value is neither the first nor the second, or the text has no place.</exception>
    public static InstructionFormat Parse(string format)
    {
        InstructionFormat parsed = new(format);
        string text = format.Replace("\\n", "\n", StringComparison.Ordinal);
        StringBuilder literal = new();
        int next = 0;
        for (int i = 0; i < text.Length; i++)
        {
            char c = text[i];
            if (c is '{' or '}' && i + 1 < text.Length && text[i + 1] == c) i++;
            else if (c == '}') throw parsed.Error("a } closes nothing (write }} for a brace)");
            else if (c == '{')
            {
                int close = text.IndexOf('}', i);
                if (close < 0) throw parsed.Error("a { is not closed (write {{ for a brace)");
                parsed._pieces.Add((literal.ToString(), parsed.Value(text[(i + 1)..close], ref next)));
                literal.Clear();
                i = close;
                continue;
            }

            literal.Append(c);
        }

        parsed._end = literal.ToString();
        if (!parsed._pieces.Exists(piece => piece.Value == 1)) throw parsed.Error("the text has no place in it: two {} were expected");
        return parsed;
    }

    /// <summary>The text with its instruction.</summary>
    public string Apply(string instruction, string text)
    {
        if (ReferenceEquals(this, Plain)) return instruction + text;
        StringBuilder result = new(_format.Length + instruction.Length + text.Length);
        foreach ((string literal, int value) in _pieces) result.Append(literal).Append(value == 0 ? instruction : text);
        return result.Append(_end).ToString();
    }

    /// <summary>The instruction as it stands before a text.</summary>
    /// <exception cref="BgeMetalException">The format puts something behind the text.</exception>
    public string Before(string instruction) =>
        _end.Length == 0 && _pieces[^1].Value == 1 && _pieces.Count(piece => piece.Value == 1) == 1 ? Apply(instruction, "") : throw Error("the text was expected at its end");

    private int Value(string name, ref int next)
    {
        int value = name switch
        {
            "" when next >= 0 => next++,
            "0" when next <= 0 => 0,
            "1" when next <= 0 => 1,
            _ => -1,
        };
        if (value is < 0 or > 1) throw Error($"{{{name}}} names neither the instruction nor the text: {{}}{{}} or {{0}} and {{1}} were expected");
        if (name.Length > 0) next = -1;
        return value;
    }

    private BgeMetalException Error(string why) => new($"the instruction format \"{_format}\"", why);
}
