namespace BgeMetal.Kernels.Primitives;

/// <summary>
/// Which elements of a [rows, columns] matrix are dropped, regenerated wherever it is needed instead of stored: element e = row * columns + column is kept
/// when word e % 4 of Philox at counter (e / 4, stream) under the seed is below (1 - p) 2^32, and is then multiplied with 1 / (1 - p).
/// </summary>
public readonly struct DropoutMask
{
    private readonly DevicePointer<int> _seed;
    private readonly uint _keepBelow;
    private readonly int _stream;
    private readonly float _scale;

    /// <summary>
    /// Drops with <paramref name="probability"/>; <paramref name="seed"/> points at two integers on the device, so that a captured graph can change it
    /// from step to step, and <paramref name="stream"/> tells the places of one step apart.
    /// </summary>
    /// <exception cref="ArgumentOutOfRangeException">The probability is not in [0, 1).</exception>
    public DropoutMask(float probability, DevicePointer<int> seed, int stream)
    {
        if (!(probability >= 0 && probability < 1)) throw new ArgumentOutOfRangeException(nameof(probability), probability, "must be in [0, 1)");
        _seed = seed;
        _stream = stream;
        _keepBelow = (uint)Math.Min(uint.MaxValue, (1.0 - probability) * 4294967296.0);
        _scale = 1 / (1 - probability);
    }

    /// <summary>False for the default value, which drops nothing.</summary>
    public bool IsOn => _scale != 0;

    /// <summary>The factor of one element: 0 or 1 / (1 - p).</summary>
    internal float Factor(long element)
    {
        Philox.Words words = Generate(element);
        int word = (int)element & 3;
        uint value = word == 0 ? words.X : word == 1 ? words.Y : word == 2 ? words.Z : words.W;
        return value < _keepBelow ? _scale : 0f;
    }

    /// <summary>The factors of eight elements from <paramref name="element"/>, a multiple of 8, on.</summary>
    internal Float8 Factors8(long element)
    {
        Philox.Words first = Generate(element), second = Generate(element + 4);
        return new()
        {
            A = first.X < _keepBelow ? _scale : 0f,
            B = first.Y < _keepBelow ? _scale : 0f,
            C = first.Z < _keepBelow ? _scale : 0f,
            D = first.W < _keepBelow ? _scale : 0f,
            E = second.X < _keepBelow ? _scale : 0f,
            F = second.Y < _keepBelow ? _scale : 0f,
            G = second.Z < _keepBelow ? _scale : 0f,
            H = second.W < _keepBelow ? _scale : 0f,
        };
    }

    private Philox.Words Generate(long element) =>
        Philox.Generate((ulong)element >> 2, (uint)_stream, (uint)_seed.Load(0) | ((ulong)(uint)_seed.Load(1) << 32));
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
