using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace BgeMetal.Benchmarks.Models;

/// <summary>
/// Float32 tensors by name in a .safetensors file: just enough to hand the same weights to both engines, and independent of the product's own
/// reader, so that a fault there cannot hide in the comparison.
/// </summary>
internal static class SafetensorsFile
{
    /// <summary>Writes the tensors in the order given; the header is padded so that the data starts at a multiple of 64 bytes.</summary>
    public static void Write(string path, IEnumerable<NamedTensor> tensors)
    {
        List<NamedTensor> all = [.. tensors];
        JsonObject header = new() { ["__metadata__"] = new JsonObject { ["format"] = "pt" } };
        long offset = 0;
        foreach (NamedTensor tensor in all)
        {
            long end = offset + (long)tensor.Values.Length * sizeof(float);
            header[tensor.Name] = new JsonObject
            {
                ["dtype"] = "F32",
                ["shape"] = new JsonArray([.. tensor.Dimensions.Select(size => (JsonNode)size)]),
                ["data_offsets"] = new JsonArray(offset, end),
            };
            offset = end;
        }
        byte[] json = JsonSerializer.SerializeToUtf8Bytes(header);
        int padded = (json.Length + 8 + 63) / 64 * 64 - 8;
        using FileStream file = File.Create(path);
        Span<byte> length = stackalloc byte[8];
        BinaryPrimitives.WriteInt64LittleEndian(length, padded);
        file.Write(length);
        file.Write(json);
        for (int i = json.Length; i < padded; i++)
            file.WriteByte((byte)' ');
        foreach (NamedTensor tensor in all)
            file.Write(MemoryMarshal.AsBytes(tensor.Values.AsSpan()));
    }

    /// <summary>Reads every tensor of the file.</summary>
    /// <exception cref="BgeMetalException">A tensor is not float32.</exception>
    public static Dictionary<string, NamedTensor> Read(string path)
    {
        using FileStream file = File.OpenRead(path);
        byte[] length = new byte[8];
        file.ReadExactly(length);
        byte[] json = new byte[checked((int)BinaryPrimitives.ReadInt64LittleEndian(length))];
        file.ReadExactly(json);
        using JsonDocument header = JsonDocument.Parse(json);
        Dictionary<string, NamedTensor> tensors = [];
        foreach (JsonProperty entry in header.RootElement.EnumerateObject().Where(entry => entry.Name != "__metadata__"))
        {
            if (entry.Value.GetProperty("dtype").GetString() is not "F32")
                throw new BgeMetalException($"tensor '{entry.Name}'", "the benchmarks read float32 tensors only", path);
            int[] dimensions = [.. entry.Value.GetProperty("shape").EnumerateArray().Select(size => size.GetInt32())];
            float[] values = new float[dimensions.Aggregate(1, (product, size) => checked(product * size))];
            file.Position = 8 + json.Length + entry.Value.GetProperty("data_offsets")[0].GetInt64();
            file.ReadExactly(MemoryMarshal.AsBytes(values.AsSpan()));
            tensors.Add(entry.Name, new(entry.Name, dimensions, values));
        }
        return tensors;
    }
}

/// <summary>A float32 tensor, row-major.</summary>
internal sealed record NamedTensor(string Name, int[] Dimensions, float[] Values);
