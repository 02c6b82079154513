namespace BgeMetal.Text;

/// <summary>A part of a template: added tokens, or a text (A is 0, B is 1) where <see cref="Tokens"/> is null.</summary>
/// <param name="Sequence">0 for the first text, 1 for the second.</param>
/// <param name="Ids">Ids of the added tokens.</param>
/// <param name="Tokens">The added tokens, or null for a text.</param>
/// <param name="TypeId">The token type of all of it.</param>
internal sealed record TemplatePart(int Sequence, int[] Ids, string[]? Tokens, int TypeId)
{
    /// <summary>The place of a text.</summary>
    public static TemplatePart Text(int sequence, int typeId) => new(sequence, [], null, typeId);

    /// <summary>One added token.</summary>
    public static TemplatePart Added(string token, int id, int typeId) => new(0, [id], [token], typeId);
}

/// <summary>How one text, or two, are dressed with special tokens and token types.</summary>
internal sealed class PairTemplate(TemplatePart[] single, TemplatePart[] pair)
{
    /// <summary>The parts for one text.</summary>
    public TemplatePart[] Single { get; } = single;

    /// <summary>The parts for two texts.</summary>
    public TemplatePart[] Pair { get; } = pair;

    /// <summary>The number of tokens added to one text.</summary>
    public int AddedToSingle { get; } = single.Sum(part => part.Ids.Length);

    /// <summary>The number of tokens added to two texts.</summary>
    public int AddedToPair { get; } = pair.Sum(part => part.Ids.Length);

    /// <summary>BERT's template: [CLS] A [SEP], and B [SEP] of type 1.</summary>
    public static PairTemplate Bert(string cls, int clsId, string sep, int sepId) => new(
        [TemplatePart.Added(cls, clsId, 0), TemplatePart.Text(0, 0), TemplatePart.Added(sep, sepId, 0)],
        [TemplatePart.Added(cls, clsId, 0), TemplatePart.Text(0, 0), TemplatePart.Added(sep, sepId, 0), TemplatePart.Text(1, 1), TemplatePart.Added(sep, sepId, 1)]);

    /// <summary>XLM-RoBERTa's template: &lt;s&gt; A &lt;/s&gt;, for pairs &lt;s&gt; A &lt;/s&gt; &lt;/s&gt; B &lt;/s&gt;, all of type 0.</summary>
    public static PairTemplate XlmRoberta(string bos, int bosId, string eos, int eosId) => new(
        [TemplatePart.Added(bos, bosId, 0), TemplatePart.Text(0, 0), TemplatePart.Added(eos, eosId, 0)],
        [TemplatePart.Added(bos, bosId, 0), TemplatePart.Text(0, 0), TemplatePart.Added(eos, eosId, 0), TemplatePart.Added(eos, eosId, 0),
            TemplatePart.Text(1, 0), TemplatePart.Added(eos, eosId, 0)]);

    /// <summary>No special tokens; the second text is of type 1.</summary>
    public static PairTemplate None { get; } = new([TemplatePart.Text(0, 0)], [TemplatePart.Text(0, 0), TemplatePart.Text(1, 1)]);
}
