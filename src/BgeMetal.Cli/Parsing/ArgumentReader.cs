using System.CommandLine;

namespace BgeMetal.Cli.Parsing;

/// <summary>
/// Turns a command line as people write it, or copy it from a FlagEmbedding README, into the canonical one that System.CommandLine parses:
/// <c>--model_name_or_path X</c> becomes <c>--model X</c>, <c>--fp16 True</c> becomes <c>--fp16=true</c>, options without meaning here are dropped
/// with a warning, of an option given twice the last counts, and an option nobody knows is an error that names the nearest one.
/// </summary>
internal sealed class ArgumentReader
{
    private readonly Command _command;
    private readonly string _path;
    private readonly Action<string> _warn;
    private readonly Dictionary<string, Option> _options = new(StringComparer.Ordinal);
    private readonly Dictionary<Option, List<string>> _values = [];
    private readonly List<string> _positional = [];
    private readonly HashSet<string> _warned = [];

    private ArgumentReader(Command command, string path, IEnumerable<Option> options, Action<string> warn)
    {
        (_command, _path, _warn) = (command, path, warn);
        foreach (Option option in options)
        {
            string[] foreign = option is ICliOption known ? [.. known.ForeignNames.Select(name => "--" + name)] : [];
            foreach (string name in (string[])[option.Name, .. option.Aliases, .. foreign]) _options.TryAdd(name, option);
        }
    }

    /// <summary>The canonical arguments for <paramref name="root"/>.</summary>
    /// <exception cref="UsageException">An unknown command or option, a missing value, or an argument too many.</exception>
    public static IReadOnlyList<string> Read(Command root, IReadOnlyList<string> arguments, Action<string> warn)
    {
        Command command = root;
        List<string> path = [];
        List<Option> inherited = [];
        int next = 0;
        while (next < arguments.Count && command.Subcommands.Count > 0)
        {
            if (command.Subcommands.FirstOrDefault(c => c.Name == arguments[next] || c.Aliases.Contains(arguments[next])) is not { } sub) break;
            inherited.AddRange(command.Options.Where(option => option.Recursive));
            (command, next) = (sub, next + 1);
            path.Add(sub.Name);
        }
        if (command.Subcommands.Count > 0 && next < arguments.Count && !arguments[next].StartsWith('-') && !arguments[next].StartsWith('['))
            throw Unknown("command", arguments[next], command.Subcommands.Where(c => !c.Hidden).SelectMany(c => (string[])[c.Name, .. c.Aliases]), string.Join(' ', ["bgemetal", .. path]));
        if (command.Subcommands.Count > 0) return arguments;
        ArgumentReader reader = new(command, string.Join(' ', ["bgemetal", .. path]), [.. inherited, .. command.Options], warn);
        reader.ReadAll(arguments, next);
        return [.. path, .. reader.Canonical()];
    }

    private void ReadAll(IReadOnlyList<string> arguments, int next)
    {
        while (next < arguments.Count)
        {
            string argument = arguments[next++];
            if (argument == "--")
            {
                while (next < arguments.Count) AddPositional(arguments[next++]);
            }
            else if (!IsOption(argument)) AddPositional(argument);
            else next = ReadOption(argument, arguments, next);
        }
    }

    private int ReadOption(string argument, IReadOnlyList<string> arguments, int next)
    {
        int equals = argument.IndexOf('=', StringComparison.Ordinal);
        string written = equals < 0 ? argument : argument[..equals];
        string name = written.StartsWith("--", StringComparison.Ordinal) ? "--" + written[2..].Replace('_', '-') : written;
        string? attached = equals < 0 ? null : argument[(equals + 1)..];
        if (_options.TryGetValue(name, out Option? option)) return Take(option, written, attached, arguments, next);
        if (!MeaninglessOptions.TryGet(name, out MeaninglessOptions.Values values))
            throw Unknown("option", written, _options.Where(o => !o.Value.Hidden).Select(o => o.Key), _path);
        if (_warned.Add(name)) _warn($"{written} has no meaning here and is ignored");
        if (attached is not null) return next;
        return values switch
        {
            MeaninglessOptions.Values.Flag => next < arguments.Count && IsTruthValue(arguments[next]) ? next + 1 : next,
            MeaninglessOptions.Values.One => next < arguments.Count && !IsOption(arguments[next]) ? next + 1 : next,
            _ => SkipValues(arguments, next),
        };
    }

