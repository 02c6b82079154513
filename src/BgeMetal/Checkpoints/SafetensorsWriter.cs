using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text.Encodings.Web;
using System.Text.Json;

namespace BgeMetal.Checkpoints;

/// <summary>Writes f32 tensors as a safetensors file: header padded with spaces to a multiple of 8, so that the data is aligned, then the values in the given order.</summary>
internal static class SafetensorsWriter
{
    private const int Chunk = 1 << 20;

    /// <summary>Writes the whole file to <paramref name="stream"/>.</summary>
    internal static void Write(Stream stream, IReadOnlyList<NamedTensor> tensors)
    {
        byte[] header = MakeHeader(tensors);
        Span<byte> length = stackalloc byte[SafetensorsHeader.PrefixBytes];
        BinaryPrimitives.WriteInt64LittleEndian(length, header.Length);
        stream.Write(length);
        stream.Write(header);
        foreach (NamedTensor tensor in tensors)
            for (long at = 0; at < tensor.Elements; at += Chunk)
                stream.Write(MemoryMarshal.AsBytes(tensor.Values(at, (int)Math.Min(Chunk, tensor.Elements - at))));
    }

    private static byte[] MakeHeader(IReadOnlyList<NamedTensor> tensors)
    {
        using MemoryStream json = new();
        using (Utf8JsonWriter writer = new(json, new JsonWriterOptions { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
        {
            writer.WriteStartObject();
            writer.WriteStartObject("__metadata__");
            writer.WriteString("format", "pt");
            writer.WriteEndObject();
            long offset = 0;
            foreach (NamedTensor tensor in tensors)
            {
                writer.WriteStartObject(tensor.Name);
                writer.WriteString("dtype", StorageType.F32);
                WriteNumbers(writer, "shape", tensor.Shape);
                WriteNumbers(writer, "data_offsets", [offset, offset += tensor.SizeBytes]);
                writer.WriteEndObject();
            }
            writer.WriteEndObject();
        }
        while (json.Length % 8 != 0) json.WriteByte((byte)' ');
        return json.ToArray();
    }

    private static void WriteNumbers(Utf8JsonWriter writer, string name, ReadOnlySpan<long> numbers)
    {
        writer.WriteStartArray(name);
        foreach (long number in numbers) writer.WriteNumberValue(number);
        writer.WriteEndArray();
    }
}
