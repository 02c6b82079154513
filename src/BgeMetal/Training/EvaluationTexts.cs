using BgeMetal.Data.Training;

namespace BgeMetal.Training;

/// <summary>How the texts of an evaluation become tokens.</summary>
/// <param name="QueryMaxLength">Tokens a query is cut to.</param>
/// <param name="PassageMaxLength">Tokens a passage is cut to.</param>
internal sealed record EvaluationTexts(int QueryMaxLength, int PassageMaxLength)
{
    /// <summary>Put before each query; null for nothing.</summary>
    public string? QueryInstruction { get; init; }

    /// <summary>How instruction and query are joined.</summary>
    public InstructionFormat QueryFormat { get; init; } = InstructionFormat.Plain;

    /// <summary>Put before each passage; null for nothing.</summary>
    public string? PassageInstruction { get; init; }

    /// <summary>How instruction and passage are joined.</summary>
    public InstructionFormat PassageFormat { get; init; } = InstructionFormat.Plain;

    /// <summary>A query as the model reads it.</summary>
    public string Query(string text) => QueryInstruction is null ? text : QueryFormat.Apply(QueryInstruction, text);

    /// <summary>A passage as the model reads it.</summary>
    public string Passage(string text) => PassageInstruction is null ? text : PassageFormat.Apply(PassageInstruction, text);
}
