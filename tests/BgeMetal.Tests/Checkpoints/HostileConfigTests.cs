using System.Text.Json.Nodes;
using BgeMetal.Checkpoints;

namespace BgeMetal.Tests.Checkpoints;

/// <summary>A wrong config.json, shard index or sentence-transformers file is refused with the field, its value and what was expected.</summary>
public sealed class HostileConfigTests : CheckpointFolder
{
    [Theory]
    [InlineData("vocab_size", "null", "field 'vocab_size' is missing, expected an integer from 1 to")]
    [InlineData("vocab_size", "0", "field 'vocab_size' is '0', expected an integer from 1 to 16777216")]
    [InlineData("vocab_size", "99999999999999999999", "field 'vocab_size' is '99999999999999999999'")]
    [InlineData("hidden_size", "-4", "field 'hidden_size' is '-4'")]
    [InlineData("hidden_size", "4.5", "field 'hidden_size' is '4.5'")]
    [InlineData("hidden_size", "\"4\"", "field 'hidden_size' is '\"4\"'")]
    [InlineData("hidden_size", "[4]", "field 'hidden_size' is an array")]
    [InlineData("num_attention_heads", "3", "field 'num_attention_heads' is '3', expected a divisor of hidden_size 4")]
    [InlineData("num_hidden_layers", "2000000000", "field 'num_hidden_layers' is '2000000000', expected an integer from 1 to 1024")]
    [InlineData("intermediate_size", "0", "field 'intermediate_size' is '0'")]
    [InlineData("max_position_embeddings", "0", "field 'max_position_embeddings' is '0'")]
    [InlineData("type_vocab_size", "0", "field 'type_vocab_size' is '0'")]
    [InlineData("layer_norm_eps", "0", "field 'layer_norm_eps' is '0', expected a number above 0 and below 1")]
    [InlineData("layer_norm_eps", "1e999", "field 'layer_norm_eps' is '1e999'")]
    [InlineData("layer_norm_eps", "true", "field 'layer_norm_eps' is 'true'")]
    [InlineData("hidden_dropout_prob", "1", "field 'hidden_dropout_prob' is '1', expected a number from 0 and below 1")]
    [InlineData("classifier_dropout", "-0.1", "field 'classifier_dropout' is '-0.1'")]
    [InlineData("pad_token_id", "11", "field 'pad_token_id' is '11', expected an id below vocab_size 11")]
    [InlineData("hidden_act", "\"gelu_new\"", "field 'hidden_act' is '\"gelu_new\"', expected 'gelu'")]
    [InlineData("hidden_act", "7", "field 'hidden_act' is '7', expected a text")]
    [InlineData("position_embedding_type", "\"relative_key\"", "field 'position_embedding_type' is '\"relative_key\"', expected 'absolute'")]
    [InlineData("model_type", "\"roberta\"", "field 'model_type' is '\"roberta\"', expected 'bert' or 'xlm-roberta'")]
    [InlineData("is_decoder", "true", "field 'is_decoder' is 'true', expected false")]
    [InlineData("is_decoder", "1", "field 'is_decoder' is '1', expected true or false")]
    [InlineData("add_cross_attention", "true", "field 'add_cross_attention' is 'true'")]
    [InlineData("pruned_heads", "{\"0\": [1]}", "field 'pruned_heads' is an object")]
    [InlineData("architectures", "\"BertModel\"", "field 'architectures' is '\"BertModel\"', expected a list")]
    [InlineData("architectures", "[1]", "field 'architectures' is '1', expected a class name")]
    [InlineData("id2label", "[]", "field 'id2label' is an array")]
    [InlineData("id2label", "{}", "field 'id2label' is an object, expected with 1 to")]
    [InlineData("id2label", "{\"7\": \"A\"}", "field 'id2label' has the key '7', expected ids from 0 to 0")]
    public void A_wrong_field_of_config_json_is_named(string field, string value, string expected)
    {
        JsonObject config = JsonNode.Parse(Config)!.AsObject();
        config[field] = JsonNode.Parse(value);
        string path = Write("config.json", config.ToJsonString(new() { Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping }));
        AssertRefused(() => ModelConfig.Load(Folder), path, expected);
    }

