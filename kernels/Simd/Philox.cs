using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace BgeMetal.Kernels.Simd;

/// <summary>
/// Philox4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011): four random words from a 128-bit counter and a
/// 64-bit key, with no state. Eight counters at a time; a 32-bit word sits in the low half of a 64-bit lane, because the widening multiplication reads
/// nothing else, so the high halves may hold anything until the end.
/// </summary>
internal static unsafe class Philox
{
    /// <summary>Counters of one <see cref="Eight"/>.</summary>
    public const int Count = 8;

    private const uint Multiplier0 = 0xD2511F53, Multiplier1 = 0xCD9E8D57, Weyl0 = 0x9E3779B9, Weyl1 = 0xBB67AE85;
    private const int Rounds = 10;

    /// <summary>
    /// words[8 w + i] = word w of the counter (x + i * stepX, y + i * stepY, z, w) under <paramref name="key"/> (low half first), for w &lt; 4 and i &lt; 8,
    /// in the low half, the high half 0.
    /// </summary>
    public static void Eight(uint x, uint stepX, uint y, uint stepY, uint z, uint w, ulong key, ulong* words)
    {
        switch (VectorUnit.Width)
        {
            case VectorWidth.Bits512:
                Generate<Words512, Vector512<ulong>>(x, stepX, y, stepY, z, w, key, words);
                break;
            case VectorWidth.Bits256:
                for (uint i = 0; i < Count; i += 4)
                    Generate<Words256, Vector256<ulong>>(x + (i * stepX), stepX, y + (i * stepY), stepY, z, w, key, words + i);
                break;
            default:
                for (uint i = 0; i < Count; i += 2)
                    Generate<Words128, Vector128<ulong>>(x + (i * stepX), stepX, y + (i * stepY), stepY, z, w, key, words + i);
                break;
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization), SkipLocalsInit]
    private static void Generate<TOperations, T>(uint x0, uint stepX, uint y0, uint stepY, uint z0, uint w0, ulong key, ulong* words)
        where TOperations : struct, IWords<T> where T : unmanaged
    {
        ulong* block = stackalloc ulong[2 * Count];
        for (uint i = 0; i < Count; i++)
        {
            block[i] = x0 + (i * stepX);
            block[Count + i] = y0 + (i * stepY);
        }
        T x = TOperations.Load(block), y = TOperations.Load(block + Count), z = TOperations.Create(z0), w = TOperations.Create(w0);
        T m0 = TOperations.Create(Multiplier0), m1 = TOperations.Create(Multiplier1);
        uint key0 = (uint)key, key1 = (uint)(key >> 32);
        for (int round = 0; round < Rounds; round++)
        {
            T first = TOperations.Multiply(x, m0), second = TOperations.Multiply(z, m1);
            x = TOperations.Xor(TOperations.Xor(TOperations.High(second), y), TOperations.Create(key0));
            y = second;
            z = TOperations.Xor(TOperations.Xor(TOperations.High(first), w), TOperations.Create(key1));
            w = first;
            key0 += Weyl0;
            key1 += Weyl1;
        }
        TOperations.StoreLow(x, words);
        TOperations.StoreLow(y, words + Count);
        TOperations.StoreLow(z, words + (2 * Count));
        TOperations.StoreLow(w, words + (3 * Count));
    }

    /// <summary>64-bit lanes of one register width.</summary>
    private interface IWords<T> where T : unmanaged
    {
        static abstract T Load(ulong* source);

        static abstract T Create(uint value);

        /// <summary>The 64-bit product of the low halves.</summary>
        static abstract T Multiply(T a, T b);

        static abstract T Xor(T a, T b);

        /// <summary>The high half, moved down.</summary>
        static abstract T High(T a);

        static abstract void StoreLow(T a, ulong* destination);
    }

    /// <summary>Eight lanes.</summary>
    private readonly struct Words512 : IWords<Vector512<ulong>>
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<ulong> Load(ulong* source) => Vector512.Load(source);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<ulong> Create(uint value) => Vector512.Create((ulong)value);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<ulong> Multiply(Vector512<ulong> a, Vector512<ulong> b) => Avx512F.Multiply(a.AsUInt32(), b.AsUInt32());

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<ulong> Xor(Vector512<ulong> a, Vector512<ulong> b) => a ^ b;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<ulong> High(Vector512<ulong> a) => a >>> 32;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static void StoreLow(Vector512<ulong> a, ulong* destination) => (a & Vector512.Create((ulong)uint.MaxValue)).Store(destination);
    }

    /// <summary>Four lanes.</summary>
    private readonly struct Words256 : IWords<Vector256<ulong>>
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector256<ulong> Load(ulong* source) => Vector256.Load(source);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector256<ulong> Create(uint value) => Vector256.Create((ulong)value);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector256<ulong> Multiply(Vector256<ulong> a, Vector256<ulong> b) => Avx2.Multiply(a.AsUInt32(), b.AsUInt32());

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector256<ulong> Xor(Vector256<ulong> a, Vector256<ulong> b) => a ^ b;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector256<ulong> High(Vector256<ulong> a) => a >>> 32;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static void StoreLow(Vector256<ulong> a, ulong* destination) => (a & Vector256.Create((ulong)uint.MaxValue)).Store(destination);
    }

    /// <summary>Two lanes, on any machine.</summary>
    private readonly struct Words128 : IWords<Vector128<ulong>>
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector128<ulong> Load(ulong* source) => Vector128.Load(source);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector128<ulong> Create(uint value) => Vector128.Create((ulong)value);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector128<ulong> Multiply(Vector128<ulong> a, Vector128<ulong> b) => Sse2.IsSupported
            ? Sse2.Multiply(a.AsUInt32(), b.AsUInt32())
            : Vector128.Create((ulong)(uint)a.GetElement(0) * (uint)b.GetElement(0), (ulong)(uint)a.GetElement(1) * (uint)b.GetElement(1));

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector128<ulong> Xor(Vector128<ulong> a, Vector128<ulong> b) => a ^ b;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector128<ulong> High(Vector128<ulong> a) => a >>> 32;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static void StoreLow(Vector128<ulong> a, ulong* destination) => (a & Vector128.Create((ulong)uint.MaxValue)).Store(destination);
    }
}
