using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text.Json;

namespace BgeMetal.Testing;

/// <summary>
/// The expected tensors of a fixture: a second, minimal safetensors reader, so that a mistake in the product's reader cannot hide itself.
/// Float32 tensors only.
/// </summary>
public sealed class SafetensorsReference
{
    private readonly Dictionary<string, (int[] Shape, float[] Values)> _tensors = new(StringComparer.Ordinal);

    /// <summary>Reads the whole file.</summary>
    public SafetensorsReference(string path)
    {
        byte[] bytes = System.IO.File.ReadAllBytes(path);
        int headerBytes = (int)BinaryPrimitives.ReadUInt64LittleEndian(bytes);
        using JsonDocument header = JsonDocument.Parse(bytes.AsMemory(8, headerBytes));
        foreach (JsonProperty entry in header.RootElement.EnumerateObject())
        {
            if (entry.Name == "__metadata__" || entry.Value.GetProperty("dtype").GetString() != "F32") continue;
            int[] shape = [.. entry.Value.GetProperty("shape").EnumerateArray().Select(size => size.GetInt32())];
            int[] offsets = [.. entry.Value.GetProperty("data_offsets").EnumerateArray().Select(offset => offset.GetInt32())];
            Span<byte> data = bytes.AsSpan(8 + headerBytes + offsets[0], offsets[1] - offsets[0]);
            _tensors.Add(entry.Name, (shape, MemoryMarshal.Cast<byte, float>(data).ToArray()));
        }
    }

    /// <summary>The names of the tensors.</summary>
    public IReadOnlyCollection<string> Names => _tensors.Keys;

    /// <summary>A tensor's values, row-major.</summary>
    public float[] this[string name] => _tensors[name].Values;

    /// <summary>A tensor's shape.</summary>
    public int[] Shape(string name) => _tensors[name].Shape;
}
