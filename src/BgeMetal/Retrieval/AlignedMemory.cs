using System.Runtime.InteropServices;

namespace BgeMetal.Retrieval;

/// <summary>Native memory at a 64-byte boundary, zeroed. Counted like every safe handle: it is freed when disposed and no longer in use.</summary>
internal sealed unsafe class AlignedMemory : SafeBuffer
{
    /// <summary>Allocates <paramref name="bytes"/> bytes.</summary>
    /// <exception cref="OutOfMemoryException">There is not that much.</exception>
    public AlignedMemory(long bytes) : base(ownsHandle: true)
    {
        nuint size = (nuint)Math.Max(bytes, 64);
        void* memory = NativeMemory.AlignedAlloc(size, 64);
        NativeMemory.Clear(memory, size);
        SetHandle((nint)memory);
        Initialize(size);
    }

    /// <inheritdoc/>
    protected override bool ReleaseHandle()
    {
        NativeMemory.AlignedFree((void*)handle);
        return true;
    }
}
