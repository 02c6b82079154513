using BgeMetal.Data;

namespace BgeMetal.Retrieval;

/// <summary>Tokenises many texts block by block, the next block on the CPU's threads while a GPU computes the one before it.</summary>
internal static class TokenizedBlocks
{
    /// <summary>Texts of a block: enough batches of one length, and little to wait for before the first.</summary>
    private const int Texts = 4096;

    /// <summary>Runs texts 0 .. <paramref name="count"/>-1 in order, all in one block where <paramref name="beside"/> is false. A failure leaves the blocks behind it undone.</summary>
    /// <param name="count">How many.</param>
    /// <param name="beside">Whether something else than the CPU computes.</param>
    /// <param name="tokenize">Tokenises so many texts from one on; one call at a time.</param>
    /// <param name="run">Computes them; given the first text's number.</param>
    /// <returns>Tokens of all texts.</returns>
    public static long Run(int count, bool beside, Func<int, int, TokenSequence[]> tokenize, Action<int, TokenSequence[]> run)
    {
        int block = beside ? Texts : Math.Max(count, 1);
        long tokens = 0;
        Task<TokenSequence[]>? ahead = null;
        try
        {
            for (int start = 0; start < count; start += block)
            {
                TokenSequence[] sequences = ahead is null ? tokenize(start, Math.Min(block, count - start)) : ahead.GetAwaiter().GetResult();
                int next = start + block;
                ahead = next < count ? Task.Run(() => tokenize(next, Math.Min(block, count - next))) : null;
                tokens += sequences.Sum(sequence => (long)sequence.Length);
                run(start, sequences);
            }
        }
        catch
        {
            // It may read what its caller gives up when this returns; its own failure comes second.
            ahead?.ContinueWith(_ => { }, TaskScheduler.Default).Wait();
            throw;
        }
        return tokens;
    }
}
