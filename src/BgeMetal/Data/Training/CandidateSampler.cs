namespace BgeMetal.Data.Training;

/// <summary>What a task does with its rows' candidates.</summary>
/// <param name="Positive">Which positive.</param>
/// <param name="Negative">Which negatives.</param>
/// <param name="SortByTeacher">Whether the negatives come in the teacher's order, the best first: what stabilised distillation needs.</param>
/// <param name="Margin">The least difference between a row's best and worst score; null for none.</param>
/// <param name="Minimum">The least best score; null for none.</param>
internal sealed record CandidateRules(PositiveSelection Positive, NegativeSelection Negative, bool SortByTeacher = false, double? Margin = null, double? Minimum = null);

/// <summary>
/// Which candidates a row gives, as research/llm_embedder chooses them. Random choices are a function of (seed, epoch, row) and drawn anew each epoch; there they
/// are drawn once.
/// </summary>
internal sealed class CandidateSampler(int seed, int groupSize)
{
    private readonly PassageSampler _random = new(seed);

    /// <summary>Whether the row takes part: its scores pass the rules and, once its positive is taken, a negative is left where the group needs one.</summary>
    public bool Admits(LlmEmbedderRow row, CandidateRules rules)
    {
        if (row.Scores is { } scores)
        {
            double best = scores.Max(), worst = scores.Min();
            if (best < rules.Minimum || best - worst < rules.Margin) return false;
        }
        if (row.Positives == 0 && rules.Positive is PositiveSelection.Random or PositiveSelection.TeacherPositive)
            throw new BgeMetalException("bad input", "the row has no positive, which select-positive random and teacher-pos need", row.Place.File, row.Place.Line);
        if (groupSize == 1) return true;
        int negatives = row.Candidates.Length - row.Positives;
        return Best(row, rules) is { } taken && taken >= row.Positives ? negatives > 1 : negatives > 0;
    }

    /// <summary>The numbers of the row's chosen candidates [G]: the positive first.</summary>
    public int[] Draw(LlmEmbedderRow row, CandidateRules rules, int epoch, int number)
    {
        int[] chosen = new int[groupSize];
        int? best = Best(row, rules);
        int taken = best >= row.Positives ? best.Value : -1;
        int[] pool = [.. Enumerable.Range(row.Positives, row.Candidates.Length - row.Positives).Where(candidate => candidate != taken)];
        int[] drawn = new int[groupSize - 1];
        int random = _random.Draw(epoch, number, Math.Max(1, row.Positives), Math.Max(1, pool.Length), drawn);
        chosen[0] = best ?? (rules.Positive == PositiveSelection.Random ? random : 0);
        if (groupSize == 1) return chosen;
        IEnumerable<int> negatives = Negatives(row, rules, pool, drawn);
        if (rules.SortByTeacher && row.Scores is { } scores) negatives = negatives.OrderByDescending(candidate => scores[candidate]);
        int at = 1;
        foreach (int candidate in negatives) chosen[at++] = candidate;
        return chosen;
    }

    /// <summary>The candidate that the teacher makes the positive, or null where the teacher is not asked.</summary>
    private static int? Best(LlmEmbedderRow row, CandidateRules rules)
    {
        if (row.Scores is not { } scores) return null;
        return rules.Positive switch
        {
            PositiveSelection.Teacher => Highest(scores),
            PositiveSelection.TeacherPositive => Highest(scores.AsSpan(0, row.Positives)),
            PositiveSelection.First when row.Positives == 0 => Highest(scores),
            _ => null,
        };
    }

    private IEnumerable<int> Negatives(LlmEmbedderRow row, CandidateRules rules, int[] pool, int[] drawn)
    {
        if (rules.Negative == NegativeSelection.Random || (rules.Negative != NegativeSelection.First && row.Scores is null)) return drawn.Select(i => pool[i]);
        int copies = (groupSize - 1 + pool.Length - 1) / pool.Length;
        IEnumerable<int> repeated = Enumerable.Repeat(pool, copies).SelectMany(all => all);
        float[]? scores = row.Scores;
        return (rules.Negative switch
        {
            NegativeSelection.TeacherBest => repeated.OrderByDescending(candidate => scores![candidate]),
            NegativeSelection.TeacherWorst => repeated.OrderBy(candidate => scores![candidate]),
            _ => repeated,
        }).Take(groupSize - 1);
    }

    private static int Highest(ReadOnlySpan<float> scores)
    {
        int best = 0;
        for (int i = 1; i < scores.Length; i++)
            if (scores[i] > scores[best]) best = i;
        return best;
    }
}
