using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;

namespace BgeMetal.Cli.Parsing;

/// <summary>
/// Makes options whose values are read the same way under every culture and whose errors name the option, what was found and what was expected.
/// The last parameter of each method lists the option's foreign spellings (FlagEmbedding, Hugging Face) in kebab-case.
/// </summary>
internal static class Opt
{
    /// <summary>A switch: absent is false, alone is true, and <c>--x true</c>, <c>--x=False</c>, <c>--x yes</c> are read (<see cref="ArgumentReader"/> does that).</summary>
    public static CliOption<bool> Flag(string name, string description, params string[] foreign) => new(name, description, foreign) { Arity = ArgumentArity.ZeroOrOne };

    /// <summary>A switch that may also be left to the model: absent is null.</summary>
    public static CliOption<bool?> MaybeFlag(string name, string description, params string[] foreign) =>
        new(name, description, foreign) { Arity = ArgumentArity.ZeroOrOne, HelpName = "true|false" };

    /// <summary>A text, a file or a folder; absent is null.</summary>
    public static CliOption<string?> Text(string name, string valueName, string description, params string[] foreign)
    {
        CliOption<string?> option = new(name, description, foreign) { Arity = ArgumentArity.ExactlyOne, HelpName = valueName };
        option.CustomParser = static result => result.Tokens[0].Value;
        return option;
    }

    /// <summary>A text, a file or a folder that must be given.</summary>
    public static CliOption<string> RequiredText(string name, string valueName, string description, params string[] foreign)
    {
        CliOption<string> option = new(name, description, foreign) { Arity = ArgumentArity.ExactlyOne, HelpName = valueName, Required = true };
        option.CustomParser = static result => result.Tokens[0].Value;
        return option;
    }

    /// <summary>A text with a default.</summary>
    public static CliOption<string> TextOr(string name, string valueName, string defaultValue, string description, params string[] foreign)
    {
        CliOption<string> option = RequiredText(name, valueName, description, foreign);
        option.Required = false;
        option.DefaultValueFactory = _ => defaultValue;
        return option;
    }

    /// <summary>Several texts or files; absent is empty.</summary>
    public static CliOption<string[]> Texts(string name, string valueName, string description, params string[] foreign)
    {
        CliOption<string[]> option = new(name, description, foreign) { Arity = ArgumentArity.OneOrMore, HelpName = valueName, AllowMultipleArgumentsPerToken = true };
        option.CustomParser = static result => [.. result.Tokens.Select(token => token.Value)];
        option.DefaultValueFactory = static _ => [];
        return option;
    }

    /// <summary>One of a few words, in any case; the value is the listed spelling.</summary>
    public static CliOption<string> Choice(string name, string description, string defaultValue, string[] choices, params string[] foreign)
    {
        CliOption<string> option = new(name, description, foreign) { Arity = ArgumentArity.ExactlyOne, HelpName = string.Join('|', choices) };
        option.DefaultValueFactory = _ => defaultValue;
        option.CompletionSources.Add(choices);
        option.CustomParser = result =>
        {
            string value = result.Tokens[0].Value;
            if (choices.FirstOrDefault(c => c.Equals(value, StringComparison.OrdinalIgnoreCase)) is { } choice) return choice;
            result.AddError($"{name}: '{value}' is not one of {string.Join(", ", choices)}");
            return defaultValue;
        };
        return option;
    }

    /// <summary>A whole number in a range, with a default.</summary>
    public static CliOption<int> Int(string name, string description, int defaultValue, int minimum, int maximum, params string[] foreign)
    {
        CliOption<int> option = new(name, description, foreign) { Arity = ArgumentArity.ExactlyOne, HelpName = "N" };
        option.DefaultValueFactory = _ => defaultValue;
        option.CustomParser = result => ParseInt(result, result.Tokens[0].Value, name, minimum, maximum) ?? defaultValue;
        return option;
    }

    /// <summary>A whole number in a range; absent is null.</summary>
    public static CliOption<int?> MaybeInt(string name, string description, int minimum, int maximum, params string[] foreign)
    {
        CliOption<int?> option = new(name, description, foreign) { Arity = ArgumentArity.ExactlyOne, HelpName = "N" };
        option.CustomParser = result => ParseInt(result, result.Tokens[0].Value, name, minimum, maximum);
        return option;
    }

    /// <summary>
    /// Whole numbers in a range, separated by commas or given one after another; read them with <see cref="IntsOr"/>. The description tells what stands for them where they are absent,
    /// as it would be typed (the help's own form is 1|5|10).
    /// </summary>
    public static CliOption<int[]> Ints(string name, string description, int[] defaultValue, int minimum, int maximum, params string[] foreign)
    {
        string shown = string.Join(',', defaultValue.Select(value => value.ToString(CultureInfo.InvariantCulture)));
        CliOption<int[]> option = new(name, $"{description} [default: {shown}]", foreign) { Arity = ArgumentArity.OneOrMore, HelpName = "N,N", AllowMultipleArgumentsPerToken = true };
        option.CustomParser = result =>
        {
            List<int> values = [];
            foreach (string part in result.Tokens.SelectMany(token => token.Value.Split(',', StringSplitOptions.TrimEntries)))
            {
                if (ParseInt(result, part, name, minimum, maximum) is not { } value) return defaultValue;
                values.Add(value);
            }
            return [.. values];
        };
        return option;
    }

    /// <summary>The numbers given, or <paramref name="absent"/>.</summary>
    public static int[] IntsOr(this ParseResult parsed, CliOption<int[]> option, int[] absent) => parsed.GetResult(option) is null ? absent : parsed.GetValue(option)!;

    /// <summary>A number in a range; absent is null.</summary>
    public static CliOption<double?> MaybeNumber(string name, string description, double minimum, double maximum, params string[] foreign)
    {
        CliOption<double?> option = new(name, description, foreign) { Arity = ArgumentArity.ExactlyOne, HelpName = "X" };
        option.CustomParser = result => ParseNumber(result, name, minimum, maximum);
        return option;
    }

    /// <summary>A number in a range, with a default.</summary>
    public static CliOption<double> Number(string name, string description, double defaultValue, double minimum, double maximum, params string[] foreign)
    {
        CliOption<double> option = new(name, description, foreign) { Arity = ArgumentArity.ExactlyOne, HelpName = "X" };
        option.DefaultValueFactory = _ => defaultValue;
        option.CustomParser = result => ParseNumber(result, name, minimum, maximum) ?? defaultValue;
        return option;
    }

    /// <summary>True, false, or null when <paramref name="word"/> is neither.</summary>
    public static bool? ToBoolean(string word) => word.ToUpperInvariant() switch
    {
        "TRUE" or "YES" or "T" or "Y" or "1" or "ON" => true,
        "FALSE" or "NO" or "F" or "N" or "0" or "OFF" => false,
        _ => null,
    };

    private static int? ParseInt(ArgumentResult result, string text, string name, int minimum, int maximum)
    {
        if (int.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out int value) && value >= minimum && value <= maximum) return value;
        string range = maximum == int.MaxValue ? $"of at least {minimum}" : $"from {minimum} to {maximum}";
        result.AddError(string.Create(CultureInfo.InvariantCulture, $"{name}: '{text}' is not a whole number {range}"));
        return null;
    }

    private static double? ParseNumber(ArgumentResult result, string name, double minimum, double maximum)
    {
        string text = result.Tokens[0].Value;
        if (double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out double value) && value >= minimum && value <= maximum) return value;
        result.AddError(string.Create(CultureInfo.InvariantCulture, $"{name}: '{text}' is not a number from {minimum} to {maximum}"));
        return null;
    }
}
