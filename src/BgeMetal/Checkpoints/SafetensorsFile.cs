using System.Buffers.Binary;
using Microsoft.Win32.SafeHandles;

namespace BgeMetal.Checkpoints;

/// <summary>
/// A .safetensors file: 8 bytes of header length, the JSON header, the tensors' bytes. Opening reads the header only; values are read on demand,
/// straight from the file into the caller's memory.
/// </summary>
internal sealed class SafetensorsFile : TensorSource
{
    private readonly SafeFileHandle _handle;
    private readonly FileRegion _data;
    private readonly Dictionary<string, SafetensorsSlot> _slots;

    private SafetensorsFile(string path, SafeFileHandle handle, FileRegion data, Dictionary<string, SafetensorsSlot> slots)
    {
        Location = path;
        _handle = handle;
        _data = data;
        _slots = slots;
        Entries = [.. slots.Values.Select(slot => slot.Entry)];
    }

    /// <inheritdoc/>
    internal override IReadOnlyCollection<TensorEntry> Entries { get; }

    /// <inheritdoc/>
    internal override string Location { get; }

    /// <summary>Opens a file and checks its header against the file's length.</summary>
    /// <exception cref="BgeMetalException">The file cannot be opened or is not a valid safetensors file; the message names the tensor or byte offset.</exception>
    internal static SafetensorsFile Open(string path)
    {
        SafeFileHandle handle = FileRegion.Open(path);
        try
        {
            long length = RandomAccess.GetLength(handle);
            byte[] header = ReadHeader(handle, length, path);
            long dataStart = SafetensorsHeader.PrefixBytes + header.Length;
            return new SafetensorsFile(path, handle, new FileRegion(handle, dataStart, length - dataStart), SafetensorsHeader.Parse(header, length - dataStart, path));
        }
        catch (Exception e)
        {
            handle.Dispose();
            if (e is IOException or UnauthorizedAccessException or NotSupportedException) throw CheckpointErrors.Unreadable(path, e);
            throw;
        }
    }

    /// <inheritdoc/>
    internal override bool TryGet(string name, out TensorEntry entry)
    {
        bool found = _slots.TryGetValue(name, out SafetensorsSlot slot);
        entry = slot.Entry;
        return found;
    }

    /// <inheritdoc/>
    internal override void Read(in TensorEntry entry, Span<float> destination)
    {
        try { FloatReader.Read(_data, entry.StorageType, _slots[entry.Name].Offset, destination); }
        catch (IOException e) { throw CheckpointErrors.Tensor(Location, entry.Name, e.Message, e); }
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing) => _handle.Dispose();

    private static byte[] ReadHeader(SafeFileHandle handle, long length, string path)
    {
        if (length < SafetensorsHeader.PrefixBytes)
            throw CheckpointErrors.Corrupt(path, $"the file has {length} bytes, too few for the {SafetensorsHeader.PrefixBytes} of a safetensors header length");
        Span<byte> prefix = stackalloc byte[SafetensorsHeader.PrefixBytes];
        FileRegion.ReadExactly(handle, 0, prefix);
        if (prefix.SequenceEqual("version "u8)) throw CheckpointErrors.Corrupt(path, "this is a Git LFS pointer, not the weights: run 'git lfs pull' in the model's directory");
        ulong headerLength = BinaryPrimitives.ReadUInt64LittleEndian(prefix);
        if (headerLength > SafetensorsHeader.LargestHeader)
            throw CheckpointErrors.Corrupt(path, $"byte 0: the header length {headerLength} is more than the {SafetensorsHeader.LargestHeader} the format allows");
        if ((long)headerLength > length - SafetensorsHeader.PrefixBytes)
            throw CheckpointErrors.Corrupt(path, $"byte 0: the header length {headerLength} is more than the {length - SafetensorsHeader.PrefixBytes} bytes that follow: the file is truncated");
        byte[] header = new byte[headerLength];
        FileRegion.ReadExactly(handle, SafetensorsHeader.PrefixBytes, header);
        return header;
    }
}
