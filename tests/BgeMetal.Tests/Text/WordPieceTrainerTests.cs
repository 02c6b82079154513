using System.Text.Json;
using BgeMetal.Text;

namespace BgeMetal.Tests.Text;

public sealed class WordPieceTrainerTests
{
    private static IReadOnlyList<string> Train(IEnumerable<string> texts, WordPieceTrainerOptions options)
    {
        WordPieceTrainer trainer = new(options);
        trainer.AddRange(texts);
        return trainer.Train();
    }

    [Fact]
    public void The_most_frequent_pairs_are_joined_in_order()
    {
        IReadOnlyList<string> vocabulary = Train(["hug hug hug hug hug pug pug pug pug bun bun bun"], new() { VocabularySize = 18, MinFrequency = 2 });
        Assert.Equal(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "b", "g", "h", "n", "p", "u", "##g", "##n", "##u", "##ug", "hug", "pug", "bu"], vocabulary);
    }

    [Fact]
    public void The_order_of_the_texts_does_not_matter()
    {
        string[] words = ["alpha", "beta", "gamma", "alphabet", "betas", "gam", "lphab", "\u6211\u4EEC", "stra\u00DFe", "na\u00EFve"];
        Random random = new(1);
        string[] texts = [.. Enumerable.Range(0, 300).Select(_ => string.Join(' ', Enumerable.Range(0, 20).Select(_ => words[random.Next(words.Length)])))];
        Assert.Equal(Train(texts, new() { VocabularySize = 60 }), Train(texts.Reverse(), new() { VocabularySize = 60 }));
    }

    [Fact]
    public void Ideographs_are_entries_of_their_own_and_are_never_joined()
    {
        IReadOnlyList<string> vocabulary = Train(Enumerable.Repeat("\u6211\u4EEC\u7231\u4F60 abab", 5), new() { VocabularySize = 100 });
        foreach (string character in (string[])["\u6211", "\u4EEC", "\u7231", "\u4F60"]) Assert.Contains(character, vocabulary);
        Assert.DoesNotContain(vocabulary, token => token.Any(c => c > 0x3000) && token.Length > 1);
        Assert.Contains("abab", vocabulary);
    }

    [Fact]
    public void Rare_characters_and_pairs_get_no_entry_and_the_size_is_kept()
    {
        IReadOnlyList<string> vocabulary = Train(["aa aa aa bc q"], new() { VocabularySize = 100, MinFrequency = 2 });
        Assert.Equal(["a", "##a", "aa"], vocabulary.Skip(5));
        Assert.Equal(7, Train(["the quick brown fox the quick brown fox"], new() { VocabularySize = 7 }).Count);
    }

    [Fact]
    public void Case_and_accents_are_kept_where_asked()
    {
        Assert.Contains("A", Train(["A A caf\u00E9 caf\u00E9"], new() { Lowercase = false }));
        Assert.Contains("caf\u00E9", Train(["A A caf\u00E9 caf\u00E9"], new() { Lowercase = false }));
        Assert.Contains("cafe", Train(["A A caf\u00E9 caf\u00E9"], new()));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_saved_vocabulary_loads_from_either_form_and_tokenizes_alike(bool lowercase)
    {
        WordPieceTrainer trainer = new(new() { VocabularySize = 60, Lowercase = lowercase, ModelMaxLength = 128 });
        const string Text = "Hello hello world, \u6211\u4EEC caf\u00E9 quoted \"a\\b\" <&> \U0001F600 \U0001F600";
        for (int i = 0; i < 3; i++) trainer.Add(Text);
        using TemporaryFolder folder = new();
        string directory = Path.Combine(folder.Path, "model");
        IReadOnlyList<string> vocabulary = trainer.Train();
        trainer.Save(directory, vocabulary);
        ModelTokenizer json = ModelTokenizer.Load(directory);
        Assert.Equal(4, json.Files.Count);
        int[] ids = json.Encode(Text, "world").InputIds;
        Assert.DoesNotContain(json.UnkId, ids);
        Assert.Equal((0, 1, 2, 3, 4, vocabulary.Count), (json.PadId, json.UnkId, json.ClsId, json.SepId, json.MaskId, json.VocabularySize));
        System.IO.File.Delete(Path.Combine(directory, "tokenizer.json"));
        ModelTokenizer text = ModelTokenizer.Load(directory);
        Assert.Equal(ids, text.Encode(Text, "world").InputIds);
        using JsonDocument config = JsonDocument.Parse(System.IO.File.ReadAllBytes(Path.Combine(directory, "tokenizer_config.json")));
        Assert.Equal(lowercase, config.RootElement.GetProperty("do_lower_case").GetBoolean());
        Assert.Equal(128, config.RootElement.GetProperty("model_max_length").GetInt32());
        Assert.Equal("BertTokenizer", config.RootElement.GetProperty("tokenizer_class").GetString());
        Assert.Equal(JsonValueKind.Null, config.RootElement.GetProperty("strip_accents").ValueKind);
    }

    [Fact]
    public void A_saved_tokenizer_json_has_every_field_of_the_published_ones()
    {
        using TemporaryFolder folder = new();
        WordPieceTrainer trainer = new(new() { VocabularySize = 20 });
        trainer.Add("aa aa");
        trainer.Save(folder.Path, trainer.Train());
        using JsonDocument saved = JsonDocument.Parse(System.IO.File.ReadAllBytes(Path.Combine(folder.Path, "tokenizer.json")));
        using JsonDocument published = JsonDocument.Parse(System.IO.File.ReadAllBytes(
            BgeMetal.Testing.SharedFolder.DataOrSkip("tokenizers", "bge-large-en", "tokenizer.json")));
        foreach (string part in (string[])["version", "truncation", "padding", "normalizer", "pre_tokenizer", "decoder"])
            Assert.True(JsonElement.DeepEquals(published.RootElement.GetProperty(part), saved.RootElement.GetProperty(part)), part);
        foreach (JsonProperty field in published.RootElement.GetProperty("model").EnumerateObject())
            Assert.True(field.Name == "vocab" || JsonElement.DeepEquals(field.Value, saved.RootElement.GetProperty("model").GetProperty(field.Name)), field.Name);
        foreach (string part in (string[])["single", "pair"])
            Assert.True(JsonElement.DeepEquals(published.RootElement.GetProperty("post_processor").GetProperty(part), saved.RootElement.GetProperty("post_processor").GetProperty(part)), part);
        Assert.Equal(5, saved.RootElement.GetProperty("added_tokens").GetArrayLength());
    }

    [Fact]
    public void Bad_options_and_vocabularies_are_refused()
    {
        Assert.Contains("leaves no room", Assert.Throws<BgeMetalException>(() => new WordPieceTrainer(new() { VocabularySize = 5 })).Message, StringComparison.Ordinal);
        Assert.Contains("at least 1", Assert.Throws<BgeMetalException>(() => new WordPieceTrainer(new() { MinFrequency = 0 })).Message, StringComparison.Ordinal);
        using TemporaryFolder folder = new();
        WordPieceTrainer trainer = new();
        Assert.Contains("'[UNK]' is missing", Assert.Throws<BgeMetalException>(() => trainer.Save(folder.Path, ["[PAD]"])).Message, StringComparison.Ordinal);
        Assert.Contains("there twice", Assert.Throws<BgeMetalException>(() => trainer.Save(folder.Path, ["[PAD]", "[PAD]"])).Message, StringComparison.Ordinal);
        Assert.Contains("breaks a line", Assert.Throws<BgeMetalException>(() => trainer.Save(folder.Path, ["a\nb"])).Message, StringComparison.Ordinal);
        Assert.Equal(WordPieceTrainer.SpecialTokens, trainer.Train());
    }
}
