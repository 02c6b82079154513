using System.CommandLine;
using BgeMetal.Cli.Parsing;
using BgeMetal.Data.Training;

namespace BgeMetal.Cli;

/// <summary>What a reranker that was trained with instructions reads before queries and passages.</summary>
internal sealed record RerankInstructions(string? Query, InstructionFormat QueryFormat, string? Passage, InstructionFormat PassageFormat)
{
    /// <summary>Nothing before either.</summary>
    public static RerankInstructions None { get; } = new(null, InstructionFormat.Plain, null, InstructionFormat.Plain);

    /// <summary>The query as the reranker reads it.</summary>
    public string ToQuery(string text) => Query is null ? text : QueryFormat.Apply(Query, text);

    /// <summary>The passage as the reranker reads it.</summary>
    public string ToPassage(string text) => Passage is null ? text : PassageFormat.Apply(Passage, text);
}

/// <summary>The options that name a reranker's instructions.</summary>
internal sealed class RerankInstructionOptionSet
{
    private readonly CliOption<string?> _query = Opt.Text("--query-instruction-for-rerank", "TEXT", "Put before each query that the reranker reads");
    private readonly CliOption<string> _queryFormat = Opt.TextOr("--query-instruction-format-for-rerank", "FORMAT", "{}{}", "How the two are joined");
    private readonly CliOption<string?> _passage = Opt.Text("--passage-instruction-for-rerank", "TEXT", "Put before each passage that the reranker reads");
    private readonly CliOption<string> _passageFormat = Opt.TextOr("--passage-instruction-format-for-rerank", "FORMAT", "{}{}", "How the two are joined");

    public void AddTo(Command command)
    {
        foreach (Option option in (Option[])[_query, _queryFormat, _passage, _passageFormat]) command.Add(option);
    }

    /// <summary>The instructions.</summary>
    /// <exception cref="BgeMetalException">A format is wrong.</exception>
    public RerankInstructions Read(ParseResult parsed) => new(parsed.GetValue(_query), InstructionFormat.Parse(parsed.GetValue(_queryFormat)!),
        parsed.GetValue(_passage), InstructionFormat.Parse(parsed.GetValue(_passageFormat)!));
}
