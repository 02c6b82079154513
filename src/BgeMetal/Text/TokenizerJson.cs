namespace BgeMetal.Text;

/// <summary>Builds a tokenizer from tokenizer.json, the serialized form of Hugging Face tokenizers. Parts that are not known are refused by name.</summary>
internal static class TokenizerJson
{
    /// <summary>The largest id a file may name.</summary>
    public const int MaxId = 1 << 24;

    /// <summary>What a tokenizer.json says.</summary>
    internal readonly record struct Parts(TokenPipeline Pipeline, PairTemplate Template);

    /// <summary>Reads the file; <paramref name="settings"/> may change a BertNormalizer.</summary>
    public static Parts Read(string file, TokenizerSettings settings)
    {
        JsonField root = JsonField.Read(file);
        TextSplitter? splitter = root.FindValue("pre_tokenizer") is { } split ? TokenizerJsonParts.ReadSplitter(split) : null;
        TokenModel model = ReadModel(root["model"], TokenizerJsonParts.Mark(splitter));
        TextNormalizer? normalizer = root.FindValue("normalizer") is { } normalize ? TokenizerJsonParts.ReadNormalizer(normalize) : null;
        if (normalizer is BertTextNormalizer bert) normalizer = new BertTextNormalizer(settings.Apply(bert.Options));
        List<AddedToken> added = root.FindValue("added_tokens") is { } tokens ? ReadAddedTokens(tokens, model) : [];
        PairTemplate template = root.FindValue("post_processor") is { } post ? TokenizerJsonParts.ReadTemplate(post) : PairTemplate.None;
        return new Parts(new TokenPipeline(normalizer, splitter, model, added), template);
    }

    /// <summary>Reads the members of an added token; flags that are missing are false.</summary>
    public static AddedToken ReadAddedToken(JsonField node, int id, bool special)
    {
        bool Flag(string name) => node.FindValue(name)?.Boolean() ?? false;
        return new AddedToken(id, node["content"].String(), Flag("single_word"), Flag("lstrip"), Flag("rstrip"), Flag("normalized"),
            node.FindValue("special")?.Boolean() ?? special);
    }

    private static TokenModel ReadModel(JsonField model, char mark)
    {
        string? type = model.FindValue("type")?.String();
        if (type is null)
        {
            bool wordPiece = model.Find("continuing_subword_prefix") is not null && model.Find("max_input_chars_per_word") is not null;
            type = wordPiece && model.Find("merges") is null ? "WordPiece" : model.Find("unk_id") is not null ? "Unigram" : null;
        }
        return type switch
        {
            "WordPiece" => ReadWordPiece(model),
            "Unigram" => ReadUnigram(model, mark),
            null => throw model.Unsupported("a model without a type that is neither WordPiece nor Unigram"),
            _ => throw model.Unsupported($"the model '{type}'"),
        };
    }

    private static WordPieceModel ReadWordPiece(JsonField model)
    {
        JsonField vocabulary = model["vocab"];
        List<string?> tokens = [];
        foreach ((string token, JsonField value) in vocabulary.Members())
        {
            int id = value.Number(MaxId);
            while (tokens.Count <= id) tokens.Add(null);
            if (tokens[id] is { } other) throw new BgeMetalException("tokenizer field 'model.vocab'", $"id {id} is given to '{other}' and to '{token}'", model.File);
            tokens[id] = token;
        }
        string unk = model.FindValue("unk_token")?.String() ?? "[UNK]";
        int unkId = tokens.IndexOf(unk);
        if (unkId < 0) throw new BgeMetalException("tokenizer field 'model.vocab'", $"the unknown token '{unk}' is missing", model.File);
        return TokenizerLoader.Guard(model.File, () => new WordPieceModel([.. tokens], unkId, model.FindValue("continuing_subword_prefix")?.String() ?? "##",
            model.FindValue("max_input_chars_per_word")?.Number(int.MaxValue) ?? 100));
    }

    private static UnigramModel ReadUnigram(JsonField model, char mark)
    {
        if (model.FindValue("byte_fallback")?.Boolean() == true) throw model.Unsupported("byte_fallback");
        List<(string Piece, double Score)> pieces = [.. model["vocab"].ScoredPieces()];
        if (pieces.Count == 0) throw new BgeMetalException("tokenizer field 'model.vocab'", "it is empty", model.File);
        if (model.FindValue("unk_id") is not { } unk) throw new BgeMetalException("tokenizer field 'model.unk_id'", "the unknown token is not named", model.File);
        return TokenizerLoader.Unigram(pieces, unk.Number(pieces.Count - 1), mark, model.File);
    }

    private static List<AddedToken> ReadAddedTokens(JsonField nodes, TokenModel model)
    {
        List<AddedToken> added = [];
        HashSet<string> contents = new(StringComparer.Ordinal);
        foreach (JsonField node in nodes.Elements())
        {
            AddedToken token = ReadAddedToken(node, node["id"].Number(MaxId), special: false);
            if (token.Content.Length == 0) throw new BgeMetalException($"tokenizer field '{node.Path}'", "the token is empty", node.File);
            if (!contents.Add(token.Content)) throw new BgeMetalException($"tokenizer field '{node.Path}'", $"the token '{token.Content}' is there twice", node.File);
            string? holder = model.Token(token.Id);
            int id = model.Find(token.Content);
            if (id >= 0 ? id != token.Id : holder is not null)
                throw new BgeMetalException($"tokenizer field '{node.Path}'",
                    holder is null ? $"'{token.Content}' has id {token.Id}, but {id} in the vocabulary" : $"'{token.Content}' has the id {token.Id} of '{holder}'", node.File);
            added.Add(token);
        }
        return added;
    }
}
