using System.Buffers.Binary;
using System.Text;

namespace BgeMetal.Checkpoints;

/// <summary>
/// A pickle machine that can build dicts, lists, tuples, numbers, texts and torch tensors and nothing else: it names no class and calls no function
/// outside of the list in <see cref="PickleGlobal"/>, so a file cannot make it run anything. Stack, memo, marks, number of operations and size of the
/// input are bounded, and no step recurses, so neither can it exhaust memory or the stack.
/// </summary>
internal sealed class PickleReader
{
    /// <summary>The largest pickle; a state dict of a thousand tensors needs a fifth of a mebibyte.</summary>
    internal const int LargestBytes = 16 << 20;

    private const int MostOperations = 2_000_000, MostItems = 1_000_000, MostMarks = 1_000;
    private readonly byte[] _bytes;
    private readonly string _file;
    private readonly List<object?> _stack = [];
    private readonly List<int> _marks = [];
    private readonly Dictionary<long, object?> _memo = [];
    private readonly TorchGlobals _torch;
    private int _at;
    private int _operation;

    private PickleReader(byte[] bytes, string file)
    {
        _bytes = bytes;
        _file = file;
        _torch = new TorchGlobals(why => Bad(why));
    }

    /// <summary>Runs a pickle and returns the object it builds.</summary>
    /// <exception cref="BgeMetalException">The pickle is malformed, too large, or wants something that is not allowed; the message has the byte offset.</exception>
    internal static object? Read(byte[] bytes, string file)
    {
        PickleReader reader = new(bytes, file);
        if (bytes.Length > LargestBytes) throw reader.Bad($"the pickle has {bytes.Length} bytes, more than the {LargestBytes} allowed");
        return reader.Run();
    }

    private object? Run()
    {
        for (int operations = 0; operations < MostOperations; operations++)
        {
            _operation = _at;
            PickleOpcode opcode = (PickleOpcode)Take(1)[0];
            if (opcode == PickleOpcode.Stop) return _stack.Count == 1 && _marks.Count == 0 ? _stack[0] : throw Bad($"the pickle ends with {_stack.Count} objects, expected 1");
            Execute(opcode);
            if (_stack.Count > MostItems || _memo.Count > MostItems) throw Bad($"the pickle keeps more than {MostItems} objects");
        }
        throw Bad($"the pickle has more than {MostOperations} operations");
    }

    private void Execute(PickleOpcode opcode)
    {
        switch (opcode)
        {
            case PickleOpcode.Proto: CheckProtocol(Take(1)[0]); break;
            case PickleOpcode.Frame: Take(8); break;
            case PickleOpcode.Mark: PushMark(); break;
            case PickleOpcode.Pop: Pop(); break;
            case PickleOpcode.PopMark: PopToMark(); break;
            case PickleOpcode.None: Push(null); break;
            case PickleOpcode.NewTrue: Push(true); break;
            case PickleOpcode.NewFalse: Push(false); break;
            case PickleOpcode.BinInt: Push((long)BinaryPrimitives.ReadInt32LittleEndian(Take(4))); break;
            case PickleOpcode.BinInt1: Push((long)Take(1)[0]); break;
            case PickleOpcode.BinInt2: Push((long)BinaryPrimitives.ReadUInt16LittleEndian(Take(2))); break;
            case PickleOpcode.Long1: Push(ReadLong(Take(1)[0])); break;
            case PickleOpcode.Long4: Push(ReadLong(BinaryPrimitives.ReadInt32LittleEndian(Take(4)))); break;
            case PickleOpcode.BinFloat: Push(BinaryPrimitives.ReadDoubleBigEndian(Take(8))); break;
            case PickleOpcode.ShortBinString: Push(Text(Take(1)[0])); break;
            case PickleOpcode.BinString: Push(Text(BinaryPrimitives.ReadInt32LittleEndian(Take(4)))); break;
            case PickleOpcode.ShortBinUnicode: Push(Text(Take(1)[0])); break;
            case PickleOpcode.BinUnicode: Push(Text(BinaryPrimitives.ReadUInt32LittleEndian(Take(4)))); break;
            case PickleOpcode.BinUnicode8: Push(Text(BinaryPrimitives.ReadInt64LittleEndian(Take(8)))); break;
            default: ExecuteObject(opcode); break;
        }
    }

