namespace BgeMetal.Kernels.Runtime;

/// <summary>The kernels that can compute a matrix product on Hopper. All may be chosen, unless they are to be compared or one of them is to be kept out; where only mma.sync is left, attention takes it too.</summary>
[Flags]
internal enum ProductKernels
{
    /// <summary>mma.sync.</summary>
    Mma = 1,

    /// <summary>wgmma, tiles of 128 x 128.</summary>
    Tile128 = 2,

    /// <summary>wgmma, tiles of 128 x 256.</summary>
    Tile256 = 4,

    /// <summary>wgmma, tiles of 128 x 128 by pairs of blocks that share an operand.</summary>
    Pair128 = 8,

    /// <summary>Whichever is predicted to be fastest.</summary>
    All = Mma | Tile128 | Tile256 | Pair128,
}

/// <summary>The words for <see cref="ProductKernels"/> in reports and in the environment.</summary>
internal static class ProductKernelNames
{
    /// <summary>The variable that keeps kernels out: it lists those that may be chosen.</summary>
    public const string Variable = "BGEMETAL_PRODUCTS";

    /// <summary>Each kernel by its word.</summary>
    public static IReadOnlyList<(string Name, ProductKernels Kernel)> All { get; } =
        [("mma", ProductKernels.Mma), ("128", ProductKernels.Tile128), ("256", ProductKernels.Tile256), ("pair", ProductKernels.Pair128)];

    /// <summary>The kernels that <paramref name="words"/> lists, separated by commas; all where it is null or empty.</summary>
    /// <exception cref="DeviceException">It names something else.</exception>
    public static ProductKernels Parse(string? words)
    {
        if (string.IsNullOrWhiteSpace(words)) return ProductKernels.All;
        ProductKernels kernels = 0;
        foreach (string word in words.Split(',', StringSplitOptions.TrimEntries))
            kernels |= All.FirstOrDefault(entry => entry.Name == word) is { Name: not null } found ? found.Kernel
                : throw new DeviceException($"{Variable}={words}: '{word}' is none of {string.Join(", ", All.Select(entry => entry.Name))}");
        return kernels;
    }
}
