using BgeMetal.Data.Training;
using BgeMetal.Tensors;

namespace BgeMetal.Retrieval.Mining;

/// <summary>A candidate that scores as high as the row's positive.</summary>
internal readonly record struct Suspect(MiningText Text, float Score);

/// <summary>What was chosen for a row: negatives in the order of their rank, the random ones last.</summary>
internal sealed record Selection(List<MiningText> Negatives, List<Suspect> Suspects, double LowestPositive, HardNegativeReport Tally);

/// <summary>
/// Chooses a row's negatives among its hits: exclusion, limits, near-duplicates, sampling with the reranker's veto, filling. Works on corpus rows, each of which is a
/// text of its own, and reads only the texts it needs: a row has hundreds of hits and a few negatives.
/// </summary>
/// <param name="corpus">The texts.</param>
/// <param name="options">The rules.</param>
/// <param name="rerank">A cross-encoder's logits of a query's passages, or null.</param>
internal sealed class NegativeSelector(MiningCorpus corpus, HardNegativeOptions options, Func<string, IReadOnlyList<string>, float[]>? rerank)
{
    private const int DrawsPerText = 32;

    /// <summary>Chooses for one row.</summary>
    /// <param name="row">The row.</param>
    /// <param name="number">Its number in the file, the key of its random draws.</param>
    /// <param name="query">The query's vector.</param>
    /// <param name="hits">Corpus rows, best first; -1 behind the last.</param>
    /// <param name="scores">Their scores.</param>
    /// <param name="positives">The positives' vectors; null when no rule needs them.</param>
    public Selection Select(MiningRow row, long number, ReadOnlySpan<float> query, ReadOnlySpan<long> hits, ReadOnlySpan<float> scores, float[][]? positives)
    {
        Chooser chooser = new(row, positives is null ? double.NaN : Lowest(query, positives), Rows([row.Query, .. row.Positives]));
        List<long> candidates = Candidates(chooser, hits, scores, positives);
        int[] order = [.. Enumerable.Range(0, candidates.Count)];
        if (order.Length > options.NegativeNumber) new CounterRandom(options.Seed, RandomPurpose.HardNegatives, number).Shuffle(order);
        List<int> taken = rerank is null ? [.. order.Take(options.NegativeNumber)] : Reranked(chooser, candidates, order);
        taken.Sort();
        List<MiningText> negatives = [.. taken.Select(i => corpus.TextAt(candidates[i]))];
        chooser.Excluded.UnionWith(taken.Select(i => candidates[i]));
        Fill(chooser, negatives, new CounterRandom(options.Seed, RandomPurpose.FillingNegatives, number));
        return new Selection(negatives, chooser.Suspects, chooser.LowestPositive, chooser.Tally with
        {
            Rows = 1,
            Mined = taken.Count,
            Filled = negatives.Count - taken.Count,
            ShortRows = negatives.Count < options.NegativeNumber ? 1 : 0,
            SuspectedFalseNegatives = chooser.Suspects.Count,
        });
    }

    private HashSet<long> Rows(IEnumerable<MiningText> texts)
    {
        HashSet<long> rows = [];
        foreach (MiningText text in texts)
            if (corpus.TryFind(text, out long row)) rows.Add(row);
        return rows;
    }

    private static double Lowest(ReadOnlySpan<float> query, float[][] positives)
    {
        double lowest = double.PositiveInfinity;
        foreach (float[] positive in positives) lowest = Math.Min(lowest, VectorMath.Dot(query, positive));
        return lowest;
    }

    private List<long> Candidates(Chooser chooser, ReadOnlySpan<long> hits, ReadOnlySpan<float> scores, float[][]? positives)
    {
        List<long> candidates = [];
        List<float[]> kept = positives is null ? [] : [.. positives];
        for (int rank = 0; rank < hits.Length && hits[rank] >= 0; rank++)
        {
            if (chooser.Excluded.Contains(hits[rank])) continue;
            bool inRange = rank >= options.RangeStart, high = IsTooHigh(scores[rank], chooser.LowestPositive);
            if (inRange && scores[rank] >= chooser.LowestPositive) chooser.Suspects.Add(new Suspect(corpus.TextAt(hits[rank]), scores[rank]));
            if (high || scores[rank] < options.MinScore)
            {
                chooser.Excluded.Add(hits[rank]);
                if (inRange) chooser.Tally = chooser.Tally with { OutOfLimits = chooser.Tally.OutOfLimits + 1 };
            }
            else if (options.NearDuplicate is { } cosine && IsKept(kept, hits[rank], cosine))
            {
                chooser.Excluded.Add(hits[rank]);
                if (inRange) chooser.Tally = chooser.Tally with { NearDuplicates = chooser.Tally.NearDuplicates + 1 };
            }
            else if (inRange) candidates.Add(hits[rank]);
        }
        return candidates;
    }

