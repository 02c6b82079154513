namespace BgeMetal.Kernels.Cpu;

/// <summary>
/// Working memory of a kernel call, kept for the thread's next call and grown when a call needs more, so that a steady state allocates nothing. Each
/// thread has two blocks: one for the part it is working on, and one that the thread that started a run shares with all parts of the run.
/// A block belongs to the innermost kernel call on the thread; a kernel that calls another one must not need its blocks afterwards.
/// </summary>
internal static unsafe class ThreadScratch
{
    private const long SmallestBytes = 1 << 18;

    [ThreadStatic]
    private static NativeBuffer? t_part;

    [ThreadStatic]
    private static NativeBuffer? t_run;

    /// <summary>At least <paramref name="count"/> floats with undefined content, valid until the next call on this thread.</summary>
    public static float* Floats(long count) => Grown(ref t_part, count);

    /// <summary>
    /// At least <paramref name="count"/> floats with undefined content for a whole run: taken by the thread that starts it, before it starts, and handed
    /// to the parts through the job. Valid until the next call on this thread; <see cref="Floats"/> does not touch it.
    /// </summary>
    public static float* RunFloats(long count) => Grown(ref t_run, count);

    private static float* Grown(ref NativeBuffer? kept, long count)
    {
        NativeBuffer? buffer = kept;
        if (buffer is null || buffer.SizeBytes < count * sizeof(float))
        {
            long sizeBytes = Math.Max(count * sizeof(float), SmallestBytes);
            if (buffer is not null) sizeBytes = Math.Max(sizeBytes, buffer.SizeBytes + (buffer.SizeBytes / 2));
            buffer?.Dispose();
            kept = null;
            kept = buffer = new NativeBuffer(sizeBytes);
        }
        return buffer.Floats;
    }
}
