namespace BgeMetal.Text;

/// <summary>Finds a model directory's tokenizer and puts it together.</summary>
internal static class TokenizerLoader
{
    private const int BertMaxCharacters = 100;
    private const char Mark = '\u2581';

    private static readonly string[] s_files =
        ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt", "sentencepiece.bpe.model"];

    /// <summary>Loads the tokenizer of a directory; see <see cref="ModelTokenizer.Load"/>.</summary>
    public static PipelineTokenizer Load(string directory)
    {
        if (!Directory.Exists(directory)) throw new BgeMetalException("cannot load the tokenizer", "there is no such directory", directory);
        string[] files = [.. s_files.Select(name => Path.GetFullPath(Path.Combine(directory, name))).Where(File.Exists)];
        TokenizerSettings settings = TokenizerSettings.Read(directory);
        string json = Path.Combine(directory, "tokenizer.json"), vocabulary = Path.Combine(directory, "vocab.txt");
        string sentencePiece = Path.Combine(directory, "sentencepiece.bpe.model");
        if (File.Exists(json)) return FromJson(json, settings, files);
        if (File.Exists(vocabulary)) return FromVocabulary(vocabulary, settings, files);
        if (File.Exists(sentencePiece)) return FromSentencePiece(sentencePiece, settings, files);
        throw new BgeMetalException("cannot load the tokenizer", "there is no tokenizer.json, vocab.txt or sentencepiece.bpe.model", directory);
    }

    /// <summary>A unigram model of pieces that are checked: none twice, scores finite.</summary>
    public static UnigramModel Unigram(List<(string Piece, double Score)> pieces, int unkId, char mark, string file)
    {
        string[] tokens = new string[pieces.Count];
        double[] scores = new double[pieces.Count];
        for (int i = 0; i < tokens.Length; i++)
        {
            (tokens[i], scores[i]) = pieces[i];
            if (!double.IsFinite(scores[i])) throw new BgeMetalException("cannot read the vocabulary", $"the score of piece {i} is not finite", file);
        }
        return Guard(file, () => new UnigramModel(tokens, scores, unkId, mark));
    }

    /// <summary>Runs <paramref name="build"/> and names the file if its vocabulary has a token twice or is too large.</summary>
    public static T Guard<T>(string file, Func<T> build)
    {
        try
        {
            return build();
        }
        catch (InvalidOperationException e)
        {
            throw new BgeMetalException("cannot read the vocabulary", e.Message, file, innerException: e);
        }
    }

    private static PipelineTokenizer FromJson(string file, TokenizerSettings settings, string[] files)
    {
        (TokenPipeline pipeline, PairTemplate template) = TokenizerJson.Read(file, settings);
        bool wordPiece = pipeline.Model is WordPieceModel;
        int Find(string role, string fallback)
        {
            string name = settings.Special(role)?.Content ?? fallback;
            return pipeline.Added.FirstOrDefault(token => token.Content == name)?.Id ?? pipeline.Model.Find(name);
        }
        int[] around = [.. template.Single.SelectMany(part => part.Ids)];
        SpecialIds special = new(Find("pad", wordPiece ? "[PAD]" : "<pad>"), around.Length > 0 ? around[0] : Find("cls", wordPiece ? "[CLS]" : "<s>"),
            around.Length > 0 ? around[^1] : Find("sep", wordPiece ? "[SEP]" : "</s>"), Find("mask", wordPiece ? "[MASK]" : "<mask>"));
        return new PipelineTokenizer(pipeline, template, special, files);
    }

    private static PipelineTokenizer FromVocabulary(string file, TokenizerSettings settings, string[] files)
    {
        string[] tokens = VocabularyFile.Read(file);
        SpecialTokens special = new(token => Array.IndexOf(tokens, token), tokens.Length, settings, file);
        AddedToken unk = special.Required("unk", "[UNK]"), sep = special.Required("sep", "[SEP]"), cls = special.Required("cls", "[CLS]");
        AddedToken? pad = special.Optional("pad", "[PAD]"), mask = special.Optional("mask", "[MASK]");
        special.AddFurther(Path.GetDirectoryName(file)!);
        WordPieceModel model = Guard(file, () => new WordPieceModel(tokens, unk.Id, "##", BertMaxCharacters));
        TokenPipeline pipeline = new(new BertTextNormalizer(settings.Apply(new BertOptions())), new BertSplitter(), model, special.All);
        return new PipelineTokenizer(pipeline, PairTemplate.Bert(cls.Content, cls.Id, sep.Content, sep.Id),
            new SpecialIds(pad?.Id ?? -1, cls.Id, sep.Id, mask?.Id ?? -1), files);
    }

