using System.Text;
using Microsoft.Win32.SafeHandles;

namespace BgeMetal.Checkpoints;

/// <summary>Builds the table of tensors from the members of a PyTorch zip file: runs data.pkl and ties every tensor to the member that holds its storage.</summary>
internal sealed class TorchStateDict(SafeFileHandle handle, string path, Dictionary<string, ZipMember> members)
{
    private const int LargestRecord = 64;
    private readonly Dictionary<string, ZipMemberBytes> _storages = new(StringComparer.Ordinal);

    /// <summary>The tensors by name.</summary>
    /// <exception cref="BgeMetalException">The pickle is malformed or holds no tensors, or a storage is missing or of another size.</exception>
    /// <exception cref="InvalidDataException">A zip member is damaged.</exception>
    internal Dictionary<string, (TensorEntry Entry, PickleTensor View, ZipMemberBytes Bytes)> Read()
    {
        string root = FindRoot();
        if (members.TryGetValue(root + "byteorder", out ZipMember order) && Encoding.ASCII.GetString(Bytes(order).ReadAll(LargestRecord)).Trim() is var text && text != "little")
            throw CheckpointErrors.Corrupt(path, $"the byte order is {CheckpointErrors.Quote(text)}, expected 'little'");
        object? value = PickleReader.Read(Bytes(members[root + "data.pkl"]).ReadAll(PickleReader.LargestBytes), path);
        if (value is not PickleDict dict) throw CheckpointErrors.Corrupt(path, "data.pkl holds no state dict");

        Dictionary<string, (TensorEntry, PickleTensor, ZipMemberBytes)> tensors = new(StringComparer.Ordinal);
        foreach ((object? key, object? item) in Unwrap(dict).Pairs)
        {
            if (item is not PickleTensor view) continue;
            if (key is not string name) throw CheckpointErrors.Corrupt(path, "a tensor of the state dict has a name that is not a text");
            TensorEntry entry = new(name, view.Storage.StorageType, view.Shape, view.Elements, path);
            if (!tensors.TryAdd(name, (entry, view, Storage(root, name, view.Storage)))) throw CheckpointErrors.Tensor(path, name, "the name appears twice in the state dict");
        }
        return tensors.Count > 0 ? tensors : throw CheckpointErrors.Corrupt(path, "data.pkl holds a dict without tensors");
    }

    // Trainers of other frameworks put the state dict beside other things, under this key.
    private static PickleDict Unwrap(PickleDict dict)
    {
        foreach ((object? key, object? value) in dict.Pairs)
            if (key is "state_dict" && value is PickleDict inner) return inner;
        return dict;
    }

    private string FindRoot()
    {
        string[] found = [.. members.Keys.Where(name => name.EndsWith("/data.pkl", StringComparison.Ordinal) && name.IndexOf('/') == name.Length - "/data.pkl".Length)];
        return found.Length == 1 ? found[0][..^"data.pkl".Length]
            : throw CheckpointErrors.Corrupt(path, found.Length == 0 ? "the zip file has no NAME/data.pkl: it was not written by torch.save" : "the zip file has more than one NAME/data.pkl");
    }

    private ZipMemberBytes Storage(string root, string tensor, PickleStorage storage)
    {
        if (_storages.TryGetValue(storage.Key, out ZipMemberBytes? known)) return known;
        if (!members.TryGetValue($"{root}data/{storage.Key}", out ZipMember member))
            throw CheckpointErrors.Tensor(path, tensor, $"its storage {CheckpointErrors.Quote(storage.Key)} is missing from the zip file");
        long bytes = storage.Elements * StorageType.Bits(storage.StorageType) / 8;
        if (member.Size != bytes)
            throw CheckpointErrors.Tensor(path, tensor,
                $"its storage {CheckpointErrors.Quote(storage.Key)} has {member.Size} bytes, but {storage.Elements} elements of {storage.StorageType} need {bytes}");
        ZipMemberBytes opened = Bytes(member);
        _storages.Add(storage.Key, opened);
        return opened;
    }

    private ZipMemberBytes Bytes(ZipMember member) => new(handle, member);
}
