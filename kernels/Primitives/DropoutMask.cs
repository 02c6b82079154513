namespace BgeMetal.Kernels.Primitives;

/// <summary>
/// Which elements of a matrix are dropped, regenerated wherever it is needed instead of stored: element (row, column) is kept when word column % 4 of Philox at
/// counter (column / 4, firstRow + row, head, stream) under the seed is at least p 2^32, and is then multiplied with 1 / (1 - p). With stream 0 that is the
/// CPU backend's mask.
/// </summary>
public readonly struct DropoutMask
{
    private readonly DevicePointer<int> _seed;
    private readonly uint _threshold;
    private readonly int _stream;
    private readonly int _firstRow;
    private readonly float _scale;

    /// <summary>
    /// Drops with <paramref name="probability"/>; <paramref name="seed"/> points at two integers on the device, low half first, so that a captured graph can change it
    /// from step to step, and <paramref name="stream"/> tells the places of one step apart. Row 0 of what is dropped is row <paramref name="firstRow"/>
    /// of the whole mask: part of a batch then gets what the whole batch would give it.
    /// </summary>
    /// <exception cref="ArgumentOutOfRangeException">The probability is not in [0, 1).</exception>
    public DropoutMask(float probability, DevicePointer<int> seed, int stream, int firstRow = 0)
    {
        if (!(probability >= 0 && probability < 1)) throw new ArgumentOutOfRangeException(nameof(probability), probability, "must be in [0, 1)");
        _seed = seed;
        _stream = stream;
        _firstRow = firstRow;
        _threshold = (uint)Math.Min(Math.Round(probability * 4294967296.0), uint.MaxValue);
        _scale = (float)(1 / (1 - (double)probability));
    }

    /// <summary>False for the default value, which drops nothing.</summary>
    public bool IsOn => _scale != 0;

    /// <summary>What the kept elements are multiplied with.</summary>
    internal float Scale => _scale;

    /// <summary>The factor of one element: 0 or 1 / (1 - p).</summary>
    internal float Factor(int row, int column)
    {
        Philox.Words words = Generate(Seed(), row, 0, column >> 2);
        int word = column & 3;
        uint value = word == 0 ? words.X : word == 1 ? words.Y : word == 2 ? words.Z : words.W;
        return value >= _threshold ? _scale : 0f;
    }

    /// <summary>The factors of eight elements of a row from <paramref name="column"/>, a multiple of 8, on.</summary>
    internal Float8 Factors8(int row, int column)
    {
        ulong seed = Seed();
        Philox.Words first = Generate(seed, row, 0, column >> 2), second = Generate(seed, row, 0, (column >> 2) + 1);
        return new()
        {
            A = first.X >= _threshold ? _scale : 0f,
            B = first.Y >= _threshold ? _scale : 0f,
            C = first.Z >= _threshold ? _scale : 0f,
            D = first.W >= _threshold ? _scale : 0f,
            E = second.X >= _threshold ? _scale : 0f,
            F = second.Y >= _threshold ? _scale : 0f,
            G = second.Z >= _threshold ? _scale : 0f,
            H = second.W >= _threshold ? _scale : 0f,
        };
    }

    /// <summary>The seed's two halves as one number, to be read once for many calls of <see cref="Keep4"/>.</summary>
    internal ulong Seed() => (uint)_seed.Load(0) | ((ulong)(uint)_seed.Load(1) << 32);

    /// <summary>The same, known to the assembler as one number of the whole warp: Philox's keys are then computed once and not by every lane for every draw.</summary>
    internal ulong WarpSeed() => (uint)WarpShuffle.First(_seed.Load(0)) | ((ulong)(uint)WarpShuffle.First(_seed.Load(1)) << 32);

    /// <summary>Bit i is 1 when element (row, 4 * quad + i) of a head's mask is kept.</summary>
    internal uint Keep4(ulong seed, int row, int head, int quad)
    {
        Philox.Words words = Generate(seed, row, head, quad);
        return (words.X >= _threshold ? 1u : 0u) | (words.Y >= _threshold ? 2u : 0u) | (words.Z >= _threshold ? 4u : 0u) | (words.W >= _threshold ? 8u : 0u);
    }

    private Philox.Words Generate(ulong seed, int row, int head, int quad) =>
        Philox.Generate((uint)quad | ((ulong)(uint)(_firstRow + row) << 32), (uint)head | ((ulong)(uint)_stream << 32), seed);
}

/// <summary>A compile-time switch.</summary>
internal interface ISwitch
{
    /// <summary>Its position.</summary>
    static abstract bool IsOn { get; }
}

/// <summary>Off.</summary>
internal readonly struct Off : ISwitch
{
    public static bool IsOn => false;
}

/// <summary>With dropout.</summary>
internal readonly struct Dropped : ISwitch
{
    public static bool IsOn => true;
}

/// <summary>With a choice of visible keys for each query, where there is one.</summary>
internal readonly struct Masked : ISwitch
{
    public static bool IsOn => true;
}