    /// <summary>
    /// The fairseq order of XLM-RoBERTa: &lt;s&gt; 0, &lt;pad&gt; 1, &lt;/s&gt; 2, &lt;unk&gt; 3, then the model's pieces without its own first three, &lt;mask&gt; last.
    /// </summary>
    private static PipelineTokenizer FromSentencePiece(string file, TokenizerSettings settings, string[] files)
    {
        SentencePieceFile model = SentencePieceFile.Read(file);
        if (model.Pieces is not [("<unk>", _), ("<s>", _), ("</s>", _), ..])
            throw new BgeMetalException("cannot read the SentencePiece model", "the first pieces are not <unk>, <s>, </s> as in XLM-RoBERTa", file);
        string Name(string role, string fallback) => settings.Special(role)?.Content ?? fallback;
        string bos = Name("cls", Name("bos", "<s>")), eos = Name("sep", Name("eos", "</s>")), mask = Name("mask", "<mask>");
        List<(string Piece, double Score)> pieces = [(bos, 0), (Name("pad", "<pad>"), 0), (eos, 0), (Name("unk", "<unk>"), 0)];
        pieces.AddRange(model.Pieces.Skip(3).Select(piece => (piece.Piece, (double)piece.Score)));
        pieces.Add((mask, 0));
        UnigramModel unigram = Unigram(pieces, 3, Mark, file);
        SpecialTokens special = new(token => unigram.Find(token), pieces.Count, settings, file);
        foreach (int id in (int[])[0, 1, 2, 3]) special.Add(new AddedToken(id, pieces[id].Piece));
        special.Add(new AddedToken(pieces.Count - 1, mask, LeftStrip: true));
        special.AddFurther(Path.GetDirectoryName(file)!);
        CharacterMapNormalizer? normalizer = model.CharacterMap.Length > 0 ? new CharacterMapNormalizer(new CharacterMap(model.CharacterMap, file)) : null;
        TextSplitter splitter = new SequenceSplitter([new WhitespaceSplitter(), new MetaspaceSplitter(Mark, PrependScheme.Always, split: true)]);
        TokenPipeline pipeline = new(normalizer, splitter, unigram, special.All);
        return new PipelineTokenizer(pipeline, PairTemplate.XlmRoberta(bos, 0, eos, 2), new SpecialIds(1, 0, 2, pieces.Count - 1), files);
    }
}

/// <summary>Collects the special tokens of a vocabulary that comes without a tokenizer.json.</summary>
/// <param name="find">The id of a token of the vocabulary, or -1.</param>
/// <param name="count">The number of tokens in the vocabulary.</param>
/// <param name="settings">The names of the special tokens.</param>
/// <param name="file">The vocabulary's file.</param>
internal sealed class SpecialTokens(Func<string, int> find, int count, TokenizerSettings settings, string file)
{
    private readonly int _count = count;
    private int _next = count;

    /// <summary>All tokens so far.</summary>
    public List<AddedToken> All { get; } = [];

    /// <summary>The token of a role, which must be in the vocabulary.</summary>
    public AddedToken Required(string role, string fallback) => Optional(role, fallback)
        ?? throw new BgeMetalException("cannot read the vocabulary", $"the {role} token '{settings.Special(role)?.Content ?? fallback}' is missing", file);

    /// <summary>The token of a role, or null if the vocabulary has none.</summary>
    public AddedToken? Optional(string role, string fallback)
    {
        AddedToken token = settings.Special(role) ?? new AddedToken(-1, fallback);
        int id = find(token.Content);
        if (id < 0) return null;
        token = token with { Id = id, Normalized = false, Special = true };
        Add(token);
        return token;
    }

    /// <summary>Adds a token unless one with its content is there.</summary>
    public void Add(AddedToken token)
    {
        if (token.Content.Length > 0 && All.All(other => other.Content != token.Content)) All.Add(token);
    }

    /// <summary>
    /// Adds added_tokens_decoder, the entries of added_tokens.json and additional_special_tokens; those without an id follow the vocabulary.
    /// </summary>
    public void AddFurther(string directory)
    {
        foreach (AddedToken token in settings.Decoder) AddNumbered(token, Path.Combine(directory, "tokenizer_config.json"));
        string path = Path.Combine(directory, "added_tokens.json");
        if (File.Exists(path))
            foreach ((string content, JsonField id) in JsonField.Read(path).Members()) AddNumbered(new AddedToken(id.Number(TokenizerJson.MaxId), content), path);
        foreach (AddedToken token in settings.Additional)
        {
            if (All.Any(other => other.Content == token.Content)) continue;
            int id = find(token.Content);
            Add(token with { Id = id >= 0 ? id : _next++, Normalized = false, Special = true });
        }
    }

    private void AddNumbered(AddedToken token, string from)
    {
        int known = find(token.Content);
        if (known >= 0 ? known != token.Id : token.Id < _count)
            throw new BgeMetalException("cannot read the added tokens", $"'{token.Content}' has id {token.Id}, which is another token's", from);
        Add(token);
        _next = Math.Max(_next, token.Id + 1);
    }
}
