namespace BgeMetal.Benchmarks.Models;

/// <summary>A fixed list of texts, as token ids, that every engine gets.</summary>
/// <param name="Arrival">Whether a padding engine must keep the order in which the texts came, instead of sorting them by length.</param>
/// <param name="SingleText">Whether the texts are answered one at a time, by one thread.</param>
internal sealed record Workload(string Name, int[][] TokenIds, bool Arrival = false, bool SingleText = false)
{
    /// <summary>Real tokens, padding excluded.</summary>
    public long Tokens => TokenIds.Sum(text => (long)text.Length);

    /// <summary>
    /// Every workload for a vocabulary of that size, always the same for the same seed. Ragged lengths are log-normal: queries (mean 15), a mix of short and long (mean 71),
    /// passages (mean 150), capped at 512 tokens. In arrival order fewer texts do: what counts there is the batch of 32, not the length of the list.
    /// </summary>
    public static IReadOnlyList<Workload> All(int vocabulary, int seed)
    {
        int[][] queries = Ragged(vocabulary, seed, 1024, 15, 0.45);
        int[][] mixed = Ragged(vocabulary, seed + 1, 256, 71, 1.0);
        int[][] passages = Ragged(vocabulary, seed + 2, 128, 150, 0.5);
        return
        [
            new("fixed-32x128", Texts(vocabulary, seed, Enumerable.Repeat(128, 32))),
            new("queries-sorted", queries),
            new("mixed-sorted", mixed),
            new("passages-sorted", passages),
            new("queries-arrival", queries[..512], Arrival: true),
            new("mixed-arrival", mixed[..128], Arrival: true),
            new("passages-arrival", passages[..64], Arrival: true),
            new("one-16", Texts(vocabulary, seed, [16]), SingleText: true),
            new("one-64", Texts(vocabulary, seed, [64]), SingleText: true),
            new("one-256", Texts(vocabulary, seed, [256]), SingleText: true),
        ];
    }

    private static int[][] Ragged(int vocabulary, int seed, int count, double mean, double sigma)
    {
        Random random = new(seed);
        double mu = Math.Log(mean) - sigma * sigma / 2;
        double Normal() => Math.Sqrt(-2 * Math.Log(1 - random.NextDouble())) * Math.Cos(2 * Math.PI * random.NextDouble());
        return Texts(vocabulary, seed, Enumerable.Range(0, count).Select(_ => Math.Clamp((int)Math.Round(Math.Exp(mu + sigma * Normal())), 4, 512)));
    }

    /// <summary>[CLS], random ordinary tokens, [SEP], with the ids of the vocabulary that <see cref="EncoderWeights.Save"/> writes.</summary>
    public static int[][] Texts(int vocabulary, int seed, IEnumerable<int> lengths)
    {
        const int cls = 2, separator = 3, firstOrdinary = 5;
        Random random = new(seed);
        return [.. lengths.Select(length => (int[])[cls, .. Enumerable.Range(0, length - 2).Select(_ => random.Next(firstOrdinary, vocabulary)), separator])];
    }
}
