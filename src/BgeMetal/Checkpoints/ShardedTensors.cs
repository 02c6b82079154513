using System.Text.Json;

namespace BgeMetal.Checkpoints;

/// <summary>
/// Tensors spread over several files, found through an index: {"metadata": {...}, "weight_map": {"tensor name": "file name"}}. Shards are plain
/// file names beside the index (a path that leads elsewhere is refused) and are all opened at once, so a missing or damaged one is found at the start.
/// </summary>
internal sealed class ShardedTensors : TensorSource
{
    private const int MostShards = 4096;
    private readonly Dictionary<string, TensorSource> _shards;
    private readonly Dictionary<string, (TensorSource Shard, TensorEntry Entry)> _tensors;

    private ShardedTensors(string index, Dictionary<string, TensorSource> shards, Dictionary<string, (TensorSource Shard, TensorEntry Entry)> tensors)
    {
        Location = index;
        _shards = shards;
        _tensors = tensors;
        Entries = [.. tensors.Values.Select(tensor => tensor.Entry)];
    }

    /// <inheritdoc/>
    internal override IReadOnlyCollection<TensorEntry> Entries { get; }

    /// <inheritdoc/>
    internal override string Location { get; }

    /// <summary>Opens every shard that <paramref name="index"/> names with <paramref name="openShard"/>.</summary>
    /// <exception cref="BgeMetalException">The index is malformed, a shard is missing or damaged, or a shard lacks a tensor the index puts there.</exception>
    internal static ShardedTensors Open(string index, Func<string, TensorSource> openShard)
    {
        JsonFile json = JsonFile.ReadObject(index);
        if (json.Field("weight_map") is not { ValueKind: JsonValueKind.Object } map) throw json.Missing("weight_map", "an object from tensor names to file names");
        Dictionary<string, TensorSource> shards = new(StringComparer.Ordinal);
        Dictionary<string, (TensorSource, TensorEntry)> tensors = new(StringComparer.Ordinal);
        try
        {
            foreach (JsonProperty item in map.EnumerateObject())
            {
                string file = FileName(json, item);
                if (!shards.TryGetValue(file, out TensorSource? shard))
                {
                    if (shards.Count == MostShards) throw CheckpointErrors.Corrupt(index, $"it names more than {MostShards} files");
                    string path = Path.Combine(Path.GetDirectoryName(index)!, file);
                    if (!File.Exists(path)) throw CheckpointErrors.Tensor(index, item.Name, $"its shard {CheckpointErrors.Quote(file)} is missing");
                    shards.Add(file, shard = openShard(path));
                }
                if (!shard.TryGet(item.Name, out TensorEntry entry)) throw CheckpointErrors.Tensor(index, item.Name, $"its shard {CheckpointErrors.Quote(file)} has no tensor of this name");
                tensors.Add(item.Name, (shard, entry));
            }
            return new ShardedTensors(index, shards, tensors);
        }
        catch
        {
            foreach (TensorSource shard in shards.Values) shard.Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    internal override bool TryGet(string name, out TensorEntry entry)
    {
        bool found = _tensors.TryGetValue(name, out (TensorSource Shard, TensorEntry Entry) tensor);
        entry = tensor.Entry;
        return found;
    }

    /// <inheritdoc/>
    internal override void Read(in TensorEntry entry, Span<float> destination) => _tensors[entry.Name].Shard.Read(entry, destination);

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        foreach (TensorSource shard in _shards.Values) shard.Dispose();
    }

    private static string FileName(JsonFile json, JsonProperty item)
    {
        string? file = item.Value.ValueKind == JsonValueKind.String ? JsonFile.TryText(item.Value) : null;
        if (file is null || !PlainName.Is(file))
            throw CheckpointErrors.Tensor(json.Path, item.Name, $"its shard is {(file is null ? "not a text" : CheckpointErrors.Quote(file))}, expected the name of a file beside the index");
        return file;
    }
}
