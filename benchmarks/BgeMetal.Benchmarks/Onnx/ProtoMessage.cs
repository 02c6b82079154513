using System.Buffers;
using System.Buffers.Binary;
using System.Text;

namespace BgeMetal.Benchmarks.Onnx;

/// <summary>A protobuf message under construction: the kinds of field that an ONNX model needs, in protobuf's wire format.</summary>
internal sealed class ProtoMessage
{
    private const int Varint = 0, LengthDelimited = 2, Fixed32 = 5;

    private readonly ArrayBufferWriter<byte> buffer = new();

    /// <summary>The encoded fields so far.</summary>
    public ReadOnlySpan<byte> Bytes => buffer.WrittenSpan;

    /// <summary>An integer field; negative numbers take ten bytes, as int64 and enums do.</summary>
    public ProtoMessage Number(int field, long value)
    {
        WriteVarint((ulong)(field << 3 | Varint));
        WriteVarint((ulong)value);
        return this;
    }

    /// <summary>A float field.</summary>
    public ProtoMessage Float(int field, float value)
    {
        WriteVarint((ulong)(field << 3 | Fixed32));
        BinaryPrimitives.WriteSingleLittleEndian(buffer.GetSpan(4), value);
        buffer.Advance(4);
        return this;
    }

    /// <summary>A string field.</summary>
    public ProtoMessage Text(int field, string text)
    {
        byte[] bytes = Encoding.UTF8.GetBytes(text);
        Head(field, bytes.Length);
        buffer.Write(bytes);
        return this;
    }

    /// <summary>A nested message.</summary>
    public ProtoMessage Message(int field, ProtoMessage message)
    {
        Head(field, message.Bytes.Length);
        buffer.Write(message.Bytes);
        return this;
    }

    /// <summary>Tag and length of a message or of raw bytes whose content is written elsewhere, right behind this message's bytes.</summary>
    public ProtoMessage Head(int field, long lengthBytes)
    {
        WriteVarint((ulong)(field << 3 | LengthDelimited));
        WriteVarint((ulong)lengthBytes);
        return this;
    }

    /// <summary>The fields of another message after those of this one.</summary>
    public ProtoMessage Append(ProtoMessage other)
    {
        buffer.Write(other.Bytes);
        return this;
    }

    private void WriteVarint(ulong value)
    {
        Span<byte> target = buffer.GetSpan(10);
        int length = 0;
        for (; value >= 0x80; value >>= 7)
            target[length++] = (byte)(value | 0x80);
        target[length++] = (byte)value;
        buffer.Advance(length);
    }
}
