using System.Text.Json.Nodes;
using BgeMetal.Checkpoints;

namespace BgeMetal.Tests.Checkpoints;

/// <summary>config.json is read with transformers' meanings and defaults, and written so that nothing is lost.</summary>
public sealed class ModelConfigTests : CheckpointFolder
{
    [Fact]
    public void Every_field_has_its_property()
    {
        ModelConfig config = Load(Config);
        Assert.Equal(ModelConfig.Bert, config.ModelType);
        Assert.Equal((11, 4, 1, 2, 6, 7, 2), (config.VocabSize, config.HiddenSize, config.NumHiddenLayers, config.NumAttentionHeads, config.IntermediateSize, config.MaxPositionEmbeddings, config.TypeVocabSize));
        Assert.Equal(1e-12, config.LayerNormEps);
        Assert.Equal(0.1, config.ClassifierDropout);
        Assert.Equal(2, config.NumLabels);
        Assert.Equal(["BertModel"], config.Architectures);
        Assert.Equal((2, 0, 7), (config.HeadSize, config.FirstPosition, config.LongestSequence));
    }

    [Fact]
    public void XLM_RoBERTa_counts_positions_from_behind_the_padding_id()
    {
        ModelConfig config = Load("""{"architectures": ["XLMRobertaModel"], "vocab_size": 9, "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 4, "max_position_embeddings": 514, "layer_norm_eps": 1e-05, "pad_token_id": 1}""");
        Assert.Equal(ModelConfig.XlmRoberta, config.ModelType);
        Assert.Equal((2, 512), (config.FirstPosition, config.LongestSequence));
    }

    [Theory]
    [InlineData("BertForMaskedLM", "bert")]
    [InlineData("BertModel", "bert")]
    [InlineData("XLMRobertaForSequenceClassification", "xlm-roberta")]
    public void The_architecture_stands_in_for_a_missing_model_type(string architecture, string expected)
    {
        JsonObject json = JsonNode.Parse(Config)!.AsObject();
        json.Remove("model_type");
        json["architectures"] = new JsonArray(architecture);
        json["pad_token_id"] = 1;
        Assert.Equal(expected, Load(json.ToJsonString()).ModelType);
    }

    [Fact]
    public void Old_files_without_newer_fields_get_the_defaults()
    {
        ModelConfig config = Load("""{"model_type": "bert", "vocab_size": 9, "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 4, "max_position_embeddings": 5, "hidden_dropout_prob": 0.25}""");
        Assert.Equal((1e-12, 2, 0, 0.1, 0.25, 0.02), (config.LayerNormEps, config.TypeVocabSize, config.PadTokenId, config.AttentionDropoutProb, config.ClassifierDropout, config.InitializerRange));
    }

    [Fact]
    public void A_byte_order_mark_is_harmless()
    {
        Write("config.json", [0xef, 0xbb, 0xbf, .. System.Text.Encoding.UTF8.GetBytes(Config)]);
        Assert.Equal(11, ModelConfig.Load(Folder).VocabSize);
    }

    [Fact]
    public void Writing_keeps_unknown_fields_and_reads_back_the_same()
    {
        JsonObject json = JsonNode.Parse(Config)!.AsObject();
        json["custom"] = JsonNode.Parse("""{"deep": [1, 2.50, "ü"]}""");
        json["id2label"] = JsonNode.Parse("""{"0": "relevance"}""");
        json["label2id"] = JsonNode.Parse("""{"relevance": 0}""");
        ModelConfig config = Load(json.ToJsonString());
        string text = config.ToJson();
        JsonObject written = JsonNode.Parse(text)!.AsObject();
        foreach ((string field, JsonNode? value) in json) Assert.True(JsonNode.DeepEquals(value, written[field]), field);
        Assert.Equal(text, Load(text).ToJson());
        Assert.Contains("\"layer_norm_eps\": 1E-12", text, StringComparison.Ordinal);
        Assert.Contains("\"classifier_dropout\": null", text, StringComparison.Ordinal);
        Assert.EndsWith("}\n", text, StringComparison.Ordinal);
        Assert.DoesNotContain('\r', text);
    }

    [Fact]
    public void Reals_keep_their_decimal_point_and_labels_follow_their_number()
    {
        JsonObject written = JsonNode.Parse((Load(Config) with { HiddenDropoutProb = 0, NumLabels = 1 }).ToJson())!.AsObject();
        Assert.Equal("0.0", written["hidden_dropout_prob"]!.ToJsonString());
        Assert.Equal("""{"0":"LABEL_0"}""", written["id2label"]!.ToJsonString());
        Assert.Equal("""{"LABEL_0":0}""", written["label2id"]!.ToJsonString());
        Assert.Equal(1, Load(written.ToJsonString()).NumLabels);
    }

    private ModelConfig Load(string text)
    {
        Write("config.json", text);
        return ModelConfig.Load(Folder);
    }
}
