namespace BgeMetal.Kernels.Cpu;

/// <summary>
/// Working memory of a kernel call, one block a thread, kept for the thread's next call and grown when a call needs more, so that a steady state
/// allocates nothing. A block belongs to the innermost kernel call on the thread; a kernel that calls another one must not need its block afterwards.
/// </summary>
internal static unsafe class ThreadScratch
{
    [ThreadStatic]
    private static NativeBuffer? t_buffer;

    /// <summary>At least <paramref name="count"/> floats with undefined content, valid until the next call on this thread.</summary>
    public static float* Floats(long count)
    {
        NativeBuffer? buffer = t_buffer;
        if (buffer is null || buffer.SizeBytes < count * sizeof(float))
        {
            long sizeBytes = Math.Max(count * sizeof(float), 1 << 18);
            if (buffer is not null) sizeBytes = Math.Max(sizeBytes, buffer.SizeBytes + (buffer.SizeBytes / 2));
            buffer?.Dispose();
            t_buffer = null;
            t_buffer = buffer = new NativeBuffer(sizeBytes);
        }
        return buffer.Floats;
    }
}