    private bool IsTooHigh(float score, double positive) =>
        score > options.MaxScore
        || score > positive - options.AbsoluteMargin
        || score > positive - Math.Abs(positive) * options.RelativeMargin;

    /// <summary>Whether the row repeats one of <paramref name="kept"/>; if not, it joins them.</summary>
    private bool IsKept(List<float[]> kept, long row, double cosine)
    {
        float[] vector = corpus.VectorAt(row);
        foreach (float[] other in kept)
            if (VectorMath.Cosine(vector, other) >= cosine) return true;
        kept.Add(vector);
        return false;
    }

    /// <summary>Takes candidates in the drawn order, as many at a time as are missing, without those the reranker finds as relevant as a positive.</summary>
    private List<int> Reranked(Chooser chooser, List<long> candidates, int[] order)
    {
        string query = Text(chooser.Row, chooser.Row.Query);
        float positive = rerank!(query, [.. chooser.Row.Positives.Select(text => Text(chooser.Row, text))]).Min();
        List<int> taken = [];
        for (int next = 0; next < order.Length && taken.Count < options.NegativeNumber;)
        {
            int[] some = order[next..Math.Min(order.Length, next + options.NegativeNumber - taken.Count)];
            next += some.Length;
            float[] scores = rerank(query, [.. some.Select(i => Text(chooser.Row, corpus.TextAt(candidates[i])))]);
            for (int i = 0; i < some.Length; i++)
            {
                if (scores[i] < positive && !(VectorMath.Sigmoid(scores[i]) > options.RerankerMaxScore))
                {
                    taken.Add(some[i]);
                    continue;
                }
                chooser.Excluded.Add(candidates[some[i]]);
                chooser.Tally = chooser.Tally with { Vetoed = chooser.Tally.Vetoed + 1 };
            }
        }
        return taken;
    }

    private static string Text(MiningRow row, MiningText text) => !text.IsTokens ? text.Content
        : throw new BgeMetalException("bad input", "a reranker needs texts, the row or the corpus has input_ids", row.Place.File, row.Place.Line);

    /// <summary>Fills up with random texts, none twice: by draws first, then (where the corpus has hardly more texts than are needed) by a walk through all of it.</summary>
    private void Fill(Chooser chooser, List<MiningText> negatives, CounterRandom random)
    {
        if (negatives.Count >= options.NegativeNumber) return;
        int texts = checked((int)corpus.Count);
        for (long draws = (long)DrawsPerText * (options.NegativeNumber - negatives.Count); draws > 0 && negatives.Count < options.NegativeNumber; draws--)
            Offer(chooser, negatives, random.Below(texts));
        int start = random.Below(texts);
        for (int i = 0; i < texts && negatives.Count < options.NegativeNumber; i++)
            Offer(chooser, negatives, (int)(((long)start + i) % texts));
    }

    private void Offer(Chooser chooser, List<MiningText> negatives, int row)
    {
        if (chooser.Excluded.Add(row)) negatives.Add(corpus.TextAt(row));
    }

    /// <summary>What is known of a row while its negatives are chosen.</summary>
    private sealed class Chooser(MiningRow row, double lowestPositive, HashSet<long> excluded)
    {
        public MiningRow Row => row;

        public double LowestPositive => lowestPositive;

        /// <summary>The corpus rows of the query and the positives, and what was passed over or taken.</summary>
        public HashSet<long> Excluded => excluded;

        public List<Suspect> Suspects { get; } = [];

        public HardNegativeReport Tally { get; set; } = new();
    }
}
