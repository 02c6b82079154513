using System.Buffers.Binary;

namespace BgeMetal.Text;

/// <summary>Reads protocol buffer fields one by one from memory. Every length is checked against what is left.</summary>
internal ref struct ProtobufReader(ReadOnlySpan<byte> bytes)
{
    private readonly ReadOnlySpan<byte> _bytes = bytes;
    private int _position;

    /// <summary>The number of the field read last.</summary>
    public int Field { get; private set; }

    /// <summary>The value of the field read last if it is a number (varint), else 0.</summary>
    public ulong Number { get; private set; }

    /// <summary>The bytes of the field read last if it is a string, a message, or of fixed size.</summary>
    public ReadOnlySpan<byte> Bytes { get; private set; }

    /// <summary>Reads the next field; false at the end.</summary>
    /// <exception cref="FormatException">The bytes are cut off or no protocol buffer.</exception>
    public bool Next()
    {
        if (_position == _bytes.Length) return false;
        int at = _position;
        ulong tag = Varint();
        if (tag >> 3 is 0 or >= 1 << 29) throw new FormatException($"there is no field {tag >> 3}, at byte {at}");
        Field = (int)(tag >> 3);
        Number = 0;
        Bytes = default;
        switch (tag & 7)
        {
            case 0: Number = Varint(); break;
            case 1: Bytes = Take(8); break;
            case 2: Bytes = Take(Varint()); break;
            case 5: Bytes = Take(4); break;
            default: throw new FormatException($"wire type {tag & 7} at byte {at}");
        }
        return true;
    }

    /// <summary>The field read last as a float.</summary>
    public readonly float Single() => Bytes.Length == 4 ? BinaryPrimitives.ReadSingleLittleEndian(Bytes) : throw new FormatException($"field {Field} is no float");

    private ReadOnlySpan<byte> Take(ulong length)
    {
        if (length > (ulong)(_bytes.Length - _position))
            throw new FormatException($"{length} bytes are announced at byte {_position}, {_bytes.Length - _position} are left");
        _position += (int)length;
        return _bytes.Slice(_position - (int)length, (int)length);
    }

    private ulong Varint()
    {
        ulong value = 0;
        for (int shift = 0; shift < 64; shift += 7)
        {
            if (_position == _bytes.Length) throw new FormatException($"a number is cut off at byte {_position}");
            byte b = _bytes[_position++];
            value |= (ulong)(b & 0x7F) << shift;
            if (b < 0x80) return value;
        }
        throw new FormatException($"a number before byte {_position} does not end");
    }
}
