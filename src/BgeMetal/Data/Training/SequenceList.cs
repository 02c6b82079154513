using BgeMetal.Text;

namespace BgeMetal.Data.Training;

/// <summary>Collects the token sequences of one batch in one array. Used by one thread.</summary>
internal sealed class SequenceList(ModelTokenizer? tokenizer, int capacity)
{
    private readonly List<int> _ends = new(capacity);
    private TokenBuffer _ids = new(64 * capacity);

    /// <summary>Tokens so far.</summary>
    public int Tokens => _ids.Count;

    /// <summary>Adds a text, cut to <paramref name="maxLength"/> tokens.</summary>
    /// <exception cref="BgeMetalException">There is no tokenizer, or the text has no token.</exception>
    public void Add(string text, int maxLength, RowPlace place)
    {
        if (tokenizer is null) throw new BgeMetalException("bad input", "the row has a text, but the model has no tokenizer: {\"input_ids\": [..]} was expected", place.File, place.Line);
        int before = _ids.Count;
        tokenizer.EncodeTo(text, maxLength, ref _ids);
        if (_ids.Count == before) throw new BgeMetalException("bad input", "a text has no token", place.File, place.Line);
        _ends.Add(_ids.Count);
    }

    /// <summary>Adds tokens as they are.</summary>
    public void Add(int[] ids)
    {
        _ids.Add(ids);
        _ends.Add(_ids.Count);
    }

    /// <summary>The sequences added.</summary>
    public TokenSequence[] ToArray()
    {
        int[] ids = _ids.Ids.ToArray();
        TokenSequence[] sequences = new TokenSequence[_ends.Count];
        for (int i = 0, start = 0; i < sequences.Length; start = _ends[i++]) sequences[i] = new TokenSequence(ids.AsMemory(start, _ends[i] - start));
        return sequences;
    }
}
