namespace BgeMetal.Retrieval;

/// <summary>
/// The measures of trec_eval (as BEIR takes them through pytrec_eval) of a run against judgements. R = a query's passages with relevance 1 or more; rel(i) = relevance of the
/// passage at rank i, 0 where it is not judged or negative; hits(i) = relevant passages among the first i.
/// <list type="bullet">
/// <item>ndcg@k: sum over i up to k of rel(i) / log2(i + 1), divided by the same sum for the best possible list of all judged passages (linear gain).</item>
/// <item>mrr@k: 1 / rank of the first relevant passage, 0 when it is not among the first k.</item>
/// <item>recall@k: hits(k) / R.</item>
/// <item>map@k and map: sum over the relevant ranks i (up to k) of hits(i) / i, divided by R (trec_eval's map_cut and map).</item>
/// <item>precision@k: hits(k) / k, also where the list is shorter than k.</item>
/// <item>hit_rate@k: 1 when a relevant passage is among the first k, else 0.</item>
/// </list>
/// Equal scores are ranked by passage id, descending (<see cref="RetrievalRun"/>). Averages are over all judged queries, as with trec_eval -c: a query without results, or
/// without a relevant passage, counts 0 everywhere.
/// </summary>
public static class RetrievalMetrics
{
    /// <summary>Computes all measures.</summary>
    /// <param name="judgements">The relevant passages.</param>
    /// <param name="run">The ranked lists; queries that are not judged are ignored.</param>
    /// <param name="cutoffs">The values of k, each at least 1.</param>
    /// <param name="ignoreIdenticalIds">Leave out a result whose id is the query's own, as BEIR does for sets whose queries are passages of the corpus.</param>
    /// <exception cref="ArgumentException">There is no cutoff, or one is below 1.</exception>
    /// <exception cref="BgeMetalException">No query has a relevant passage.</exception>
    public static RetrievalReport Evaluate(Judgements judgements, RetrievalRun run, IReadOnlyList<int> cutoffs, bool ignoreIdenticalIds = false)
    {
        if (cutoffs.Count == 0 || cutoffs.Any(k => k < 1)) throw new ArgumentException("at least one cutoff was expected, each at least 1", nameof(cutoffs));
        int[] ks = [.. cutoffs.Distinct().Order()];
        List<QueryReport> queries = [];
        int withoutRelevant = 0, withoutResults = 0;
        foreach (string query in judgements.Queries)
        {
            IReadOnlyDictionary<string, int> judged = judgements.Of(query);
            int[] ideal = [.. judged.Values.Where(r => r > 0).OrderDescending()];
            if (ideal.Length == 0) withoutRelevant++;
            IEnumerable<RankedPassage> list = run.Of(query);
            if (ignoreIdenticalIds) list = list.Where(p => p.Id != query);
            int[] gains = [.. list.Select(p => Math.Max(0, judged.GetValueOrDefault(p.Id)))];
            if (gains.Length == 0) withoutResults++;
            queries.Add(new QueryReport(query, ideal.Length, gains.Length, Values(gains, ideal, ks)));
        }

        if (queries.Count == withoutRelevant) throw new BgeMetalException("cannot evaluate", "no query has a relevant passage");
        return new RetrievalReport(Names(ks), queries, withoutRelevant, withoutResults);
    }

    private static string[] Names(int[] ks) =>
        [.. ((string[])["ndcg", "mrr", "recall", "map", "precision", "hit_rate"]).SelectMany(m => ks.Select(k => $"{m}@{k}")), "map"];

    /// <summary>The values of one query in the order of <see cref="Names"/>.</summary>
    private static double[] Values(int[] gains, int[] ideal, int[] ks)
    {
        int n = ks.Length;
        double[] values = new double[(6 * n) + 1];
        if (ideal.Length == 0) return values;
        for (int i = 0; i < n; i++)
        {
            int k = ks[i], hits = gains.Take(k).Count(g => g > 0), first = Array.FindIndex(gains, g => g > 0);
            values[i] = DiscountedGain(gains, k) / DiscountedGain(ideal, k);
            values[n + i] = first >= 0 && first < k ? 1.0 / (first + 1) : 0;
            values[(2 * n) + i] = (double)hits / ideal.Length;
            values[(3 * n) + i] = AveragePrecision(gains, ideal.Length, k);
            values[(4 * n) + i] = (double)hits / k;
            values[(5 * n) + i] = hits > 0 ? 1 : 0;
        }

        values[^1] = AveragePrecision(gains, ideal.Length, gains.Length);
        return values;
    }

    private static double DiscountedGain(int[] gains, int k)
    {
        double sum = 0;
        for (int i = 0; i < Math.Min(k, gains.Length); i++) sum += gains[i] / Math.Log2(i + 2);
        return sum;
    }

    private static double AveragePrecision(int[] gains, int relevant, int k)
    {
        double sum = 0;
        int hits = 0;
        for (int i = 0; i < Math.Min(k, gains.Length); i++)
            if (gains[i] > 0) sum += (double)++hits / (i + 1);
        return sum / relevant;
    }
}