    private int Take(Option option, string written, string? attached, IReadOnlyList<string> arguments, int next)
    {
        List<string> values = [];
        if (option is ICliOption { IsFlag: true })
        {
            string? word = attached ?? (next < arguments.Count && IsTruthValue(arguments[next]) ? arguments[next++] : null);
            bool? value = word is null ? true : Opt.ToBoolean(word);
            values.Add(value switch { true => "true", false => "false", _ => throw new UsageException($"{written}: '{word}' is neither true nor false") });
        }
        else if (attached is not null) values.Add(attached);
        else if (option is ICliOption known)
        {
            int end = known.IsList ? SkipValues(arguments, next) : Math.Min(arguments.Count, next + 1);
            if (end == next || IsOption(arguments[next])) throw new UsageException($"{written}: a value is missing (one that starts with '-' is written {written}=VALUE)");
            while (next < end) values.Add(arguments[next++]);
        }
        if (option is ICliOption { IsList: true } && _values.TryGetValue(option, out List<string>? earlier)) earlier.AddRange(values);
        else _values[option] = values;
        return next;
    }

    private IEnumerable<string> Canonical()
    {
        foreach ((Option option, List<string> values) in _values)
        {
            if (values.Count == 0) yield return option.Name;
            foreach (string value in values)
            {
                // Two words, except where the value could be taken for an option.
                if (value.StartsWith('-')) yield return $"{option.Name}={value}";
                else
                {
                    yield return option.Name;
                    yield return value;
                }
            }
        }
        if (_positional.Count > 0) yield return "--";
        foreach (string positional in _positional) yield return positional;
    }

    private void AddPositional(string argument)
    {
        if (_command.Arguments.Count == 0) throw new UsageException($"unexpected argument '{argument}': {_path} takes options only (see {_path} --help)");
        _positional.Add(argument);
    }

    // "-x", "--x" or "--x=anything"; "-" is standard input, "-5" a number, "- x" and "-x y" are texts.
    private static bool IsOption(string argument)
    {
        if (argument.Length < 2 || argument[0] != '-') return false;
        ReadOnlySpan<char> name = argument.AsSpan(argument[1] == '-' ? 2 : 1);
        if (name.IndexOf('=') is int equals and >= 0) name = name[..equals];
        return name.Length > 0 && (char.IsAsciiLetter(name[0]) || name is "?") && !name.ContainsAny(" \t\n");
    }

    // A digit after a switch is a text where the command takes texts.
    private bool IsTruthValue(string argument) => Opt.ToBoolean(argument) is not null && (_command.Arguments.Count == 0 || argument.Length > 1);

    private static int SkipValues(IReadOnlyList<string> arguments, int next)
    {
        while (next < arguments.Count && !IsOption(arguments[next]) && arguments[next] != "--") next++;
        return next;
    }

    private static UsageException Unknown(string kind, string name, IEnumerable<string> known, string path)
    {
        string probe = name[..Math.Min(name.Length, 64)].Replace('_', '-');
        (string Name, int Distance) nearest = known.Select(k => (k, EditDistance(probe, k))).DefaultIfEmpty(("", int.MaxValue)).MinBy(pair => pair.Item2);
        string advice = nearest.Distance <= Math.Max(2, probe.TrimStart('-').Length / 2) ? $"did you mean '{nearest.Name}'?" : "nothing here has a similar name";
        return new UsageException($"unknown {kind} '{name}': {advice} (see {path} --help)");
    }

    /// <summary>The number of inserted, dropped, changed and swapped characters between two words (optimal string alignment).</summary>
    internal static int EditDistance(string a, string b)
    {
        int[,] distance = new int[a.Length + 1, b.Length + 1];
        for (int i = 0; i <= a.Length; i++) distance[i, 0] = i;
        for (int j = 0; j <= b.Length; j++) distance[0, j] = j;
        for (int i = 1; i <= a.Length; i++)
        {
            for (int j = 1; j <= b.Length; j++)
            {
                int change = distance[i - 1, j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
                distance[i, j] = Math.Min(change, Math.Min(distance[i - 1, j], distance[i, j - 1]) + 1);
                if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) distance[i, j] = Math.Min(distance[i, j], distance[i - 2, j - 2] + 1);
            }
        }
        return distance[a.Length, b.Length];
    }
}
