namespace BgeMetal.Checkpoints;

/// <summary>
/// What the allowed callables of a PyTorch pickle do, as torch._utils and torch.serialization define them, with every number checked: a tensor's view
/// lies inside its storage, and one storage key always means the same type and size. <paramref name="bad"/> makes the error for a reason.
/// </summary>
internal sealed class TorchGlobals(Func<string, BgeMetalException> bad)
{
    private const int LargestRank = 16, MostCopied = 1_000_000;
    private readonly Dictionary<string, PickleStorage> _storages = new(StringComparer.Ordinal);
    private long _copied;

    /// <summary>callable(*arguments).</summary>
    internal object? Call(object? callable, object? arguments)
    {
        if (callable is not PickleGlobal global) throw bad("the pickle calls something that is not a function");
        object?[] items = (arguments as PickleTuple)?.Items ?? throw bad($"the arguments of {global.Name} are not a tuple");
        return global.Kind switch
        {
            PickleGlobalKind.OrderedDict => MakeDict(items),
            PickleGlobalKind.RebuildTensor => MakeTensor(items),
            PickleGlobalKind.RebuildParameter => items is [PickleTensor tensor, ..] ? tensor : throw bad("a parameter is made of something that is not a tensor"),
            PickleGlobalKind.Size => items is [PickleTuple size] ? size : throw bad("torch.Size is made of something that is not a tuple"),
            _ => throw bad($"the pickle calls {global.Name}, which is not a function"),
        };
    }

    /// <summary>BUILD: a state dict carries a <c>_metadata</c> attribute, which is of no use here; nothing else has a state.</summary>
    internal void CheckState(object? target, object? state)
    {
        if (target is not PickleDict || state is not PickleDict) throw bad("the pickle sets the state of something that is not an OrderedDict");
    }

    /// <summary>A persistent id: ('storage', type, key, location, number of elements).</summary>
    internal PickleStorage Load(object? id)
    {
        if (id is not PickleTuple { Items: ["storage", PickleGlobal { Kind: PickleGlobalKind.Storage } type, string key, _, long elements] })
            throw bad("a persistent id is not ('storage', type, key, location, number of elements)");
        if (elements < 0 || elements > long.MaxValue / 64) throw bad($"storage {CheckpointErrors.Quote(key)} has {elements} elements");
        PickleStorage storage = new(key, type.StorageType, elements);
        if (!_storages.TryGetValue(key, out PickleStorage? known)) _storages.Add(key, storage);
        else if (known != storage) throw bad($"storage {CheckpointErrors.Quote(key)} is {elements} {type.StorageType} here and {known.Elements} {known.StorageType} before");
        return storage;
    }

    private PickleDict MakeDict(object?[] items)
    {
        PickleDict dict = new();
        if (items.Length == 0) return dict;
        if (items is not [PickleList pairs]) throw bad("an OrderedDict is made of something that is not a list of pairs");
        _copied += pairs.Items.Count;
        if (_copied > MostCopied) throw bad($"the pickle copies more than {MostCopied} pairs into dicts");
        foreach (object? pair in pairs.Items)
            dict.Pairs.Add(pair switch
            {
                PickleTuple { Items: [object key, var value] } => new(key, value),
                PickleList { Items: [object key, var value] } => new(key, value),
                _ => throw bad("an OrderedDict is made of something that is not a list of pairs"),
            });
        return dict;
    }

    private PickleTensor MakeTensor(object?[] items)
    {
        if (items is not [PickleStorage storage, long offset, PickleTuple sizes, PickleTuple steps, ..])
            throw bad("a tensor is not made of (storage, offset, size, stride, ..)");
        if (sizes.Items.Length != steps.Items.Length || sizes.Items.Length > LargestRank)
            throw bad($"a tensor has {sizes.Items.Length} sizes and {steps.Items.Length} strides, expected as many of each and at most {LargestRank}");
        long[] shape = Numbers(sizes, "size"), strides = Numbers(steps, "stride");
        long elements = TensorEntry.CountElements(shape);
        if (elements < 0 || elements > long.MaxValue / 64) throw bad($"the tensor's size {CheckpointErrors.Show(shape)} has a negative extent or overflows");
        if (offset < 0 || offset > storage.Elements) throw bad($"the tensor's offset {offset} lies outside of storage {CheckpointErrors.Quote(storage.Key)} with {storage.Elements} elements");
        CheckStrides(storage, offset, shape, strides, elements);
        return new PickleTensor(storage, offset, shape, strides, elements);
    }

    private void CheckStrides(PickleStorage storage, long offset, long[] shape, long[] strides, long elements)
    {
        if (strides.Any(stride => stride < 0)) throw bad($"the tensor's stride {CheckpointErrors.Show(strides)} is negative");
        if (elements == 0) return;
        Int128 last = offset;
        for (int i = 0; i < shape.Length; i++) last += (Int128)(shape[i] - 1) * strides[i];
        if (last >= storage.Elements)
            throw bad($"the tensor's last element, with offset {offset}, size {CheckpointErrors.Show(shape)} and stride {CheckpointErrors.Show(strides)}, "
                + $"lies at {last} in storage {CheckpointErrors.Quote(storage.Key)} with {storage.Elements} elements");
    }

    private long[] Numbers(PickleTuple tuple, string what)
    {
        long[] numbers = new long[tuple.Items.Length];
        for (int i = 0; i < numbers.Length; i++) numbers[i] = tuple.Items[i] is long number ? number : throw bad($"a tensor's {what} holds something that is not an integer");
        return numbers;
    }
}
