using BgeMetal.Kernels.Runtime;

namespace BgeMetal.Kernels.Cuda;

/// <summary>The families of attention kernels.</summary>
internal enum AttentionFamily
{
    /// <summary>mma.sync, a warp by itself; binary32 in fused multiply-adds. Everything, everywhere.</summary>
    Warps,

    /// <summary>wgmma, four warps together: Hopper, half precision, heads of up to 64 columns, no mask.</summary>
    WarpGroups,

    /// <summary>The same, one block a sequence and head, where a block's rows are enough for the longest.</summary>
    ShortWarpGroups,
}

/// <summary>Which kernels compute an attention, and how many rows a block of them owns.</summary>
internal readonly record struct AttentionPlan(AttentionFamily Family, int Rows)
{
    /// <summary>For the output.</summary>
    public static AttentionPlan Forward<T>(KernelDevice device, AttentionShape shape, bool masked) where T : unmanaged, IElement =>
        !CanGroup<T>(device, shape, masked) ? new(AttentionFamily.Warps, AttentionTile.Rows)
        : shape.LongestQueries > Rows64.Count ? new(AttentionFamily.WarpGroups, Rows128.Count)
        : new(shape.LongestKeys > WarpGroupAttentionKernels.Columns ? AttentionFamily.WarpGroups : AttentionFamily.ShortWarpGroups, Rows64.Count);

    /// <summary>For the gradients.</summary>
    public static AttentionPlan Backward<T>(KernelDevice device, AttentionShape shape, bool masked) where T : unmanaged, IElement
    {
        if (!CanGroup<T>(device, shape, masked)) return new(AttentionFamily.Warps, AttentionTile.Rows);
        int longest = Math.Max(shape.LongestQueries, shape.LongestKeys);
        return longest <= Rows64.Count ? new(AttentionFamily.ShortWarpGroups, Rows64.Count)
            : longest <= Rows128.Count ? new(AttentionFamily.ShortWarpGroups, Rows128.Count)
            : new(AttentionFamily.WarpGroups, WarpGroupAttentionBackwardKernels.Rows);
    }

    /// <summary>Tiles of the longest sequence's rows.</summary>
    public int Tiles(int longest) => (longest + Rows - 1) / Rows;

    private static bool CanGroup<T>(KernelDevice device, AttentionShape shape, bool masked) where T : unmanaged, IElement =>
        device.HasWarpGroups && device.Products != ProductKernels.Mma && T.SizeShift == 1 && shape.HeadDim <= 64 && !masked;
}
