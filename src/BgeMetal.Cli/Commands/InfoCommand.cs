using System.CommandLine;
using System.Globalization;
using System.Text.Json;
using BgeMetal.Checkpoints;
using BgeMetal.Cli.Output;
using BgeMetal.Cli.Parsing;
using BgeMetal.Retrieval;
using BgeMetal.Text;

namespace BgeMetal.Cli.Commands;

/// <summary><c>info</c>: what a model is and how much memory it takes; its weights are not read.</summary>
internal static class InfoCommand
{
    private const int EmbeddingTokens = 384, TrainingTokens = 8192;

    public static Command Create(Terminal terminal)
    {
        Argument<string> model = new("MODEL") { Description = "A model's folder, or a hub id (fetched on first use)" };
        CliOption<string> revision = ModelOption.Revision();
        CliOption<string?> cache = ModelOption.CacheDirectory();
        CliOption<int?> batchTokens = Opt.MaybeInt("--batch-tokens", $"Tokens at a time, for the memory needed; by default {EmbeddingTokens} a thread for embedding and {TrainingTokens} a step for training", 1, 1 << 24);
        CliOption<int> threads = Opt.Int("--threads", "Threads, for the memory needed; 0 for one a core", 0, 0, 1024);
        CliOption<string> dtype = Opt.Choice("--dtype", "Precision, for the memory needed: a GPU has all three", "fp32", ["fp32", "bf16", "fp16"]);
        CliOption<string> format = Opt.Choice("--format", "Lines to read, or JSON", "text", ["text", "json"]);
        Command command = new("info", "Show a model's configuration, parameters, files, tokenizer, pooling and need for memory") { model, revision, cache, batchTokens, threads, dtype, format };
        command.SetAction(parsed =>
        {
            ModelInfo info = ModelInfo.Load(ModelOption.Resolve(parsed.GetRequiredValue(model), parsed.GetValue(revision)!, parsed.GetValue(cache), terminal));
            List<(string Name, object? Value)> facts = Facts(info, parsed.GetValue(batchTokens), parsed.GetValue(threads) is var n and > 0 ? n : Environment.ProcessorCount, parsed.GetValue(dtype)!);
            if (parsed.GetValue(format) == "json") WriteJson(terminal, facts, info);
            else WriteText(terminal, facts, info);
            return ExitCode.Done;
        });
        return command;
    }

    private static List<(string, object?)> Facts(ModelInfo info, int? batchTokens, int threads, string dtype)
    {
        int elementBytes = dtype == "fp32" ? 4 : 2;
        ModelConfig config = info.Config;
        (string tokenizer, int? vocabulary) = Tokenizer(info.Directory);
        int embedding = batchTokens ?? EmbeddingTokens, training = batchTokens ?? TrainingTokens;
        return
        [
            ("directory", info.Directory),
            ("model_type", config.ModelType),
            ("architectures", string.Join(", ", config.Architectures)),
            ("layers", (long)config.NumHiddenLayers),
            ("hidden_size", (long)config.HiddenSize),
            ("heads", (long)config.NumAttentionHeads),
            ("intermediate_size", (long)config.IntermediateSize),
            ("vocabulary", (long)config.VocabSize),
            ("positions", (long)config.MaxPositionEmbeddings),
            ("max_length", (long)info.MaxSequenceLength),
            ("layer_norm_eps", config.LayerNormEps),
            ("pooling", info.Pooling?.ToString().ToLowerInvariant()),
            ("normalize", info.Normalize),
            ("classification_labels", info.HasClassifier ? (long)config.NumLabels : null),
            ("masked_language_head", info.HasLanguageModelHead),
            ("encoder_parameters", info.EncoderParameters),
            ("stored_parameters", info.StoredParameters),
            ("stored_as", string.Join(", ", info.StorageTypes.OrderByDescending(t => t.Value).Select(t => t.Key))),
            ("tokenizer", tokenizer),
            ("tokenizer_vocabulary", vocabulary is { } size ? (long)size : null),
            ("embedding_batch_tokens", (long)embedding),
            ("embedding_threads", (long)threads),
            ("embedding_bytes", info.EmbeddingBytes(embedding, threads, elementBytes)),
            ("training_batch_tokens", (long)training),
            ("training_bytes", info.TrainingBytes(training, elementBytes)),
            ("dtype", dtype),
            ("gpus", string.Join(", ", ComputeOptions.Gpus)),
        ];
    }

    private static (string Description, int? Vocabulary) Tokenizer(string directory)
    {
        try
        {
            ModelTokenizer tokenizer = ModelTokenizer.Load(directory);
            return (string.Join(", ", tokenizer.Files.Select(Path.GetFileName)), tokenizer.VocabularySize);
        }
        catch (BgeMetalException e)
        {
            return ("none: " + e.Message, null);
        }
    }

    private static void WriteText(Terminal terminal, List<(string Name, object? Value)> facts, ModelInfo info)
    {
        int width = facts.Max(fact => fact.Name.Length);
        foreach ((string name, object? value) in facts) terminal.Out.WriteLine($"{name.Replace('_', ' ').PadRight(width)}  {Text(name, value)}");
        terminal.Out.WriteLine("files");
        foreach (ModelFile file in info.Files) terminal.Out.WriteLine($"{Bytes(file.SizeBytes),12}  {file.Name}");
    }

    private static string Text(string name, object? value) => value switch
    {
        null or "" => "-",
        true => "yes",
        false => "no",
        long bytes when name.EndsWith("_bytes", StringComparison.Ordinal) => Bytes(bytes),
        long count => count.ToString("N0", CultureInfo.InvariantCulture),
        _ => Convert.ToString(value, CultureInfo.InvariantCulture)!,
    };

    private static string Bytes(long bytes) => bytes switch
    {
        >= 1_000_000_000 => (bytes / 1e9).ToString("0.00 GB", CultureInfo.InvariantCulture),
        >= 1_000_000 => (bytes / 1e6).ToString("0.0 MB", CultureInfo.InvariantCulture),
        >= 1_000 => (bytes / 1e3).ToString("0.0 kB", CultureInfo.InvariantCulture),
        _ => bytes.ToString(CultureInfo.InvariantCulture) + " B",
    };

    private static void WriteJson(Terminal terminal, List<(string Name, object? Value)> facts, ModelInfo info)
    {
        terminal.FlushResults();
        using (Utf8JsonWriter json = new(terminal.Results, new JsonWriterOptions { Indented = true, NewLine = "\n", Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
        {
            json.WriteStartObject();
            foreach ((string name, object? value) in facts)
            {
                json.WritePropertyName(name);
                JsonSerializer.Serialize(json, value);
            }
            json.WriteStartArray("files");
            foreach (ModelFile file in info.Files)
            {
                json.WriteStartObject();
                json.WriteString("name", file.Name);
                json.WriteNumber("bytes", file.SizeBytes);
                json.WriteEndObject();
            }
            json.WriteEndArray();
            json.WriteEndObject();
        }
        terminal.Results.Write("\n"u8);
    }
}
