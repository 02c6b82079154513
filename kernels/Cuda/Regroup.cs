using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;
using ILGPU;

namespace BgeMetal.Kernels.Cuda;

/// <summary>A column of scores [B * G, 1], whose rows may lie apart, as groups [B, G], and back.</summary>
public static class Regroup
{
    /// <summary>groups[b, g] = scores[b * G + g, 0].</summary>
    /// <exception cref="ArgumentException">A size is not positive.</exception>
    public static void Forward<T>(KernelDevice device, DeviceMatrix<T> scores, int groupCount, int groupSize, DeviceMatrix<T> groups) where T : unmanaged, IElement =>
        Launch(device, RegroupKernels.Forward, scores, groups, groupCount, groupSize, accumulate: false);

    /// <summary>dscores[b * G + g, 0] = dgroups[b, g], or += with <paramref name="accumulate"/>.</summary>
    /// <exception cref="ArgumentException">A size is not positive.</exception>
    public static void Backward<T>(KernelDevice device, DeviceMatrix<T> dgroups, int groupCount, int groupSize, DeviceMatrix<T> dscores, bool accumulate)
        where T : unmanaged, IElement => Launch(device, RegroupKernels.Backward, dscores, dgroups, groupCount, groupSize, accumulate);

    private static void Launch<T>(KernelDevice device, Action<RegroupArguments<T>> kernel, DeviceMatrix<T> scores, DeviceMatrix<T> groups, int groupCount,
        int groupSize, bool accumulate) where T : unmanaged, IElement
    {
        ArgumentNullException.ThrowIfNull(device);
        if (groupCount <= 0 || groupSize <= 0) throw new ArgumentException($"sizes must be positive: {groupCount} groups of {groupSize}", nameof(groupCount));
        device.Launch(kernel, new GridSize(groupCount, (groupSize + 31) / 32),
            new RegroupArguments<T> { Scores = scores, Groups = groups, GroupSize = groupSize, Accumulate = accumulate ? 1 : 0 });
    }
}

/// <summary>Arguments of both kernels.</summary>
internal struct RegroupArguments<T> where T : unmanaged, IElement
{
    /// <summary>[B * G, 1] and [B, G].</summary>
    public DeviceMatrix<T> Scores, Groups;

    /// <summary>G.</summary>
    public int GroupSize;

    /// <summary>Nonzero to add instead of storing.</summary>
    public int Accumulate;
}

/// <summary>A warp a group: there is one number a text, so bandwidth does not matter here.</summary>
internal static class RegroupKernels
{
    [CudaKernel("Regroup", KernelDirection.Forward, 32)]
    public static void Forward<T>(RegroupArguments<T> arguments) where T : unmanaged, IElement
    {
        int member = Grid.IdxY * 32 + Group.IdxX;
        if (member < arguments.GroupSize)
            arguments.Groups.Store(Grid.IdxX, member, arguments.Scores.Load(Grid.IdxX * arguments.GroupSize + member, 0));
    }

    [CudaKernel("Regroup", KernelDirection.Backward, 32)]
    public static void Backward<T>(RegroupArguments<T> arguments) where T : unmanaged, IElement
    {
        int member = Grid.IdxY * 32 + Group.IdxX, row = Grid.IdxX * arguments.GroupSize + member;
        if (member >= arguments.GroupSize) return;
        float value = arguments.Groups.Load(Grid.IdxX, member);
        arguments.Scores.Store(row, 0, arguments.Accumulate != 0 ? value + arguments.Scores.Load(row, 0) : value);
    }
}
