namespace BgeMetal.Checkpoints;

/// <summary>
/// A checkpoint seen as an encoder: whatever class it was saved from, the encoder's tensors are found as "embeddings.*", "encoder.layer.N.*" and
/// "pooler.*", heads as "cls.predictions.*", "lm_head.*" and "classifier.*". The prefix ("bert.", "roberta.", "lm.bert.", "model.", ...) is what
/// stands before "embeddings.word_embeddings.weight"; heads lie beside the encoder, so its last part is dropped for them. LayerNorm parameters
/// under their old names gamma and beta are listed as weight and bias. Names outside of both prefixes stay as they are.
/// </summary>
internal sealed class EncoderTensors : TensorSource
{
    private const string Anchor = "embeddings.word_embeddings.weight";
    private readonly TensorSource _source;
    private readonly Dictionary<string, (TensorEntry Shown, TensorEntry Stored)> _tensors = new(StringComparer.Ordinal);

    /// <summary>Wraps <paramref name="source"/> and owns it from then on, unless the constructor throws.</summary>
    /// <exception cref="BgeMetalException">There is no encoder in it, or more than one.</exception>
    internal EncoderTensors(TensorSource source)
    {
        _source = source;
        Prefix = FindPrefix(source);
        string parent = Prefix.Length == 0 ? "" : Prefix[..(Prefix[..^1].LastIndexOf('.') + 1)];
        AddAll(Prefix, "");
        AddAll(parent, Prefix);
        AddAll("", parent.Length == 0 ? Prefix : parent);
        Entries = [.. _tensors.Values.Select(tensor => tensor.Shown)];
    }

    /// <summary>What stands before the encoder's names in the files; empty, or ending in a dot.</summary>
    internal string Prefix { get; }

    /// <inheritdoc/>
    internal override IReadOnlyCollection<TensorEntry> Entries { get; }

    /// <inheritdoc/>
    internal override string Location => _source.Location;

    /// <inheritdoc/>
    internal override bool TryGet(string name, out TensorEntry entry)
    {
        bool found = _tensors.TryGetValue(name, out (TensorEntry Shown, TensorEntry Stored) tensor);
        entry = tensor.Shown;
        return found;
    }

    /// <inheritdoc/>
    internal override void Read(in TensorEntry entry, Span<float> destination) => _source.Read(_tensors[entry.Name].Stored, destination);

    /// <inheritdoc/>
    protected override void Dispose(bool disposing) => _source.Dispose();

    // Adds the entries below one prefix but not below the other, which were added before; names added earlier win.
    private void AddAll(string prefix, string except)
    {
        foreach (TensorEntry stored in _source.Entries)
        {
            if (!stored.Name.StartsWith(prefix, StringComparison.Ordinal)) continue;
            if (except.Length > 0 && stored.Name.StartsWith(except, StringComparison.Ordinal)) continue;
            string name = Modern(stored.Name[prefix.Length..]);
            _tensors.TryAdd(name, (stored with { Name = name }, stored));
        }
    }

    private static string Modern(string name) =>
        name.EndsWith("LayerNorm.gamma", StringComparison.Ordinal) ? name[..^"gamma".Length] + "weight"
        : name.EndsWith("LayerNorm.beta", StringComparison.Ordinal) ? name[..^"beta".Length] + "bias" : name;

    private static string FindPrefix(TensorSource source)
    {
        string[] prefixes = [.. source.Entries.Select(entry => entry.Name)
            .Where(name => name.EndsWith(Anchor, StringComparison.Ordinal)).Select(name => name[..^Anchor.Length])
            .Where(prefix => prefix.Length == 0 || prefix[^1] == '.').Order(StringComparer.Ordinal)];
        return prefixes.Length switch
        {
            0 => throw CheckpointErrors.Tensor(source.Location, Anchor,
                "no tensor has this name, with or without a prefix: there is no BERT or XLM-RoBERTa encoder in the checkpoint"),
            1 => prefixes[0],
            _ => throw CheckpointErrors.Tensor(source.Location, Anchor,
                $"the checkpoint holds {prefixes.Length} encoders, below {CheckpointErrors.Quote(prefixes[0])} and {CheckpointErrors.Quote(prefixes[1])}"),
        };
    }
}
