namespace BgeMetal.Cli;

/// <summary>Reads and works on some pieces ahead of the one whose result is being used, so that reading, computing and writing go on side by side.</summary>
internal static class PiecesAhead
{
    /// <summary>
    /// The results in the order of the pieces. A failure, of reading or of work, surfaces at its piece's turn, after the results before it; what was begun behind it is waited for,
    /// but not a read that may never end.
    /// </summary>
    /// <param name="read">The next piece, or null at the end; one call at a time.</param>
    /// <param name="work">Makes a piece's result; as many calls at a time as <paramref name="ahead"/>.</param>
    /// <param name="ahead">Pieces under way at a time; with 1 a piece is read when the result before it has been used.</param>
    public static IEnumerable<(TPiece Piece, TResult Result)> Run<TPiece, TResult>(Func<TPiece?> read, Func<TPiece, TResult> work, int ahead) where TPiece : class
    {
        Queue<(Task<TPiece?> Read, Task<(TPiece? Piece, TResult? Result)> Work)> underWay = new();
        Task<TPiece?>? last = null;
        bool stopped = false;
        try
        {
            while (true)
            {
                while (underWay.Count < ahead)
                {
                    last = ReadAfter(last);
                    underWay.Enqueue((last, WorkAfter(last)));
                }
                (TPiece? piece, TResult? result) = underWay.Dequeue().Work.GetAwaiter().GetResult();
                if (piece is null) yield break;
                yield return (piece, result!);
            }
        }
        finally
        {
            Volatile.Write(ref stopped, true);
            // Their failures belong to pieces that nobody will ask for.
            Task.WhenAll(underWay.Where(piece => piece.Read.IsCompleted).Select(piece => piece.Work)).ContinueWith(_ => { }, TaskScheduler.Default).Wait();
        }

        async Task<TPiece?> ReadAfter(Task<TPiece?>? before)
        {
            TPiece? piece = await (before ?? Task.FromResult<TPiece?>(null)).ConfigureAwait(ConfigureAwaitOptions.ForceYielding);
            return before is not null && piece is null ? null : read();
        }

        async Task<(TPiece?, TResult?)> WorkAfter(Task<TPiece?> reading)
        {
            TPiece? piece = await reading.ConfigureAwait(false);
            return piece is null || Volatile.Read(ref stopped) ? default : (piece, work(piece));
        }
    }
}