    [Theory]
    [InlineData("", "not valid JSON")]
    [InlineData("[]", "the file holds Array at its root, expected a JSON object")]
    [InlineData("{\"model_type\": \"bert\",\n \"vocab_size\": }", "of line 2", "config.json:2)")]
    [InlineData("{\"vocab_size\": 1, \"vocab_size\": 2}", "vocab_size")]
    [InlineData("{\"layer_norm_eps\": NaN}", "not valid JSON")]
    [InlineData("{\"architectures\": [\"GPT2Model\"]}", "field 'model_type' is missing, expected 'bert' or 'xlm-roberta' (and 'architectures' names neither)")]
    public void A_config_json_that_is_no_configuration_is_refused(string text, params string[] expected)
    {
        string path = Write("config.json", text);
        AssertRefused(() => ModelConfig.Load(Folder), path, expected);
    }

    [Fact]
    public void Deep_and_huge_json_is_refused()
    {
        string path = Write("config.json", "{\"a\":" + new string('[', 200_000));
        AssertRefused(() => ModelConfig.Load(Folder), path, "not valid JSON");
        using (FileStream stream = new(path, FileMode.Create)) stream.SetLength(1L << 33);
        AssertRefused(() => ModelConfig.Load(Folder), path, "8589934592 bytes are more than");
    }

    [Fact]
    public void Embedding_tables_that_no_array_could_hold_are_refused()
    {
        string path = Write("config.json", Config.Replace("\"vocab_size\": 11", "\"vocab_size\": 16777216", StringComparison.Ordinal).Replace("\"hidden_size\": 4", "\"hidden_size\": 65536", StringComparison.Ordinal));
        AssertRefused(() => ModelConfig.Load(Folder), path, "field 'vocab_size' is '16777216', expected at most 32767 rows of hidden_size 65536");
    }

    [Fact]
    public void A_missing_directory_config_or_weight_file_is_named()
    {
        string nowhere = Path.Combine(Folder, "nowhere");
        AssertRefused(() => Checkpoint.Open(nowhere).Dispose(), nowhere, "there is no such directory");
        AssertRefused(() => Checkpoint.Open(Folder).Dispose(), Folder, "no config.json");
        Write("config.json", Config);
        AssertRefused(() => Checkpoint.Open(Folder).Dispose(), Folder, "no weights", "pytorch_model.bin");
    }

    [Theory]
    [InlineData("{}", "field 'weight_map' is missing")]
    [InlineData("{\"weight_map\": []}", "field 'weight_map' is missing")]
    [InlineData("{\"weight_map\": {\"a\": 5}}", "tensor 'a': its shard is not a text")]
    [InlineData("{\"weight_map\": {\"a\": \"../x.safetensors\"}}", "tensor 'a': its shard is '../x.safetensors', expected the name of a file beside the index")]
    [InlineData("{\"weight_map\": {\"a\": \"/etc/passwd\"}}", "tensor 'a': its shard is '/etc/passwd'")]
    [InlineData("{\"weight_map\": {\"a\": \"..\\\\x\"}}", "tensor 'a': its shard is '..\\x'")]
    [InlineData("{\"weight_map\": {\"a\": \"..\"}}", "tensor 'a': its shard is '..'")]
    [InlineData("{\"weight_map\": {\"a\": \"\"}}", "tensor 'a': its shard is ''")]
    [InlineData("{\"weight_map\": {\"a\": \"gone.safetensors\"}}", "tensor 'a': its shard 'gone.safetensors' is missing")]
    [InlineData("{\"weight_map\": {\"a\": \"here.safetensors\"}}", "tensor 'a': its shard 'here.safetensors' has no tensor of this name")]
    [InlineData("{\"weight_map\": {\"b\": \"here.safetensors\", \"b\": \"here.safetensors\"}}", "Duplicate property 'b'")]
    [InlineData("{\"weight_map\": {\"b\": \"here.safetensors\"}} x", "not valid JSON")]
    public void A_wrong_shard_index_is_refused(string text, string expected)
    {
        WriteSafetensors("""{"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}""", 4, "here.safetensors");
        string path = Write(WeightFiles.SafetensorsIndex, text);
        AssertRefused(() => WeightFiles.Open(Folder).Dispose(), path, expected);
    }

