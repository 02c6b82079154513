namespace BgeMetal.Kernels.Primitives;

/// <summary>
/// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011): four random words from a counter and a key, with no state.
/// Plain C# on every device.
/// </summary>
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
            ulong first = (ulong)x * 0xD2511F53u, second = (ulong)z * 0xCD9E8D57u;
            x = (uint)(second >> 32) ^ y ^ key0;
            y = (uint)second;
            z = (uint)(first >> 32) ^ w ^ key1;
            w = (uint)first;
            key0 += 0x9E3779B9u;
            key1 += 0xBB67AE85u;
        }
        return new Words { X = x, Y = y, Z = z, W = w };
    }
}
