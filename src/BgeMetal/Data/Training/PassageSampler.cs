using System.Buffers;
using BgeMetal.Tensors;

namespace BgeMetal.Data.Training;

/// <summary>
/// Which positive and which negatives a row gives, as FlagEmbedding draws them: one positive uniformly; G-1 negatives without replacement, from the list repeated
/// ceil((G-1)/n) times when it has n &lt; G-1. Unlike there, exactly G-1 negatives stay in the order of the file, so such rows are the same in every run (the order
/// matters to the m3_kd_loss only). The draw depends on (seed, epoch, row) alone.
/// </summary>
internal readonly struct PassageSampler(int seed)
{
    /// <summary>Draws for a row of an epoch.</summary>
    /// <param name="epoch">The epoch.</param>
    /// <param name="row">The row's number in the data set.</param>
    /// <param name="positives">How many positives there are, at least one.</param>
    /// <param name="negatives">How many negatives there are, at least one unless <paramref name="chosen"/> is empty.</param>
    /// <param name="chosen">Takes the numbers of the negatives; its length is G-1.</param>
    /// <returns>The number of the positive.</returns>
    public int Draw(int epoch, int row, int positives, int negatives, Span<int> chosen)
    {
        CounterRandom random = new(seed, RandomPurpose.Passages, epoch, row);
        int positive = random.Below(positives);
        if (negatives == chosen.Length)
        {
            for (int i = 0; i < negatives; i++) chosen[i] = i;
            return positive;
        }

        if (chosen.IsEmpty) return positive;
        int copies = negatives < chosen.Length ? (chosen.Length + negatives - 1) / negatives : 1;
        int total = checked(negatives * copies);
        int[] pool = ArrayPool<int>.Shared.Rent(total);
        for (int i = 0; i < total; i++) pool[i] = i;
        for (int i = 0; i < chosen.Length; i++)
        {
            int j = i + random.Below(total - i);
            (pool[i], pool[j]) = (pool[j], pool[i]);
            chosen[i] = pool[i] % negatives;
        }

        ArrayPool<int>.Shared.Return(pool);
        return positive;
    }
}
