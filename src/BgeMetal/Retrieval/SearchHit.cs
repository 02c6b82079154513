namespace BgeMetal.Retrieval;

/// <summary>One result of a search.</summary>
/// <param name="Id">The id the row was added with.</param>
/// <param name="Score">The inner product of query and row: the cosine where both have length 1.</param>
/// <param name="Text">The text the row was added with; empty where there was none.</param>
/// <param name="Row">The row's number in the index, from 0.</param>
public readonly record struct SearchHit(string Id, float Score, string Text, long Row);
