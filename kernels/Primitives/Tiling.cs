namespace BgeMetal.Kernels.Primitives;

/// <summary>How a block of threads divides a matrix product: compile-time constants.</summary>
internal interface ITile
{
    /// <summary>Rows of the output tile of a block.</summary>
    static abstract int BlockM { get; }

    /// <summary>Columns of the output tile of a block.</summary>
    static abstract int BlockN { get; }

    /// <summary>Depth of one pipeline stage.</summary>
    static abstract int BlockK { get; }

    /// <summary>Rows of a warp's share of the tile.</summary>
    static abstract int WarpM { get; }

    /// <summary>Columns of a warp's share of the tile.</summary>
    static abstract int WarpN { get; }

    /// <summary>Binary logarithm of the number of warps side by side.</summary>
    static abstract int WarpColumnsShift { get; }

    /// <summary>Threads of a block.</summary>
    static abstract int Threads { get; }

    /// <summary>Stages of the copy pipeline.</summary>
    static abstract int Stages { get; }
}

/// <summary>
/// Which dimension of each operand is contiguous in memory. A is [M, K] when <see cref="AkContiguous"/>, else it is stored [K, M]; B is stored
/// [N, K] when <see cref="BkContiguous"/>, else [K, N].
/// </summary>
internal interface IForm
{
    /// <summary>True when A is stored [M, K].</summary>
    static abstract bool AkContiguous { get; }

    /// <summary>True when B is stored [N, K].</summary>
    static abstract bool BkContiguous { get; }
}

/// <summary>C = A B^T, both operands contiguous in K: a linear layer's forward pass.</summary>
internal readonly struct Nt : IForm
{
    /// <inheritdoc/>
    public static bool AkContiguous => true;

    /// <inheritdoc/>
    public static bool BkContiguous => true;
}

/// <summary>C = A B: a linear layer's input gradient.</summary>
internal readonly struct Nn : IForm
{
    /// <inheritdoc/>
    public static bool AkContiguous => true;

    /// <inheritdoc/>
    public static bool BkContiguous => false;
}

/// <summary>C = A^T B: a linear layer's weight gradient.</summary>
internal readonly struct Tn : IForm
{
    /// <inheritdoc/>
    public static bool AkContiguous => false;

    /// <inheritdoc/>
    public static bool BkContiguous => false;
}
