namespace BgeMetal.Text;

/// <summary>Reads the normalizer, pre-tokenizer and post-processor of a tokenizer.json.</summary>
internal static class TokenizerJsonParts
{
    private const char DefaultMark = '\u2581';

    /// <summary>A normalizer of any supported kind.</summary>
    public static TextNormalizer ReadNormalizer(JsonField node)
    {
        string type = node["type"].String();
        switch (type)
        {
            case "BertNormalizer":
                return new BertTextNormalizer(new BertOptions(Flag(node, "clean_text", true), Flag(node, "handle_chinese_chars", true),
                    node.FindValue("strip_accents")?.Boolean(), Flag(node, "lowercase", true)));
            case "Precompiled": return ReadCharacterMap(node["precompiled_charsmap"]);
            case "Sequence": return new SequenceNormalizer([.. node["normalizers"].Elements().Select(ReadNormalizer)]);
            case "Replace": return ReadReplace(node);
            case "Strip": return new StripNormalizer(Flag(node, "strip_left", true), Flag(node, "strip_right", true));
            case "Lowercase": return new LowercaseNormalizer();
            case "NFD": return new DecompositionNormalizer();
            default: throw node.Unsupported($"the normalizer '{type}'");
        }
    }

    /// <summary>A pre-tokenizer of any supported kind.</summary>
    public static TextSplitter ReadSplitter(JsonField node)
    {
        string type = node["type"].String();
        return type switch
        {
            "BertPreTokenizer" => new BertSplitter(),
            "WhitespaceSplit" => new WhitespaceSplitter(),
            "Metaspace" => ReadMetaspace(node),
            "Sequence" => new SequenceSplitter([.. node["pretokenizers"].Elements().Select(ReadSplitter)]),
            _ => throw node.Unsupported($"the pre-tokenizer '{type}'"),
        };
    }

    /// <summary>The mark that stands for a blank in a splitter's pieces.</summary>
    public static char Mark(TextSplitter? splitter) => splitter switch
    {
        MetaspaceSplitter metaspace => metaspace.Mark,
        SequenceSplitter sequence => sequence.Parts.OfType<MetaspaceSplitter>().FirstOrDefault()?.Mark ?? DefaultMark,
        _ => DefaultMark,
    };

    /// <summary>A post-processor of any supported kind.</summary>
    public static PairTemplate ReadTemplate(JsonField node)
    {
        string type = node["type"].String();
        switch (type)
        {
            case "TemplateProcessing":
                Dictionary<string, (int[], string[])> special = ReadSpecialTokens(node["special_tokens"]);
                return new PairTemplate(ReadParts(node["single"], special, pair: false), ReadParts(node["pair"], special, pair: true));
            case "BertProcessing":
                (string cls, int clsId) = ReadTokenPair(node["cls"]);
                (string sep, int sepId) = ReadTokenPair(node["sep"]);
                return PairTemplate.Bert(cls, clsId, sep, sepId);
            default: throw node.Unsupported($"the post-processor '{type}'");
        }
    }

    private static bool Flag(JsonField node, string name, bool missing) => node.FindValue(name)?.Boolean() ?? missing;

    private static CharacterMapNormalizer ReadCharacterMap(JsonField node)
    {
        string encoded = node.String();
        byte[] bytes = new byte[encoded.Length / 4 * 3 + 3];
        return Convert.TryFromBase64String(encoded, bytes, out int length)
            ? new CharacterMapNormalizer(new CharacterMap(bytes.AsSpan(0, length), node.File)) : throw node.Wrong("base64");
    }

    private static ReplaceNormalizer ReadReplace(JsonField node)
    {
        JsonField pattern = node["pattern"];
        string? literal = pattern.FindValue("String")?.String(), regex = literal is null ? pattern["Regex"].String() : null;
        try
        {
            return new ReplaceNormalizer(literal ?? regex!, node["content"].String(), literal is not null);
        }
        catch (Exception e) when (e is ArgumentException or NotSupportedException)
        {
            throw pattern.Unsupported($"the regular expression '{regex}'");
        }
    }

    private static MetaspaceSplitter ReadMetaspace(JsonField node)
    {
        string mark = node["replacement"].String();
        if (mark.Length != 1) throw node["replacement"].Wrong("one character of the basic plane");
        PrependScheme scheme = node.FindValue("prepend_scheme")?.String() switch
        {
            null or "always" => PrependScheme.Always,
            "first" => PrependScheme.First,
            "never" => PrependScheme.Never,
            _ => throw node["prepend_scheme"].Wrong("always, first or never"),
        };
        if (!Flag(node, "add_prefix_space", true))
        {
            if (node.FindValue("prepend_scheme") is { } said && scheme != PrependScheme.Never) throw said.Wrong("\"never\" beside add_prefix_space false");
            scheme = PrependScheme.Never;
        }
        return new MetaspaceSplitter(mark[0], scheme, Flag(node, "split", true));
    }

    private static (string, int) ReadTokenPair(JsonField node) => node.Elements().ToArray() is [var token, var id]
        ? (token.String(), id.Number(TokenizerJson.MaxId)) : throw node.Wrong("a pair of token and id");

    private static Dictionary<string, (int[], string[])> ReadSpecialTokens(JsonField node)
    {
        Dictionary<string, (int[], string[])> special = new(StringComparer.Ordinal);
        foreach ((string name, JsonField value) in node.Members())
        {
            int[] ids = [.. value["ids"].Elements().Select(id => id.Number(TokenizerJson.MaxId))];
            string[] tokens = [.. value["tokens"].Elements().Select(token => token.String())];
            if (ids.Length != tokens.Length) throw value.Wrong("as many ids as tokens");
            special[name] = (ids, tokens);
        }
        return special;
    }

    private static TemplatePart[] ReadParts(JsonField node, Dictionary<string, (int[] Ids, string[] Tokens)> special, bool pair)
    {
        List<TemplatePart> parts = [];
        foreach (JsonField part in node.Elements())
        {
            if (part.Find("Sequence") is { } sequence)
            {
                string id = sequence["id"].String();
                if (id is not "A" and not "B") throw sequence["id"].Wrong("\"A\" or \"B\"");
                parts.Add(TemplatePart.Text(id == "A" ? 0 : 1, sequence["type_id"].Number(TokenizerJson.MaxId)));
            }
            else
            {
                JsonField token = part["SpecialToken"];
                string name = token["id"].String();
                if (!special.TryGetValue(name, out (int[] Ids, string[] Tokens) found)) throw token["id"].Wrong("a name of special_tokens");
                parts.Add(new TemplatePart(0, found.Ids, found.Tokens, token["type_id"].Number(TokenizerJson.MaxId)));
            }
        }
        int[] texts = [.. parts.Where(part => part.Tokens is null).Select(part => part.Sequence).Order()];
        return texts.SequenceEqual(pair ? [0, 1] : [0]) ? [.. parts] : throw node.Wrong(pair ? "texts A and B once each" : "text A once");
    }
}