    private void ExecuteObject(PickleOpcode opcode)
    {
        switch (opcode)
        {
            case PickleOpcode.EmptyTuple: Push(new PickleTuple([])); break;
            case PickleOpcode.Tuple1: PushTuple(1); break;
            case PickleOpcode.Tuple2: PushTuple(2); break;
            case PickleOpcode.Tuple3: PushTuple(3); break;
            case PickleOpcode.Tuple: Push(new PickleTuple(PopToMark())); break;
            case PickleOpcode.EmptyList: Push(new PickleList()); break;
            case PickleOpcode.EmptyDict: Push(new PickleDict()); break;
            case PickleOpcode.List: { object?[] items = PopToMark(); PickleList list = new(); list.Items.AddRange(items); Push(list); break; }
            case PickleOpcode.Dict: { object?[] items = PopToMark(); PickleDict dict = new(); AddPairs(dict, items); Push(dict); break; }
            case PickleOpcode.Append: { object? item = Pop(); Peek<PickleList>("a list").Items.Add(item); break; }
            case PickleOpcode.Appends: { object?[] items = PopToMark(); Peek<PickleList>("a list").Items.AddRange(items); break; }
            case PickleOpcode.SetItem: { object? value = Pop(), key = Pop(); AddPairs(Peek<PickleDict>("a dict"), [key, value]); break; }
            case PickleOpcode.SetItems: { object?[] items = PopToMark(); AddPairs(Peek<PickleDict>("a dict"), items); break; }
            case PickleOpcode.BinPut: Memoize(Take(1)[0]); break;
            case PickleOpcode.LongBinPut: Memoize(BinaryPrimitives.ReadUInt32LittleEndian(Take(4))); break;
            case PickleOpcode.Memoize: Memoize(_memo.Count); break;
            case PickleOpcode.BinGet: Recall(Take(1)[0]); break;
            case PickleOpcode.LongBinGet: Recall(BinaryPrimitives.ReadUInt32LittleEndian(Take(4))); break;
            case PickleOpcode.Global: { string module = Line(), name = Line(); Push(Find(module, name)); break; }
            case PickleOpcode.StackGlobal: PushStackGlobal(); break;
            case PickleOpcode.Reduce: { object? arguments = Pop(), callable = Pop(); Push(_torch.Call(callable, arguments)); break; }
            case PickleOpcode.Build: { object? state = Pop(); _torch.CheckState(Top(), state); break; }
            case PickleOpcode.BinPersId: Push(_torch.Load(Pop())); break;
            default: throw Bad($"{PickleOpcodes.Describe((byte)opcode)} is not allowed in a checkpoint");
        }
    }

    private void CheckProtocol(byte protocol)
    {
        if (protocol is < 2 or > 5) throw Bad($"pickle protocol {protocol}, expected 2 to 5");
    }

    private void PushMark()
    {
        if (_marks.Count == MostMarks) throw Bad($"the pickle nests more than {MostMarks} deep");
        _marks.Add(_stack.Count);
    }

    private void PushTuple(int count)
    {
        object?[] items = new object?[count];
        for (int i = count - 1; i >= 0; i--) items[i] = Pop();
        Push(new PickleTuple(items));
    }

    private void PushStackGlobal()
    {
        object? name = Pop(), module = Pop();
        Push(Find(module as string ?? throw Bad("a global's module is not a text"), name as string ?? throw Bad("a global's name is not a text")));
    }

    private PickleGlobal Find(string module, string name) => PickleGlobal.Find(module, name)
        ?? throw Bad($"the pickle names {CheckpointErrors.Quote($"{module}.{name}")}, which is not allowed: only tensors are read, nothing is called");

    private void AddPairs(PickleDict dict, object?[] items)
    {
        if (items.Length % 2 != 0) throw Bad("a dict gets a key without a value");
        for (int i = 0; i < items.Length; i += 2) dict.Pairs.Add(new(items[i], items[i + 1]));
    }

    private void Push(object? value) => _stack.Add(value);

    private object? Top() => _stack.Count > Floor ? _stack[^1] : throw Bad("the pickle takes an object from an empty stack");

    private int Floor => _marks.Count == 0 ? 0 : _marks[^1];

    private object? Pop()
    {
        object? value = Top();
        _stack.RemoveAt(_stack.Count - 1);
        return value;
    }

    private T Peek<T>(string expected) where T : class => Top() as T ?? throw Bad($"an operation expects {expected} on the stack");

    private object?[] PopToMark()
    {
        if (_marks.Count == 0) throw Bad("the pickle goes back to a mark that was never set");
        int start = _marks[^1];
        _marks.RemoveAt(_marks.Count - 1);
        object?[] items = [.. _stack[start..]];
        _stack.RemoveRange(start, _stack.Count - start);
        return items;
    }

    private void Memoize(long key) => _memo[key] = Top();

    private void Recall(long key) => Push(_memo.TryGetValue(key, out object? value) ? value : throw Bad($"the pickle recalls object {key}, which it never stored"));

    private ReadOnlySpan<byte> Take(long count)
    {
        if (count < 0) throw Bad($"a length of {count} is negative");
        if (count > _bytes.Length - _at) throw Bad($"{count} bytes are wanted, but only {_bytes.Length - _at} are left: the pickle is truncated");
        ReadOnlySpan<byte> taken = _bytes.AsSpan(_at, (int)count);
        _at += (int)count;
        return taken;
    }

    private string Text(long length)
    {
        try { return Utf8Strict.GetString(Take(length)); }
        catch (DecoderFallbackException e) { throw CheckpointErrors.Corrupt(_file, $"data.pkl byte {_operation}: a text is not valid UTF-8", e); }
    }

    private string Line()
    {
        int length = _bytes.AsSpan(_at).IndexOf((byte)'\n');
        if (length is < 0 or > 1024) throw Bad("a global's name does not end");
        string text = Text(length);
        _at++;
        return text;
    }

    private long ReadLong(int length)
    {
        if (length is < 0 or > 8) throw Bad($"an integer of {length} bytes, expected 0 to 8");
        long value = 0;
        ReadOnlySpan<byte> bytes = Take(length);
        for (int i = 0; i < bytes.Length; i++) value |= (long)bytes[i] << (8 * i);
        return length is 0 or 8 ? value : value << (64 - (8 * length)) >> (64 - (8 * length));
    }

    private BgeMetalException Bad(string why) => CheckpointErrors.Corrupt(_file, $"data.pkl byte {_operation}: {why}");

    private static readonly UTF8Encoding Utf8Strict = new(false, throwOnInvalidBytes: true);
}