    [Theory]
    [InlineData("modules.json", "{}", "expected a JSON array")]
    [InlineData("modules.json", "[5]", "field 'module' is '5', expected an object")]
    [InlineData("modules.json", "[]", "it names no Pooling module")]
    [InlineData("modules.json", """[{"path": "1_Pooling"}]""", "field 'type' is missing")]
    [InlineData("modules.json", """[{"type": 3, "path": "1_Pooling"}]""", "field 'type' is '3'")]
    [InlineData("modules.json", """[{"type": "sentence_transformers.models.Dense", "path": "2_Dense"}]""", "field 'type' is '\"sentence_transformers.models.Dense\"'")]
    [InlineData("modules.json", """[{"type": "sentence_transformers.models.Pooling", "path": "../../x"}]""", "field 'path' is '\"../../x\"', expected the name of a folder")]
    [InlineData("modules.json", """[{"type": "sentence_transformers.models.Pooling", "path": "gone"}]""", "gone")]
    [InlineData("1_Pooling/config.json", """{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": true}""", "2 pooling modes are true ('cls_token', 'mean_tokens')")]
    [InlineData("1_Pooling/config.json", """{"pooling_mode_cls_token": false}""", "no pooling mode is true")]
    [InlineData("1_Pooling/config.json", """{"pooling_mode_max_tokens": true}""", "the pooling mode is 'max_tokens', expected 'cls_token' or 'mean_tokens'")]
    [InlineData("1_Pooling/config.json", """{"pooling_mode_lasttoken": true}""", "the pooling mode is 'lasttoken'")]
    [InlineData("1_Pooling/config.json", """{"pooling_mode_cls_token": 1}""", "field 'pooling_mode_cls_token' is '1', expected true or false")]
    [InlineData("1_Pooling/config.json", """{"pooling_mode_mean_tokens": true, "include_prompt": false}""", "field 'include_prompt' is 'false'")]
    [InlineData("1_Pooling/config.json", """{"pooling_mode_cls_token": true, "word_embedding_dimension": 8}""", "field 'word_embedding_dimension' is '8', expected hidden_size 4")]
    [InlineData("sentence_bert_config.json", """{"max_seq_length": 0}""", "field 'max_seq_length' is '0'")]
    [InlineData("sentence_bert_config.json", """{"max_seq_length": "x"}""", "field 'max_seq_length' is '\"x\"'")]
    [InlineData("config_sentence_transformers.json", """{"prompts": []}""", "field 'prompts' is an array")]
    [InlineData("config_sentence_transformers.json", """{"prompts": {"query": 5}}""", "field 'query' is '5', expected a text")]
    public void A_wrong_file_of_sentence_transformers_is_refused(string name, string text, string expected)
    {
        CheckpointWriter.Save(Folder, Model(), TinyTensors(), PoolingMode.Cls, normalize: true, maxSeqLength: 7, []);
        Write(name, text);
        AssertRefused(() => Checkpoint.Open(Folder).Dispose(), Folder, expected);
    }

    [Fact]
    public void Weights_that_do_not_fit_the_configuration_are_named_with_both_shapes()
    {
        CheckpointWriter.Save(Folder, Model(), TinyTensors(), null, normalize: false, maxSeqLength: 7, []);
        string weights = Path.Combine(Folder, "model.safetensors");
        Write("config.json", Config.Replace("\"vocab_size\": 11", "\"vocab_size\": 12", StringComparison.Ordinal));
        AssertRefused(() => Checkpoint.Open(Folder).Dispose(), weights, "tensor 'embeddings.word_embeddings.weight': its shape is [11, 4], expected [12, 4]");
        Write("config.json", Config.Replace("\"num_hidden_layers\": 1", "\"num_hidden_layers\": 2", StringComparison.Ordinal));
        AssertRefused(() => Checkpoint.Open(Folder).Dispose(), weights, "tensor 'encoder.layer.1.attention.self.query.weight': the checkpoint has no tensor");
    }

    private ModelConfig Model()
    {
        Write("source/config.json", Config);
        ModelConfig config = ModelConfig.Load(Path.Combine(Folder, "source"));
        Directory.Delete(Path.Combine(Folder, "source"), recursive: true);
        return config;
    }
}
