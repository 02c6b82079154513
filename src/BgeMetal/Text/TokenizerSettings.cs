using System.Globalization;

namespace BgeMetal.Text;

/// <summary>What tokenizer_config.json and special_tokens_map.json say; null where they say nothing.</summary>
internal sealed class TokenizerSettings
{
    private readonly Dictionary<string, AddedToken> _special = new(StringComparer.Ordinal);

    /// <summary>do_lower_case.</summary>
    public bool? Lowercase { get; private set; }

    /// <summary>strip_accents; null also means "as lower-casing".</summary>
    public bool? StripAccents { get; private set; }

    /// <summary>Whether strip_accents is written, be it as null.</summary>
    public bool SaysStripAccents { get; private set; }

    /// <summary>tokenize_chinese_chars.</summary>
    public bool? HandleChineseChars { get; private set; }

    /// <summary>Further special tokens, in order.</summary>
    public List<AddedToken> Additional { get; } = [];

    /// <summary>added_tokens_decoder: literal tokens with their ids.</summary>
    public List<AddedToken> Decoder { get; } = [];

    /// <summary>Reads the files of a directory, none of which need be there. The config has the last word.</summary>
    public static TokenizerSettings Read(string directory)
    {
        TokenizerSettings settings = new();
        string map = Path.Combine(directory, "special_tokens_map.json"), config = Path.Combine(directory, "tokenizer_config.json");
        if (File.Exists(map)) settings.AddNames(JsonField.Read(map));
        if (!File.Exists(config)) return settings;
        JsonField node = JsonField.Read(config);
        settings.AddNames(node);
        settings.Lowercase = node.FindValue("do_lower_case")?.Boolean();
        settings.SaysStripAccents = node.Find("strip_accents") is not null;
        settings.StripAccents = node.FindValue("strip_accents")?.Boolean();
        settings.HandleChineseChars = node.FindValue("tokenize_chinese_chars")?.Boolean();
        if (node.FindValue("added_tokens_decoder") is not { } decoder) return settings;
        foreach ((string id, JsonField token) in decoder.Members())
        {
            if (!int.TryParse(id, NumberStyles.None, CultureInfo.InvariantCulture, out int value) || value > TokenizerJson.MaxId) throw decoder.Wrong("ids as names");
            settings.Decoder.Add(TokenizerJson.ReadAddedToken(token, value, special: false));
        }
        return settings;
    }

    /// <summary>A special token by its role ("cls", "sep", "pad", "unk", "mask", "bos", "eos"), or null. Its id is not known here.</summary>
    public AddedToken? Special(string role) => _special.GetValueOrDefault(role);

    /// <summary>A normalizer's options with what the config says put in their place, as transformers does.</summary>
    public BertOptions Apply(BertOptions options) => options with
    {
        Lowercase = Lowercase ?? options.Lowercase,
        StripAccents = SaysStripAccents ? StripAccents : options.StripAccents,
        HandleChineseChars = HandleChineseChars ?? options.HandleChineseChars,
    };

    private void AddNames(JsonField node)
    {
        foreach (string role in (string[])["cls", "sep", "pad", "unk", "mask", "bos", "eos"])
            if (node.FindValue(role + "_token") is { } token) _special[role] = Token(token);
        if (node.FindValue("additional_special_tokens") is not { IsArray: true } more) return;
        Additional.Clear();
        foreach (JsonField token in more.Elements()) Additional.Add(Token(token));
    }

    private static AddedToken Token(JsonField node)
    {
        if (node.IsString) return new AddedToken(-1, node.String());
        if (!node.IsObject) throw node.Wrong("a string or an object with \"content\"");
        return TokenizerJson.ReadAddedToken(node, -1, special: true);
    }
}
