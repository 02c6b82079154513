using System.Buffers;
using System.Runtime.InteropServices;

namespace BgeMetal.Checkpoints;

/// <summary>
/// Reads a view of a storage into row-major floats. Contiguous views, which is nearly all, are read straight into place, and the checksum of a storage
/// that one f32 view covers is computed on the way; others are read as the run of elements they span and gathered.
/// </summary>
internal static class StridedReader
{
    /// <summary>The view's <see cref="PickleTensor.Elements"/> is the destination's length.</summary>
    /// <exception cref="InvalidDataException">The storage is damaged, or the view spans more than can be rearranged.</exception>
    internal static void Read(ZipMemberBytes bytes, PickleTensor view, Span<float> destination)
    {
        string type = view.Storage.StorageType;
        int size = StorageType.Bits(type) / 8;
        bool contiguous = view.Contiguous, whole = contiguous && type == StorageType.F32 && view.Elements == view.Storage.Elements;
        if (!whole) bytes.Verify();
        if (whole && !bytes.Verified) ReadVerified(bytes, destination);
        else if (contiguous) FloatReader.Read(bytes, type, view.Offset * size, destination);
        else Gather(bytes, view, size, destination);
    }

    // The checksum follows each chunk while it is still in the level 2 cache.
    private static void ReadVerified(ZipMemberBytes bytes, Span<float> destination)
    {
        const int Chunk = 1 << 16;
        uint crc = 0;
        for (int at = 0; at < destination.Length; at += Chunk)
        {
            Span<byte> part = MemoryMarshal.AsBytes(destination.Slice(at, Math.Min(Chunk, destination.Length - at)));
            bytes.Read((long)at * sizeof(float), part);
            crc = Crc32.Append(crc, part);
        }
        bytes.Accept(crc);
    }

    private static void Gather(ZipMemberBytes bytes, PickleTensor view, int size, Span<float> destination)
    {
        long span = view.Extent + 1;
        if (span > Array.MaxLength / 4)
            throw new InvalidDataException($"it is not contiguous and spans {span} elements, more than the {Array.MaxLength / 4} that can be rearranged");
        float[] buffer = ArrayPool<float>.Shared.Rent((int)span);
        try
        {
            Span<float> run = buffer.AsSpan(0, (int)span);
            FloatReader.Read(bytes, view.Storage.StorageType, view.Offset * size, run);
            Gather(run, view.Shape, view.Strides, destination);
        }
        finally
        {
            ArrayPool<float>.Shared.Return(buffer);
        }
    }

    // An odometer over all axes but the last, which is copied in a loop of its own.
    private static void Gather(ReadOnlySpan<float> run, long[] shape, long[] strides, Span<float> destination)
    {
        int last = shape.Length - 1;
        int count = (int)shape[last];
        long step = strides[last], start = 0;
        long[] index = new long[shape.Length];
        while (true)
        {
            for (int i = 0; i < count; i++) destination[i] = run[(int)(start + (i * step))];
            destination = destination[count..];
            if (destination.IsEmpty) return;
            for (int axis = last - 1; ; axis--)
            {
                start += strides[axis];
                if (++index[axis] < shape[axis]) break;
                start -= strides[axis] * shape[axis];
                index[axis] = 0;
            }
        }
    }
}
