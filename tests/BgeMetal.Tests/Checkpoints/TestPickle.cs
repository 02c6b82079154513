using System.Buffers.Binary;
using System.Text;

namespace BgeMetal.Tests.Checkpoints;

/// <summary>Writes pickles opcode by opcode, as torch.save does (protocol 2) or otherwise.</summary>
internal sealed class TestPickle
{
    private readonly List<byte> _bytes = [];
    private readonly bool _stackGlobals;

    internal TestPickle(byte protocol = 2)
    {
        _stackGlobals = protocol >= 4;
        Raw(0x80, protocol);
        if (_stackGlobals) Raw([0x95, 0, 0, 0, 0, 0, 0, 0, 0]);
    }

    /// <summary>Bytes as they are.</summary>
    internal TestPickle Raw(params ReadOnlySpan<byte> bytes)
    {
        _bytes.AddRange(bytes);
        return this;
    }

    internal TestPickle Raw(char opcode, params ReadOnlySpan<byte> argument) => Raw((byte)opcode).Raw(argument);

    internal TestPickle Global(string module, string name) =>
        _stackGlobals ? Text(module).Raw(0x94).Text(name).Raw(0x94).Raw(0x93) : Raw('c').Raw(Encoding.UTF8.GetBytes($"{module}\n{name}\n"));

    internal TestPickle Text(string text)
    {
        byte[] bytes = Encoding.UTF8.GetBytes(text), length = new byte[4];
        BinaryPrimitives.WriteInt32LittleEndian(length, bytes.Length);
        return _stackGlobals ? Raw(0x8c, (byte)bytes.Length).Raw(bytes) : Raw('X').Raw(length).Raw(bytes);
    }

    /// <summary>An integer, as BININT1 or LONG1.</summary>
    internal TestPickle Integer(long value)
    {
        if (value is >= 0 and < 256) return Raw((byte)'K', (byte)value);
        byte[] bytes = new byte[8];
        BinaryPrimitives.WriteInt64LittleEndian(bytes, value);
        return Raw(0x8a, 8).Raw(bytes);
    }

    internal TestPickle Tuple(params ReadOnlySpan<long> values)
    {
        Raw('(');
        foreach (long value in values) Integer(value);
        return Raw('t');
    }

    /// <summary>An empty OrderedDict.</summary>
    internal TestPickle OrderedDict() => Global("collections", "OrderedDict").Raw(')').Raw('R');

    /// <summary>A storage by its persistent id.</summary>
    internal TestPickle Storage(string type, string key, long elements) =>
        Raw('(').Text("storage").Global("torch", type).Text(key).Text("cpu").Integer(elements).Raw('t').Raw('Q');

    /// <summary>A call of _rebuild_tensor_v2.</summary>
    internal TestPickle Tensor(string type, string key, long storageElements, long offset, long[] shape, long[] strides) =>
        Global("torch._utils", "_rebuild_tensor_v2").Raw('(').Storage(type, key, storageElements).Integer(offset).Tuple(shape).Tuple(strides)
            .Raw(0x89).OrderedDict().Raw('t').Raw('R');

    /// <summary>SETITEMS around the given pairs.</summary>
    internal TestPickle Items(Action<TestPickle> pairs)
    {
        Raw('(');
        pairs(this);
        return Raw('u');
    }

    internal byte[] Stop() => [.. Raw('.')._bytes];

    /// <summary>A state dict of one f32 tensor "w" with a contiguous shape, in storage 0.</summary>
    internal static byte[] OneTensor(long elements, string type = "FloatStorage") =>
        new TestPickle().OrderedDict().Items(p => p.Text("w").Tensor(type, "0", elements, 0, [elements], [1])).Stop();
}
