using System.Text;
using System.Text.Json;
using System.Text.Unicode;

namespace BgeMetal.Checkpoints;

/// <summary>One tensor's place in a safetensors file: its entry, and the byte offset of its first element within the data section.</summary>
internal readonly record struct SafetensorsSlot(TensorEntry Entry, long Offset, long Bytes);

/// <summary>
/// Parses and checks the JSON header of a safetensors file: {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...} with an
/// optional "__metadata__" of texts. All the format's promises are checked: no key twice, byte counts that agree with type and shape, and tensors
/// that cover the data section from its first to its last byte without overlap or hole. Memory stays proportional to the header's real length.
/// </summary>
internal ref struct SafetensorsHeader
{
    /// <summary>The longest header the format allows.</summary>
    internal const long LargestHeader = 100_000_000;

    /// <summary>Bytes before the header: its length, little-endian.</summary>
    internal const int PrefixBytes = 8;

    private const int LargestRank = 32;
    private static readonly JsonReaderOptions Strict = new() { MaxDepth = 8 };

    private readonly string _file;
    private readonly Dictionary<string, SafetensorsSlot> _slots = new(StringComparer.Ordinal);
    private Utf8JsonReader _json;

    private SafetensorsHeader(ReadOnlySpan<byte> header, string file)
    {
        _file = file;
        _json = new Utf8JsonReader(header, Strict);
    }

    /// <summary>Parses <paramref name="header"/> (the bytes after the length) of a file with <paramref name="dataBytes"/> bytes after it.</summary>
    internal static Dictionary<string, SafetensorsSlot> Parse(ReadOnlySpan<byte> header, long dataBytes, string file)
    {
        if (header.IsEmpty || header[0] != (byte)'{') throw CheckpointErrors.Corrupt(file, $"byte {PrefixBytes}: the header does not start with '{{'");
        if (!Utf8.IsValid(header)) throw CheckpointErrors.Corrupt(file, "the header is not valid UTF-8");
        SafetensorsHeader parser = new(header, file);
        try
        {
            parser.ReadObject();
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or FormatException)
        {
            throw CheckpointErrors.Corrupt(file, $"byte {PrefixBytes + parser._json.BytesConsumed}: the header is not valid JSON", e);
        }
        CheckCoverage(parser._slots.Values, dataBytes, file);
        return parser._slots;
    }

    private void ReadObject()
    {
        Next(JsonTokenType.StartObject, "an object");
        bool metadata = false;
        while (ReadKey() is { } name)
        {
            if (name == "__metadata__")
            {
                if (metadata) throw At("the key '__metadata__' appears twice");
                metadata = true;
                SkipMetadata();
            }
            else if (!_slots.TryAdd(name, ReadTensor(name)))
            {
                throw CheckpointErrors.Tensor(_file, name, "the name appears twice in the header");
            }
        }
        if (_json.Read()) throw At("something follows the header's object");
    }

    private void SkipMetadata()
    {
        _json.Read();
        if (_json.TokenType == JsonTokenType.Null) return;
        if (_json.TokenType != JsonTokenType.StartObject) throw At("'__metadata__' is not an object of texts");
        HashSet<string> keys = new(StringComparer.Ordinal);
        while (ReadKey() is { } key)
        {
            if (!keys.Add(key)) throw At($"the key {CheckpointErrors.Quote(key)} appears twice in '__metadata__'");
            Next(JsonTokenType.String, "a text");
        }
    }

    private SafetensorsSlot ReadTensor(string name)
    {
        string? type = null;
        long[]? shape = null, offsets = null;
        Next(JsonTokenType.StartObject, $"an object for tensor {CheckpointErrors.Quote(name)}");
        while (ReadKey() is { } key)
        {
            switch (key)
            {
                case "dtype" when type is null:
                    Next(JsonTokenType.String, "the name of an element type");
                    type = _json.GetString();
                    break;
                case "shape" when shape is null:
                    shape = ReadNumbers(name, key);
                    break;
                case "data_offsets" when offsets is null:
                    offsets = ReadNumbers(name, key);
                    break;
                default:
                    throw CheckpointErrors.Tensor(_file, name, $"the key {CheckpointErrors.Quote(key)} is unknown or appears twice");
            }
        }
        if (type is null || shape is null || offsets is null)
            throw CheckpointErrors.Tensor(_file, name, $"'{(type is null ? "dtype" : shape is null ? "shape" : "data_offsets")}' is missing");
        return Check(name, type, shape, offsets);
    }

    private readonly SafetensorsSlot Check(string name, string type, long[] shape, long[] offsets)
    {
        int bits = StorageType.Bits(type);
        if (bits == 0) throw CheckpointErrors.Tensor(_file, name, $"its dtype {CheckpointErrors.Quote(type)} is not an element type of safetensors");
        long elements = TensorEntry.CountElements(shape);
        if (elements < 0 || elements > long.MaxValue / 64)
            throw CheckpointErrors.Tensor(_file, name, $"its shape {CheckpointErrors.Show(shape)} has a negative extent or overflows");
        if (offsets.Length != 2 || offsets[0] < 0 || offsets[1] < offsets[0])
            throw CheckpointErrors.Tensor(_file, name, $"its data_offsets {CheckpointErrors.Show(offsets)} are not a start and an end");
        long bytes = offsets[1] - offsets[0];
        if (elements * bits % 8 != 0 || elements * bits / 8 != bytes)
            throw CheckpointErrors.Tensor(_file, name,
                $"its data_offsets {CheckpointErrors.Show(offsets)} hold {bytes} bytes, but {type} {CheckpointErrors.Show(shape)} needs {(elements * bits + 7) / 8}");
        return new SafetensorsSlot(new TensorEntry(name, type, shape, elements, _file), offsets[0], bytes);
    }

    private long[] ReadNumbers(string name, string key)
    {
        Next(JsonTokenType.StartArray, "an array");
        List<long> numbers = [];
        while (_json.Read() && _json.TokenType != JsonTokenType.EndArray)
        {
            if (_json.TokenType != JsonTokenType.Number || !_json.TryGetInt64(out long number) || number < 0)
                throw CheckpointErrors.Tensor(_file, name, $"'{key}' holds {CheckpointErrors.Quote(Encoding.UTF8.GetString(_json.ValueSpan))}, expected integers from 0 to 2^63 - 1");
            if (numbers.Count == LargestRank) throw CheckpointErrors.Tensor(_file, name, $"'{key}' has more than {LargestRank} numbers");
            numbers.Add(number);
        }
        return [.. numbers];
    }

    private string? ReadKey()
    {
        _json.Read();
        return _json.TokenType == JsonTokenType.EndObject ? null : _json.GetString()!;
    }

    private void Next(JsonTokenType expected, string description)
    {
        _json.Read();
        if (_json.TokenType != expected) throw At($"found {_json.TokenType}, expected {description}");
    }

    private readonly BgeMetalException At(string why) => CheckpointErrors.Corrupt(_file, $"byte {PrefixBytes + _json.TokenStartIndex}: {why}");

    private static void CheckCoverage(IEnumerable<SafetensorsSlot> slots, long dataBytes, string file)
    {
        long end = 0;
        foreach (SafetensorsSlot slot in slots.OrderBy(s => s.Offset).ThenBy(s => s.Bytes))
        {
            if (slot.Offset + slot.Bytes > dataBytes)
                throw CheckpointErrors.Tensor(file, slot.Entry.Name,
                    $"its bytes {slot.Offset} to {slot.Offset + slot.Bytes} end after the file's {dataBytes} bytes of data: the file is truncated");
            if (slot.Offset < end) throw CheckpointErrors.Tensor(file, slot.Entry.Name, $"its bytes start at {slot.Offset} and overlap a tensor that ends at {end}");
            if (slot.Offset > end)
                throw CheckpointErrors.Tensor(file, slot.Entry.Name,
                    $"its bytes start at {slot.Offset}, but the tensor before ends at {end}: the bytes between belong to none");
            end = slot.Offset + slot.Bytes;
        }
        if (end != dataBytes) throw CheckpointErrors.Corrupt(file, $"the tensors end at byte {end} of the data, but the file has {dataBytes}: {dataBytes - end} bytes belong to no tensor");
    }
}
