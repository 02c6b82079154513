using BgeMetal.Retrieval;

namespace BgeMetal.Cli.Evaluation;

/// <summary>A data set's measures.</summary>
/// <param name="Label">What the data set is called.</param>
/// <param name="Data">The data set; null where only files of measures are compared.</param>
/// <param name="Report">The measures.</param>
/// <param name="Comparison">The comparison with the baseline, or null.</param>
internal sealed record EvaluatedSet(string Label, RetrievalDataset? Data, RetrievalReport Report, RunComparison? Comparison);

/// <summary>What was evaluated.</summary>
/// <param name="Model">The model as it was named, or the file of its measures.</param>
/// <param name="Reranker">The reranker as it was named, or null.</param>
/// <param name="Instruction">What stands before queries; null where it is not known.</param>
/// <param name="Baseline">What it is compared with, or null.</param>
internal sealed record EvaluationHead(string Model, string? Reranker, string? Instruction, string? Baseline);
