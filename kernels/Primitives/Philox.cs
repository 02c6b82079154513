using ILGPU.Backends.PTX;
using ILGPU.IR.Intrinsics;
using IrValue = ILGPU.IR.Value;

namespace BgeMetal.Kernels.Primitives;

/// <summary>Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011): four random words from a counter and a key, with no state.</summary>
internal static class Philox
{
    /// <summary>Four independent words.</summary>
    public struct Words
    {
        /// <summary>A word.</summary>
        public uint X, Y, Z, W;
    }

    /// <summary>The words of counter (<paramref name="position"/>, <paramref name="stream"/>) under <paramref name="seed"/>.</summary>
    public static Words Generate(ulong position, ulong stream, ulong seed)
    {
        uint x = (uint)position, y = (uint)(position >> 32), z = (uint)stream, w = (uint)(stream >> 32);
        uint key0 = (uint)seed, key1 = (uint)(seed >> 32);
        for (int round = 0; round < 10; round++)
        {
            ulong first = Product(x, 0xD2511F53u), second = Product(z, 0xCD9E8D57u);
            x = (uint)(second >> 32) ^ y ^ key0;
            y = (uint)second;
            z = (uint)(first >> 32) ^ w ^ key1;
            w = (uint)first;
            key0 += 0x9E3779B9u;
            key1 += 0xBB67AE85u;
        }
        return new Words { X = x, Y = y, Z = z, W = w };
    }

    /// <summary>All 64 bits of a product. ILGPU multiplies as 64-bit integers, for which ptxas 12.4 adds a zero to the upper half: a quarter of a draw's instructions.</summary>
    [IntrinsicImplementation]
    public static ulong Product(uint x, uint y) => (ulong)x * y;

    private static class Ptx
    {
        public static void Product(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            string x = call.Operand(0), y = call.Operand(1);
            call.Emit($"\tmul.wide.u32 {call.Result()}, {x}, {y};");
        }
    }
}
