namespace BgeMetal.Checkpoints;

/// <summary>A Python tuple, or a torch.Size.</summary>
internal sealed class PickleTuple(object?[] items)
{
    internal object?[] Items { get; } = items;
}

/// <summary>A Python list.</summary>
internal sealed class PickleList
{
    internal List<object?> Items { get; } = [];
}

/// <summary>A Python dict or OrderedDict with its pairs in order; a key that appears twice stays twice.</summary>
internal sealed class PickleDict
{
    internal List<KeyValuePair<object?, object?>> Pairs { get; } = [];
}

/// <summary>The callables and types that a pickle may name.</summary>
internal enum PickleGlobalKind
{
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Size,
    Storage,
}

/// <summary>A global that a pickle named; for storages with the element type they hold.</summary>
internal sealed record PickleGlobal(PickleGlobalKind Kind, string Name, string StorageType = "")
{
    /// <summary>The global of that name, or null: everything that is not listed is refused.</summary>
    internal static PickleGlobal? Find(string module, string name) => $"{module}.{name}" switch
    {
        "collections.OrderedDict" => new(PickleGlobalKind.OrderedDict, "collections.OrderedDict"),
        "torch._utils._rebuild_tensor_v2" => new(PickleGlobalKind.RebuildTensor, "torch._utils._rebuild_tensor_v2"),
        "torch._utils._rebuild_parameter" => new(PickleGlobalKind.RebuildParameter, "torch._utils._rebuild_parameter"),
        "torch.Size" => new(PickleGlobalKind.Size, "torch.Size"),
        "torch.FloatStorage" => Storage(name, Checkpoints.StorageType.F32),
        "torch.HalfStorage" => Storage(name, Checkpoints.StorageType.F16),
        "torch.BFloat16Storage" => Storage(name, Checkpoints.StorageType.BF16),
        "torch.DoubleStorage" => Storage(name, Checkpoints.StorageType.F64),
        "torch.LongStorage" => Storage(name, Checkpoints.StorageType.I64),
        "torch.IntStorage" => Storage(name, Checkpoints.StorageType.I32),
        "torch.ShortStorage" => Storage(name, Checkpoints.StorageType.I16),
        "torch.CharStorage" => Storage(name, Checkpoints.StorageType.I8),
        "torch.ByteStorage" or "torch.storage.UntypedStorage" or "torch.storage.TypedStorage" => Storage(name, Checkpoints.StorageType.U8),
        "torch.BoolStorage" => Storage(name, Checkpoints.StorageType.Bool),
        _ => null,
    };

    private static PickleGlobal Storage(string name, string type) => new(PickleGlobalKind.Storage, name, type);
}

/// <summary>A storage that a pickle refers to: a zip member data/KEY with a number of elements.</summary>
internal sealed record PickleStorage(string Key, string StorageType, long Elements);

/// <summary>A view of a storage: element (i, j, ..) lies at Offset + i * Strides[0] + j * Strides[1] + .., in elements; all of them inside the storage.</summary>
internal sealed record PickleTensor(PickleStorage Storage, long Offset, long[] Shape, long[] Strides, long Elements)
{
    /// <summary>Whether the elements lie one after the other in row-major order.</summary>
    internal bool Contiguous
    {
        get
        {
            long expected = 1;
            for (int i = Shape.Length - 1; i >= 0; i--)
            {
                if (Shape[i] != 1 && Strides[i] != expected) return Elements == 0;
                expected *= Shape[i];
            }
            return true;
        }
    }

    /// <summary>The distance from the first element's index to the last's; 0 for an empty tensor.</summary>
    internal long Extent
    {
        get
        {
            long extent = 0;
            if (Elements > 0)
                for (int i = 0; i < Shape.Length; i++) extent += (Shape[i] - 1) * Strides[i];
            return extent;
        }
    }
}
