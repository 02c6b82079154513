using System.CommandLine;

namespace BgeMetal.Cli.Parsing;

/// <summary>What the argument reader has to know of an option besides its name.</summary>
internal interface ICliOption
{
    /// <summary>The option's spellings in FlagEmbedding and Hugging Face, kebab-case, accepted silently and not shown in the help.</summary>
    IReadOnlyList<string> ForeignNames { get; }

    /// <summary>True when the value may be left out and then means true.</summary>
    bool IsFlag { get; }

    /// <summary>True when several values may follow.</summary>
    bool IsList { get; }
}

/// <summary>An option of this command line; make one with <see cref="Opt"/>.</summary>
internal sealed class CliOption<T> : Option<T>, ICliOption
{
    public CliOption(string name, string description, IReadOnlyList<string> foreignNames) : base(name)
    {
        Description = description;
        ForeignNames = foreignNames;
        IsFlag = typeof(T) == typeof(bool) || typeof(T) == typeof(bool?);
        IsList = typeof(T).IsArray;
    }

    public IReadOnlyList<string> ForeignNames { get; }

    public bool IsFlag { get; }

    public bool IsList { get; }
}
