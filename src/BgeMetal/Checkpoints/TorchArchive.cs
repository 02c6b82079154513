using Microsoft.Win32.SafeHandles;

namespace BgeMetal.Checkpoints;

/// <summary>
/// A file written by torch.save since PyTorch 1.6: a zip with NAME/data.pkl, the pickled state dict, and one member NAME/data/KEY for each storage.
/// Opening reads the zip's directory and the pickle; values are read on demand. A storage's checksum is verified when a tensor of it is first read.
/// </summary>
internal sealed class TorchArchive : TensorSource
{
    private readonly SafeFileHandle _handle;
    private readonly Dictionary<string, (TensorEntry Entry, PickleTensor View, ZipMemberBytes Bytes)> _tensors;

    private TorchArchive(string path, SafeFileHandle handle, Dictionary<string, (TensorEntry Entry, PickleTensor View, ZipMemberBytes Bytes)> tensors)
    {
        Location = path;
        _handle = handle;
        _tensors = tensors;
        Entries = [.. tensors.Values.Select(tensor => tensor.Entry)];
    }

    /// <inheritdoc/>
    internal override IReadOnlyCollection<TensorEntry> Entries { get; }

    /// <inheritdoc/>
    internal override string Location { get; }

    /// <summary>Opens a file of torch.save.</summary>
    /// <exception cref="BgeMetalException">The file cannot be opened, is damaged, is of the format before PyTorch 1.6, or holds anything but tensors.</exception>
    internal static TorchArchive Open(string path)
    {
        SafeFileHandle handle = FileRegion.Open(path);
        try
        {
            CheckKind(handle, path);
            return new TorchArchive(path, handle, new TorchStateDict(handle, path, ZipDirectory.Read(handle, path)).Read());
        }
        catch (Exception e)
        {
            handle.Dispose();
            if (e is IOException or UnauthorizedAccessException or NotSupportedException) throw CheckpointErrors.Unreadable(path, e);
            if (e is InvalidDataException) throw CheckpointErrors.Corrupt(path, e.Message, e);
            throw;
        }
    }

    /// <inheritdoc/>
    internal override bool TryGet(string name, out TensorEntry entry)
    {
        bool found = _tensors.TryGetValue(name, out (TensorEntry Entry, PickleTensor View, ZipMemberBytes Bytes) tensor);
        entry = tensor.Entry;
        return found;
    }

    /// <inheritdoc/>
    internal override void Read(in TensorEntry entry, Span<float> destination)
    {
        (_, PickleTensor view, ZipMemberBytes bytes) = _tensors[entry.Name];
        try { StridedReader.Read(bytes, view, destination); }
        catch (Exception e) when (e is IOException or InvalidDataException) { throw CheckpointErrors.Tensor(Location, entry.Name, e.Message, e); }
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing) => _handle.Dispose();

    private static void CheckKind(SafeFileHandle handle, string path)
    {
        long length = RandomAccess.GetLength(handle);
        byte[] start = new byte[Math.Min(length, 512)];
        FileRegion.ReadExactly(handle, 0, start);
        ReadOnlySpan<byte> bytes = start;
        if (bytes.StartsWith("PK\u0003\u0004"u8)) return;
        if (bytes.StartsWith("version "u8)) throw CheckpointErrors.Corrupt(path, "this is a Git LFS pointer, not the weights: run 'git lfs pull' in the model's directory");
        bool tar = bytes.Length > 262 && bytes[257..].StartsWith("ustar"u8), pickle = bytes.Length > 1 && bytes[0] == 0x80 && bytes[1] is >= 2 and <= 5;
        if (tar || pickle)
            throw CheckpointErrors.Corrupt(path, "this is the format of torch.save before PyTorch 1.6; convert it once, where PyTorch is: "
                + "python -c \"import torch; f = 'pytorch_model.bin'; torch.save(torch.load(f, map_location='cpu', weights_only=True), f)\"");
        throw CheckpointErrors.Corrupt(path, $"byte 0: the file is no zip file, as torch.save writes it ({length} bytes)");
    }
}
