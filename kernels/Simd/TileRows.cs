using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics.X86;

namespace BgeMetal.Kernels.Simd;

/// <summary>
/// Register tiles of a matrix product: R rows by two registers. Each method computes c[i, j] = start[j] + sum over k of a[i, k] * b[k, j] in one pass
/// over k, the whole k, one fused multiply-add after the other, so an element's value depends on neither the tile's height nor the register width.
/// The methods do nothing else on purpose: anything applied to the accumulators in the same method (an activation with its constants) makes the
/// register allocator spill them inside the loop, which costs half of the speed or more. The accumulators are named locals for the same reason:
/// arrays of any kind end up in memory. Three rows share a pointer because x86 addresses p, p + r and p + 2r in one instruction.
/// One cache line at <c>ahead</c> is prefetched for each k, so that what the caller needs next arrives while this tile computes; an address that is in
/// the cache already costs a load slot, of which a tile has some to spare. Strides are in floats; c needs 2 * TWidth.Count writable floats a row, k is at least 1.
/// </summary>
internal static unsafe class TileRows
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Rows12<TWidth, TVector>(float* a, nint lda, float* b, nint ldb, nint k, float* c, nint ldc, float* start, byte* ahead)
        where TWidth : struct, ITileWidth<TVector> where TVector : unmanaged
    {
        TVector s0 = TWidth.Load(start), s1 = TWidth.Load(start + TWidth.Count);
        TVector c0 = s0, d0 = s1, c1 = s0, d1 = s1, c2 = s0, d2 = s1, c3 = s0, d3 = s1;
        TVector c4 = s0, d4 = s1, c5 = s0, d5 = s1, c6 = s0, d6 = s1, c7 = s0, d7 = s1;
        TVector c8 = s0, d8 = s1, c9 = s0, d9 = s1, c10 = s0, d10 = s1, c11 = s0, d11 = s1;
        nint r = lda * sizeof(float);
        byte* p0 = (byte*)a, p1 = p0 + (3 * r), p2 = p0 + (6 * r), p3 = p0 + (9 * r);
        do
        {
            TVector b0 = TWidth.Load(b), b1 = TWidth.Load(b + TWidth.Count);
            TVector x0 = TWidth.Broadcast(p0); c0 = TWidth.MultiplyAdd(x0, b0, c0); d0 = TWidth.MultiplyAdd(x0, b1, d0);
            TVector x1 = TWidth.Broadcast(p0 + r); c1 = TWidth.MultiplyAdd(x1, b0, c1); d1 = TWidth.MultiplyAdd(x1, b1, d1);
            TVector x2 = TWidth.Broadcast(p0 + (2 * r)); c2 = TWidth.MultiplyAdd(x2, b0, c2); d2 = TWidth.MultiplyAdd(x2, b1, d2);
            TVector x3 = TWidth.Broadcast(p1); c3 = TWidth.MultiplyAdd(x3, b0, c3); d3 = TWidth.MultiplyAdd(x3, b1, d3);
            TVector x4 = TWidth.Broadcast(p1 + r); c4 = TWidth.MultiplyAdd(x4, b0, c4); d4 = TWidth.MultiplyAdd(x4, b1, d4);
            TVector x5 = TWidth.Broadcast(p1 + (2 * r)); c5 = TWidth.MultiplyAdd(x5, b0, c5); d5 = TWidth.MultiplyAdd(x5, b1, d5);
            TVector x6 = TWidth.Broadcast(p2); c6 = TWidth.MultiplyAdd(x6, b0, c6); d6 = TWidth.MultiplyAdd(x6, b1, d6);
            TVector x7 = TWidth.Broadcast(p2 + r); c7 = TWidth.MultiplyAdd(x7, b0, c7); d7 = TWidth.MultiplyAdd(x7, b1, d7);
            TVector x8 = TWidth.Broadcast(p2 + (2 * r)); c8 = TWidth.MultiplyAdd(x8, b0, c8); d8 = TWidth.MultiplyAdd(x8, b1, d8);
            TVector x9 = TWidth.Broadcast(p3); c9 = TWidth.MultiplyAdd(x9, b0, c9); d9 = TWidth.MultiplyAdd(x9, b1, d9);
            TVector x10 = TWidth.Broadcast(p3 + r); c10 = TWidth.MultiplyAdd(x10, b0, c10); d10 = TWidth.MultiplyAdd(x10, b1, d10);
            TVector x11 = TWidth.Broadcast(p3 + (2 * r)); c11 = TWidth.MultiplyAdd(x11, b0, c11); d11 = TWidth.MultiplyAdd(x11, b1, d11);
            p0 += sizeof(float); p1 += sizeof(float); p2 += sizeof(float); p3 += sizeof(float); b += ldb;
            Prefetch(ref ahead);
        }
        while (--k > 0);
        TWidth.Store(c0, c); TWidth.Store(d0, c + TWidth.Count); c += ldc;
        TWidth.Store(c1, c); TWidth.Store(d1, c + TWidth.Count); c += ldc;
        TWidth.Store(c2, c); TWidth.Store(d2, c + TWidth.Count); c += ldc;
        TWidth.Store(c3, c); TWidth.Store(d3, c + TWidth.Count); c += ldc;
        TWidth.Store(c4, c); TWidth.Store(d4, c + TWidth.Count); c += ldc;
        TWidth.Store(c5, c); TWidth.Store(d5, c + TWidth.Count); c += ldc;
        TWidth.Store(c6, c); TWidth.Store(d6, c + TWidth.Count); c += ldc;
        TWidth.Store(c7, c); TWidth.Store(d7, c + TWidth.Count); c += ldc;
        TWidth.Store(c8, c); TWidth.Store(d8, c + TWidth.Count); c += ldc;
        TWidth.Store(c9, c); TWidth.Store(d9, c + TWidth.Count); c += ldc;
        TWidth.Store(c10, c); TWidth.Store(d10, c + TWidth.Count); c += ldc;
        TWidth.Store(c11, c); TWidth.Store(d11, c + TWidth.Count);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Rows10<TWidth, TVector>(float* a, nint lda, float* b, nint ldb, nint k, float* c, nint ldc, float* start, byte* ahead)
        where TWidth : struct, ITileWidth<TVector> where TVector : unmanaged
    {
        TVector s0 = TWidth.Load(start), s1 = TWidth.Load(start + TWidth.Count);
        TVector c0 = s0, d0 = s1, c1 = s0, d1 = s1, c2 = s0, d2 = s1, c3 = s0, d3 = s1;
        TVector c4 = s0, d4 = s1, c5 = s0, d5 = s1, c6 = s0, d6 = s1, c7 = s0, d7 = s1;
        TVector c8 = s0, d8 = s1, c9 = s0, d9 = s1;
        nint r = lda * sizeof(float);
        byte* p0 = (byte*)a, p1 = p0 + (3 * r), p2 = p0 + (6 * r), p3 = p0 + (9 * r);
        do
        {
            TVector b0 = TWidth.Load(b), b1 = TWidth.Load(b + TWidth.Count);
            TVector x0 = TWidth.Broadcast(p0); c0 = TWidth.MultiplyAdd(x0, b0, c0); d0 = TWidth.MultiplyAdd(x0, b1, d0);
            TVector x1 = TWidth.Broadcast(p0 + r); c1 = TWidth.MultiplyAdd(x1, b0, c1); d1 = TWidth.MultiplyAdd(x1, b1, d1);
            TVector x2 = TWidth.Broadcast(p0 + (2 * r)); c2 = TWidth.MultiplyAdd(x2, b0, c2); d2 = TWidth.MultiplyAdd(x2, b1, d2);
            TVector x3 = TWidth.Broadcast(p1); c3 = TWidth.MultiplyAdd(x3, b0, c3); d3 = TWidth.MultiplyAdd(x3, b1, d3);
            TVector x4 = TWidth.Broadcast(p1 + r); c4 = TWidth.MultiplyAdd(x4, b0, c4); d4 = TWidth.MultiplyAdd(x4, b1, d4);
            TVector x5 = TWidth.Broadcast(p1 + (2 * r)); c5 = TWidth.MultiplyAdd(x5, b0, c5); d5 = TWidth.MultiplyAdd(x5, b1, d5);
            TVector x6 = TWidth.Broadcast(p2); c6 = TWidth.MultiplyAdd(x6, b0, c6); d6 = TWidth.MultiplyAdd(x6, b1, d6);
            TVector x7 = TWidth.Broadcast(p2 + r); c7 = TWidth.MultiplyAdd(x7, b0, c7); d7 = TWidth.MultiplyAdd(x7, b1, d7);
            TVector x8 = TWidth.Broadcast(p2 + (2 * r)); c8 = TWidth.MultiplyAdd(x8, b0, c8); d8 = TWidth.MultiplyAdd(x8, b1, d8);
            TVector x9 = TWidth.Broadcast(p3); c9 = TWidth.MultiplyAdd(x9, b0, c9); d9 = TWidth.MultiplyAdd(x9, b1, d9);
            p0 += sizeof(float); p1 += sizeof(float); p2 += sizeof(float); p3 += sizeof(float); b += ldb;
            Prefetch(ref ahead);
        }
        while (--k > 0);
        TWidth.Store(c0, c); TWidth.Store(d0, c + TWidth.Count); c += ldc;
        TWidth.Store(c1, c); TWidth.Store(d1, c + TWidth.Count); c += ldc;
        TWidth.Store(c2, c); TWidth.Store(d2, c + TWidth.Count); c += ldc;
        TWidth.Store(c3, c); TWidth.Store(d3, c + TWidth.Count); c += ldc;
        TWidth.Store(c4, c); TWidth.Store(d4, c + TWidth.Count); c += ldc;
        TWidth.Store(c5, c); TWidth.Store(d5, c + TWidth.Count); c += ldc;
        TWidth.Store(c6, c); TWidth.Store(d6, c + TWidth.Count); c += ldc;
        TWidth.Store(c7, c); TWidth.Store(d7, c + TWidth.Count); c += ldc;
        TWidth.Store(c8, c); TWidth.Store(d8, c + TWidth.Count); c += ldc;
        TWidth.Store(c9, c); TWidth.Store(d9, c + TWidth.Count);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Rows8<TWidth, TVector>(float* a, nint lda, float* b, nint ldb, nint k, float* c, nint ldc, float* start, byte* ahead)
        where TWidth : struct, ITileWidth<TVector> where TVector : unmanaged
    {
        TVector s0 = TWidth.Load(start), s1 = TWidth.Load(start + TWidth.Count);
        TVector c0 = s0, d0 = s1, c1 = s0, d1 = s1, c2 = s0, d2 = s1, c3 = s0, d3 = s1;
        TVector c4 = s0, d4 = s1, c5 = s0, d5 = s1, c6 = s0, d6 = s1, c7 = s0, d7 = s1;
        nint r = lda * sizeof(float);
        byte* p0 = (byte*)a, p1 = p0 + (3 * r), p2 = p0 + (6 * r);
        do
        {
            TVector b0 = TWidth.Load(b), b1 = TWidth.Load(b + TWidth.Count);
            TVector x0 = TWidth.Broadcast(p0); c0 = TWidth.MultiplyAdd(x0, b0, c0); d0 = TWidth.MultiplyAdd(x0, b1, d0);
            TVector x1 = TWidth.Broadcast(p0 + r); c1 = TWidth.MultiplyAdd(x1, b0, c1); d1 = TWidth.MultiplyAdd(x1, b1, d1);
            TVector x2 = TWidth.Broadcast(p0 + (2 * r)); c2 = TWidth.MultiplyAdd(x2, b0, c2); d2 = TWidth.MultiplyAdd(x2, b1, d2);
            TVector x3 = TWidth.Broadcast(p1); c3 = TWidth.MultiplyAdd(x3, b0, c3); d3 = TWidth.MultiplyAdd(x3, b1, d3);
            TVector x4 = TWidth.Broadcast(p1 + r); c4 = TWidth.MultiplyAdd(x4, b0, c4); d4 = TWidth.MultiplyAdd(x4, b1, d4);
            TVector x5 = TWidth.Broadcast(p1 + (2 * r)); c5 = TWidth.MultiplyAdd(x5, b0, c5); d5 = TWidth.MultiplyAdd(x5, b1, d5);
            TVector x6 = TWidth.Broadcast(p2); c6 = TWidth.MultiplyAdd(x6, b0, c6); d6 = TWidth.MultiplyAdd(x6, b1, d6);
            TVector x7 = TWidth.Broadcast(p2 + r); c7 = TWidth.MultiplyAdd(x7, b0, c7); d7 = TWidth.MultiplyAdd(x7, b1, d7);
            p0 += sizeof(float); p1 += sizeof(float); p2 += sizeof(float); b += ldb;
            Prefetch(ref ahead);
        }
        while (--k > 0);
        TWidth.Store(c0, c); TWidth.Store(d0, c + TWidth.Count); c += ldc;
        TWidth.Store(c1, c); TWidth.Store(d1, c + TWidth.Count); c += ldc;
        TWidth.Store(c2, c); TWidth.Store(d2, c + TWidth.Count); c += ldc;
        TWidth.Store(c3, c); TWidth.Store(d3, c + TWidth.Count); c += ldc;
        TWidth.Store(c4, c); TWidth.Store(d4, c + TWidth.Count); c += ldc;
        TWidth.Store(c5, c); TWidth.Store(d5, c + TWidth.Count); c += ldc;
        TWidth.Store(c6, c); TWidth.Store(d6, c + TWidth.Count); c += ldc;
        TWidth.Store(c7, c); TWidth.Store(d7, c + TWidth.Count);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Rows6<TWidth, TVector>(float* a, nint lda, float* b, nint ldb, nint k, float* c, nint ldc, float* start, byte* ahead)
        where TWidth : struct, ITileWidth<TVector> where TVector : unmanaged
    {
        TVector s0 = TWidth.Load(start), s1 = TWidth.Load(start + TWidth.Count);
        TVector c0 = s0, d0 = s1, c1 = s0, d1 = s1, c2 = s0, d2 = s1, c3 = s0, d3 = s1;
        TVector c4 = s0, d4 = s1, c5 = s0, d5 = s1;
        nint r = lda * sizeof(float);
        byte* p0 = (byte*)a, p1 = p0 + (3 * r);
        do
        {
            TVector b0 = TWidth.Load(b), b1 = TWidth.Load(b + TWidth.Count);
            TVector x0 = TWidth.Broadcast(p0); c0 = TWidth.MultiplyAdd(x0, b0, c0); d0 = TWidth.MultiplyAdd(x0, b1, d0);
            TVector x1 = TWidth.Broadcast(p0 + r); c1 = TWidth.MultiplyAdd(x1, b0, c1); d1 = TWidth.MultiplyAdd(x1, b1, d1);
            TVector x2 = TWidth.Broadcast(p0 + (2 * r)); c2 = TWidth.MultiplyAdd(x2, b0, c2); d2 = TWidth.MultiplyAdd(x2, b1, d2);
            TVector x3 = TWidth.Broadcast(p1); c3 = TWidth.MultiplyAdd(x3, b0, c3); d3 = TWidth.MultiplyAdd(x3, b1, d3);
            TVector x4 = TWidth.Broadcast(p1 + r); c4 = TWidth.MultiplyAdd(x4, b0, c4); d4 = TWidth.MultiplyAdd(x4, b1, d4);
            TVector x5 = TWidth.Broadcast(p1 + (2 * r)); c5 = TWidth.MultiplyAdd(x5, b0, c5); d5 = TWidth.MultiplyAdd(x5, b1, d5);
            p0 += sizeof(float); p1 += sizeof(float); b += ldb;
            Prefetch(ref ahead);
        }
        while (--k > 0);
        TWidth.Store(c0, c); TWidth.Store(d0, c + TWidth.Count); c += ldc;
        TWidth.Store(c1, c); TWidth.Store(d1, c + TWidth.Count); c += ldc;
        TWidth.Store(c2, c); TWidth.Store(d2, c + TWidth.Count); c += ldc;
        TWidth.Store(c3, c); TWidth.Store(d3, c + TWidth.Count); c += ldc;
        TWidth.Store(c4, c); TWidth.Store(d4, c + TWidth.Count); c += ldc;
        TWidth.Store(c5, c); TWidth.Store(d5, c + TWidth.Count);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Rows5<TWidth, TVector>(float* a, nint lda, float* b, nint ldb, nint k, float* c, nint ldc, float* start, byte* ahead)
        where TWidth : struct, ITileWidth<TVector> where TVector : unmanaged
    {
        TVector s0 = TWidth.Load(start), s1 = TWidth.Load(start + TWidth.Count);
        TVector c0 = s0, d0 = s1, c1 = s0, d1 = s1, c2 = s0, d2 = s1, c3 = s0, d3 = s1;
        TVector c4 = s0, d4 = s1;
        nint r = lda * sizeof(float);
        byte* p0 = (byte*)a, p1 = p0 + (3 * r);
        do
        {
            TVector b0 = TWidth.Load(b), b1 = TWidth.Load(b + TWidth.Count);
            TVector x0 = TWidth.Broadcast(p0); c0 = TWidth.MultiplyAdd(x0, b0, c0); d0 = TWidth.MultiplyAdd(x0, b1, d0);
            TVector x1 = TWidth.Broadcast(p0 + r); c1 = TWidth.MultiplyAdd(x1, b0, c1); d1 = TWidth.MultiplyAdd(x1, b1, d1);
            TVector x2 = TWidth.Broadcast(p0 + (2 * r)); c2 = TWidth.MultiplyAdd(x2, b0, c2); d2 = TWidth.MultiplyAdd(x2, b1, d2);
            TVector x3 = TWidth.Broadcast(p1); c3 = TWidth.MultiplyAdd(x3, b0, c3); d3 = TWidth.MultiplyAdd(x3, b1, d3);
            TVector x4 = TWidth.Broadcast(p1 + r); c4 = TWidth.MultiplyAdd(x4, b0, c4); d4 = TWidth.MultiplyAdd(x4, b1, d4);
            p0 += sizeof(float); p1 += sizeof(float); b += ldb;
            Prefetch(ref ahead);
        }
        while (--k > 0);
        TWidth.Store(c0, c); TWidth.Store(d0, c + TWidth.Count); c += ldc;
        TWidth.Store(c1, c); TWidth.Store(d1, c + TWidth.Count); c += ldc;
        TWidth.Store(c2, c); TWidth.Store(d2, c + TWidth.Count); c += ldc;
        TWidth.Store(c3, c); TWidth.Store(d3, c + TWidth.Count); c += ldc;
        TWidth.Store(c4, c); TWidth.Store(d4, c + TWidth.Count);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Rows4<TWidth, TVector>(float* a, nint lda, float* b, nint ldb, nint k, float* c, nint ldc, float* start, byte* ahead)
        where TWidth : struct, ITileWidth<TVector> where TVector : unmanaged
    {
        TVector s0 = TWidth.Load(start), s1 = TWidth.Load(start + TWidth.Count);
        TVector c0 = s0, d0 = s1, c1 = s0, d1 = s1, c2 = s0, d2 = s1, c3 = s0, d3 = s1;
        nint r = lda * sizeof(float);
        byte* p0 = (byte*)a, p1 = p0 + (3 * r);
        do
        {
            TVector b0 = TWidth.Load(b), b1 = TWidth.Load(b + TWidth.Count);
            TVector x0 = TWidth.Broadcast(p0); c0 = TWidth.MultiplyAdd(x0, b0, c0); d0 = TWidth.MultiplyAdd(x0, b1, d0);
            TVector x1 = TWidth.Broadcast(p0 + r); c1 = TWidth.MultiplyAdd(x1, b0, c1); d1 = TWidth.MultiplyAdd(x1, b1, d1);
            TVector x2 = TWidth.Broadcast(p0 + (2 * r)); c2 = TWidth.MultiplyAdd(x2, b0, c2); d2 = TWidth.MultiplyAdd(x2, b1, d2);
            TVector x3 = TWidth.Broadcast(p1); c3 = TWidth.MultiplyAdd(x3, b0, c3); d3 = TWidth.MultiplyAdd(x3, b1, d3);
            p0 += sizeof(float); p1 += sizeof(float); b += ldb;
            Prefetch(ref ahead);
        }
        while (--k > 0);
        TWidth.Store(c0, c); TWidth.Store(d0, c + TWidth.Count); c += ldc;
        TWidth.Store(c1, c); TWidth.Store(d1, c + TWidth.Count); c += ldc;
        TWidth.Store(c2, c); TWidth.Store(d2, c + TWidth.Count); c += ldc;
        TWidth.Store(c3, c); TWidth.Store(d3, c + TWidth.Count);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Rows3<TWidth, TVector>(float* a, nint lda, float* b, nint ldb, nint k, float* c, nint ldc, float* start, byte* ahead)
        where TWidth : struct, ITileWidth<TVector> where TVector : unmanaged
    {
        TVector s0 = TWidth.Load(start), s1 = TWidth.Load(start + TWidth.Count);
        TVector c0 = s0, d0 = s1, c1 = s0, d1 = s1, c2 = s0, d2 = s1;
        nint r = lda * sizeof(float);
        byte* p0 = (byte*)a;
        do
        {
            TVector b0 = TWidth.Load(b), b1 = TWidth.Load(b + TWidth.Count);
            TVector x0 = TWidth.Broadcast(p0); c0 = TWidth.MultiplyAdd(x0, b0, c0); d0 = TWidth.MultiplyAdd(x0, b1, d0);
            TVector x1 = TWidth.Broadcast(p0 + r); c1 = TWidth.MultiplyAdd(x1, b0, c1); d1 = TWidth.MultiplyAdd(x1, b1, d1);
            TVector x2 = TWidth.Broadcast(p0 + (2 * r)); c2 = TWidth.MultiplyAdd(x2, b0, c2); d2 = TWidth.MultiplyAdd(x2, b1, d2);
            p0 += sizeof(float); b += ldb;
            Prefetch(ref ahead);
        }
        while (--k > 0);
        TWidth.Store(c0, c); TWidth.Store(d0, c + TWidth.Count); c += ldc;
        TWidth.Store(c1, c); TWidth.Store(d1, c + TWidth.Count); c += ldc;
        TWidth.Store(c2, c); TWidth.Store(d2, c + TWidth.Count);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Rows2<TWidth, TVector>(float* a, nint lda, float* b, nint ldb, nint k, float* c, nint ldc, float* start, byte* ahead)
        where TWidth : struct, ITileWidth<TVector> where TVector : unmanaged
    {
        TVector s0 = TWidth.Load(start), s1 = TWidth.Load(start + TWidth.Count);
        TVector c0 = s0, d0 = s1, c1 = s0, d1 = s1;
        nint r = lda * sizeof(float);
        byte* p0 = (byte*)a;
        do
        {
            TVector b0 = TWidth.Load(b), b1 = TWidth.Load(b + TWidth.Count);
            TVector x0 = TWidth.Broadcast(p0); c0 = TWidth.MultiplyAdd(x0, b0, c0); d0 = TWidth.MultiplyAdd(x0, b1, d0);
            TVector x1 = TWidth.Broadcast(p0 + r); c1 = TWidth.MultiplyAdd(x1, b0, c1); d1 = TWidth.MultiplyAdd(x1, b1, d1);
            p0 += sizeof(float); b += ldb;
            Prefetch(ref ahead);
        }
        while (--k > 0);
        TWidth.Store(c0, c); TWidth.Store(d0, c + TWidth.Count); c += ldc;
        TWidth.Store(c1, c); TWidth.Store(d1, c + TWidth.Count);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Rows1<TWidth, TVector>(float* a, nint lda, float* b, nint ldb, nint k, float* c, nint ldc, float* start, byte* ahead)
        where TWidth : struct, ITileWidth<TVector> where TVector : unmanaged
    {
        TVector s0 = TWidth.Load(start), s1 = TWidth.Load(start + TWidth.Count);
        TVector c0 = s0, d0 = s1;
        byte* p0 = (byte*)a;
        do
        {
            TVector b0 = TWidth.Load(b), b1 = TWidth.Load(b + TWidth.Count);
            TVector x0 = TWidth.Broadcast(p0); c0 = TWidth.MultiplyAdd(x0, b0, c0); d0 = TWidth.MultiplyAdd(x0, b1, d0);
            p0 += sizeof(float); b += ldb;
            Prefetch(ref ahead);
        }
        while (--k > 0);
        TWidth.Store(c0, c); TWidth.Store(d0, c + TWidth.Count);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Prefetch(ref byte* ahead)
    {
        if (!Sse.IsSupported) return;
        Sse.Prefetch1(ahead);
        ahead += 64;
    }
}
