using BgeMetal.Text;

namespace BgeMetal.Data.Training;

/// <summary>Texts for pre-training, tokenised. All sequences of a batch share one array.</summary>
internal sealed class TextBatch
{
    /// <summary>The epoch, from 0.</summary>
    public required int Epoch { get; init; }

    /// <summary>The number of the batch in its epoch, from 0.</summary>
    public required int Index { get; init; }

    /// <summary>Texts [B].</summary>
    public required IReadOnlyList<TokenSequence> Texts { get; init; }

    /// <summary>The numbers of the rows in the data set [B]: with seed and epoch, the key of the masks drawn for them.</summary>
    public required ReadOnlyMemory<int> Rows { get; init; }

    /// <summary>Where the rows stand [B].</summary>
    public required IReadOnlyList<RowPlace> Places { get; init; }

    /// <summary>Tokens of all texts.</summary>
    public required int Tokens { get; init; }
}

/// <summary>How pre-training batches are made of rows.</summary>
internal sealed record TextBatchOptions
{
    /// <summary>B: texts of a batch.</summary>
    public int BatchSize { get; init; } = 8;

    /// <summary>The most tokens of a text, special tokens included.</summary>
    public int MaxLength { get; init; } = 512;

    /// <summary>Whether rows come in random order.</summary>
    public bool Shuffle { get; init; } = true;

    /// <summary>Whether a last batch that is not full is left out.</summary>
    public bool DropLast { get; init; }

    /// <summary>The seed of the order.</summary>
    public int Seed { get; init; } = 42;
}

/// <summary>The batches of a pre-training run; like <see cref="ContrastiveBatches"/> a function of their number, and thread-safe.</summary>
internal sealed class TextBatches
{
    private readonly TrainingDataSet<TextRow> _data;
    private readonly TextBatchOptions _options;
    private readonly ModelTokenizer? _tokenizer;
    private readonly RowOrder _order;

    /// <summary>Batches of <paramref name="data"/>, which the caller owns.</summary>
    /// <exception cref="BgeMetalException">There is no batch: the last batch is dropped and the rows do not fill one.</exception>
    public TextBatches(TrainingDataSet<TextRow> data, TextBatchOptions options, ModelTokenizer? tokenizer)
    {
        _data = data;
        _options = options;
        _tokenizer = tokenizer;
        _order = new RowOrder([new RowGroup([(0, data.Rows)], options.BatchSize, false)], options.Seed, options.Shuffle, options.DropLast);
        if (_order.BatchesPerEpoch == 0)
            throw new BgeMetalException("no training data", $"the {data.Rows} rows do not fill one batch of {options.BatchSize}, and batches that are not full are dropped");
    }

    /// <summary>Batches of an epoch, at least one.</summary>
    public int PerEpoch => _order.BatchesPerEpoch;

    /// <summary>Reads and tokenises a batch by its number since the start of the run: epoch * <see cref="PerEpoch"/> + its number in the epoch.</summary>
    /// <exception cref="BgeMetalException">A row is malformed (with file and line), or a file cannot be read.</exception>
    public TextBatch Build(long batch)
    {
        int epoch = checked((int)(batch / PerEpoch)), index = (int)(batch % PerEpoch);
        ReadOnlyMemory<int> numbers = _order.Batch(epoch, index).Rows;
        SequenceList texts = new(_tokenizer, numbers.Length);
        RowPlace[] places = new RowPlace[numbers.Length];
        for (int i = 0; i < places.Length; i++)
        {
            TextRow row = _data.Read(numbers.Span[i]);
            places[i] = row.Place;
            if (row.Content.InputIds is int[] ids) texts.Add(ids);
            else texts.Add(row.Content.Text!, _options.MaxLength, row.Place);
        }

        return new TextBatch { Epoch = epoch, Index = index, Texts = texts.ToArray(), Rows = numbers, Places = places, Tokens = texts.Tokens };
    }
}
