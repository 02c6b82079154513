using BgeMetal.Kernels.Primitives;

namespace BgeMetal.Kernels.Runtime;

/// <summary>
/// The tensor maps that the driver wrote for a GPU, by what they describe: memory comes from arenas, so that the same views return step after step, and a map
/// that is found again costs a look-up instead of a call. Full, it starts over. One thread at a time, as its device.
/// </summary>
internal sealed unsafe class TensorMaps(DriverApi api)
{
    private const int Capacity = 4096;
    private const int DataUInt16 = 1, NoInterleave = 0, Swizzle128Bytes = 3, PromoteTo256Bytes = 3, FillWithZeros = 0;

    private readonly Dictionary<TensorView, TensorMap> _maps = [];

    /// <summary>How often the driver was asked.</summary>
    public int Encoded { get; private set; }

    /// <summary>The map of a view.</summary>
    /// <exception cref="DeviceException">The driver refuses it.</exception>
    public TensorMap Of(in TensorView view)
    {
        if (_maps.TryGetValue(view, out TensorMap map)) return map;
        if (_maps.Count == Capacity) _maps.Clear();
        map = Encode(view);
        _maps.Add(view, map);
        Encoded++;
        return map;
    }

    private TensorMap Encode(in TensorView view)
    {
        // The engine asks for 64; cuda.h declares the type aligned to 128 since CUDA 13.
        const int alignment = 128;
        byte* space = stackalloc byte[TensorMap.SizeBytes + alignment];
        TensorMap* map = (TensorMap*)((long)(space + alignment - 1) & -alignment);
        ulong* sizes = stackalloc ulong[] { (ulong)view.Columns, (ulong)view.Rows };
        ulong* strides = stackalloc ulong[] { (ulong)view.StrideBytes };
        uint* box = stackalloc uint[] { TensorMap.BoxColumns, (uint)view.BoxRows };
        uint* steps = stackalloc uint[] { 1, 1 };
        api.Check(api.cuTensorMapEncodeTiled(map, DataUInt16, 2, view.Address, sizes, strides, box, steps, NoInterleave, Swizzle128Bytes, PromoteTo256Bytes, FillWithZeros),
            $"describe {view} to the copy engine");
        return *map;
    }
}
