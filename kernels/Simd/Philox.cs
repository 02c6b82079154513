using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace BgeMetal.Kernels.Simd;

/// <summary>
/// Philox4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011): four random words from a 128-bit counter and a
/// 64-bit key, with no state. A 32-bit word sits in the low half of a 64-bit lane, because the widening multiplication reads nothing else, so the high
/// halves may hold anything until the end. Two registers of counters go through the rounds side by side: a round waits for its multiplications.
/// </summary>
internal static unsafe class Philox
{
    /// <summary>Counters of one <see cref="Sixteen"/>.</summary>
    public const int Count = 16;

    private const uint Multiplier0 = 0xD2511F53, Multiplier1 = 0xCD9E8D57, Weyl0 = 0x9E3779B9, Weyl1 = 0xBB67AE85;
    private const int Rounds = 10;

    /// <summary>
    /// words[16 w + i] = word w of the counter (x + i * stepX, y + i * stepY, z, w) under <paramref name="key"/> (low half first), for w &lt; 4 and
    /// i &lt; 16, in the low half, the high half 0.
    /// </summary>
    public static void Sixteen(uint x, uint stepX, uint y, uint stepY, uint z, uint w, ulong key, ulong* words)
    {
        switch (VectorUnit.Width)
        {
            case VectorWidth.Bits512:
                Generate<Words512, Vector512<ulong>>(x, stepX, y, stepY, z, w, key, words);
                break;
            case VectorWidth.Bits256:
                for (uint i = 0; i < Count; i += 8)
                    Generate<Words256, Vector256<ulong>>(x + (i * stepX), stepX, y + (i * stepY), stepY, z, w, key, words + i);
                break;
            default:
                for (uint i = 0; i < Count; i += 4)
                    Generate<Words128, Vector128<ulong>>(x + (i * stepX), stepX, y + (i * stepY), stepY, z, w, key, words + i);
                break;
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Generate<TOperations, T>(uint x, uint stepX, uint y, uint stepY, uint z, uint w, ulong key, ulong* words)
        where TOperations : struct, IWords<T> where T : unmanaged
    {
        T x0 = TOperations.Series(x, stepX), x1 = TOperations.Series(x + ((uint)TOperations.Count * stepX), stepX);
        T y0 = TOperations.Series(y, stepY), y1 = TOperations.Series(y + ((uint)TOperations.Count * stepY), stepY);
        T z0 = TOperations.Create(z), z1 = z0, w0 = TOperations.Create(w), w1 = w0;
        T multiplier0 = TOperations.Create(Multiplier0), multiplier1 = TOperations.Create(Multiplier1);
        uint key0 = (uint)key, key1 = (uint)(key >> 32);
        for (int round = 0; round < Rounds; round++)
        {
            T k0 = TOperations.Create(key0), k1 = TOperations.Create(key1);
            T first0 = TOperations.Multiply(x0, multiplier0), first1 = TOperations.Multiply(x1, multiplier0);
            T second0 = TOperations.Multiply(z0, multiplier1), second1 = TOperations.Multiply(z1, multiplier1);
            x0 = TOperations.Xor(TOperations.High(second0), y0, k0);
            x1 = TOperations.Xor(TOperations.High(second1), y1, k0);
            z0 = TOperations.Xor(TOperations.High(first0), w0, k1);
            z1 = TOperations.Xor(TOperations.High(first1), w1, k1);
            (y0, y1, w0, w1) = (second0, second1, first0, first1);
            key0 += Weyl0;
            key1 += Weyl1;
        }
        Keep(x0, x1, words);
        Keep(y0, y1, words + Count);
        Keep(z0, z1, words + (2 * Count));
        Keep(w0, w1, words + (3 * Count));

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        static void Keep(T a, T b, ulong* destination)
        {
            TOperations.StoreLow(a, destination);
            TOperations.StoreLow(b, destination + TOperations.Count);
        }
    }

    /// <summary>64-bit lanes of one register width.</summary>
    private interface IWords<T> where T : unmanaged
    {
        /// <summary>Lanes.</summary>
        static abstract int Count { get; }

        /// <summary>first, first + step, first + 2 step, ...; high halves undefined.</summary>
        static abstract T Series(uint first, uint step);

        static abstract T Create(uint value);

        /// <summary>The 64-bit product of the low halves.</summary>
        static abstract T Multiply(T a, T b);

        /// <summary>a xor b xor c.</summary>
        static abstract T Xor(T a, T b, T c);

        /// <summary>The high half, moved down.</summary>
        static abstract T High(T a);

        static abstract void StoreLow(T a, ulong* destination);
    }

    /// <summary>Eight lanes.</summary>
    private readonly struct Words512 : IWords<Vector512<ulong>>
    {
        public static int Count => 8;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<ulong> Series(uint first, uint step) => Create(first) + Multiply(Vector512<ulong>.Indices, Create(step));

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<ulong> Create(uint value) => Vector512.Create((ulong)value);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<ulong> Multiply(Vector512<ulong> a, Vector512<ulong> b) => Avx512F.Multiply(a.AsUInt32(), b.AsUInt32());

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<ulong> Xor(Vector512<ulong> a, Vector512<ulong> b, Vector512<ulong> c) => a ^ b ^ c;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<ulong> High(Vector512<ulong> a) => a >>> 32;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static void StoreLow(Vector512<ulong> a, ulong* destination) => (a & Vector512.Create((ulong)uint.MaxValue)).Store(destination);
    }

    /// <summary>Four lanes.</summary>
    private readonly struct Words256 : IWords<Vector256<ulong>>
    {
        public static int Count => 4;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector256<ulong> Series(uint first, uint step) => Create(first) + Multiply(Vector256<ulong>.Indices, Create(step));

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector256<ulong> Create(uint value) => Vector256.Create((ulong)value);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector256<ulong> Multiply(Vector256<ulong> a, Vector256<ulong> b) => Avx2.Multiply(a.AsUInt32(), b.AsUInt32());

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector256<ulong> Xor(Vector256<ulong> a, Vector256<ulong> b, Vector256<ulong> c) => a ^ b ^ c;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector256<ulong> High(Vector256<ulong> a) => a >>> 32;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static void StoreLow(Vector256<ulong> a, ulong* destination) => (a & Vector256.Create((ulong)uint.MaxValue)).Store(destination);
    }

    /// <summary>Two lanes, on any machine.</summary>
    private readonly struct Words128 : IWords<Vector128<ulong>>
    {
        public static int Count => 2;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector128<ulong> Series(uint first, uint step) => Create(first) + Multiply(Vector128<ulong>.Indices, Create(step));

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector128<ulong> Create(uint value) => Vector128.Create((ulong)value);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector128<ulong> Multiply(Vector128<ulong> a, Vector128<ulong> b) => Sse2.IsSupported
            ? Sse2.Multiply(a.AsUInt32(), b.AsUInt32())
            : Vector128.Create((ulong)(uint)a.GetElement(0) * (uint)b.GetElement(0), (ulong)(uint)a.GetElement(1) * (uint)b.GetElement(1));

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector128<ulong> Xor(Vector128<ulong> a, Vector128<ulong> b, Vector128<ulong> c) => a ^ b ^ c;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector128<ulong> High(Vector128<ulong> a) => a >>> 32;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static void StoreLow(Vector128<ulong> a, ulong* destination) => (a & Vector128.Create((ulong)uint.MaxValue)).Store(destination);
    }
}
