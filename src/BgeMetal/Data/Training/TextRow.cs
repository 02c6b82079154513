namespace BgeMetal.Data.Training;

/// <summary>A row of pre-training data: <c>{"text": str}</c>, or <c>{"input_ids": [..]}</c>, other fields ignored.</summary>
/// <param name="Place">Where the row stands.</param>
/// <param name="Content">The text or its tokens.</param>
internal sealed record TextRow(RowPlace Place, TrainingText Content);

/// <summary>Reads rows of pre-training data and holds them to what the run needs of them.</summary>
/// <param name="MaxLength">The most tokens of a row given as <c>input_ids</c>; 0 for no limit.</param>
/// <param name="VocabularySize">The bound of every id given as <c>input_ids</c>; 0 for no check.</param>
/// <param name="HasTokenizer">Whether texts can be tokenised; when false every row must have <c>input_ids</c>.</param>
internal sealed record TextRowRules(int MaxLength = 0, int VocabularySize = 0, bool HasTokenizer = true)
{
    /// <summary>Reads a row.</summary>
    /// <exception cref="BgeMetalException">A field is missing or of the wrong type, or the row breaks a rule.</exception>
    public TextRow Read(JsonRow json)
    {
        RowPlace place = new(json.Source, json.Line);
        if (json.TokenIds("input_ids") is not int[] ids)
        {
            string text = json.Text("text") ?? throw json.Missing("text", "a string (or \"input_ids\", a list of token ids)");
            if (!HasTokenizer) throw json.Error("\"text\" is a text, but the model has no tokenizer: \"input_ids\" was expected");
            return new TextRow(place, new TrainingText(text, null));
        }

        if (MaxLength > 0 && ids.Length > MaxLength) throw json.Error($"\"input_ids\" has {ids.Length} tokens, at most {MaxLength} are allowed");
        foreach (int id in ids)
            if (VocabularySize > 0 && id >= VocabularySize) throw json.Error($"\"input_ids\" holds {id}, the model's vocabulary ends at {VocabularySize - 1}");
        return new TextRow(place, new TrainingText(null, ids));
    }
}
