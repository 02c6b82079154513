using System.CommandLine;
using BgeMetal.Checkpoints;
using BgeMetal.Cli.Output;
using BgeMetal.Cli.Parsing;
using BgeMetal.Retrieval;

namespace BgeMetal.Cli;

/// <summary>The options of every command that embeds: the model, and how it turns texts into vectors.</summary>
internal sealed class EmbedderOptionSet
{
    private readonly ModelOption _model = new();
    private readonly ComputeOptionSet _compute = new();

    private readonly CliOption<string> _pooling = Opt.Choice("--pooling", "How token vectors become one; auto follows the model's files", "auto", ["auto", "cls", "mean"],
        "pooling-method", "sentence-pooling-method");

    private readonly CliOption<bool?> _normalize = Opt.MaybeFlag("--normalize", "Vectors of length 1 (the default)", "normalize-embeddings", "normlized", "normalized");

    private readonly CliOption<int?> _maxLength = Opt.MaybeInt("--max-length", "Tokens a text is cut to, special tokens included; the model's limit, at most 512, by default", 3, 1 << 20,
        "max-len", "max-seq-length", "passage-max-len", "passage-max-length", "embedder-passage-max-length", "max-passage-length",
        "query-max-len", "query-max-length", "embedder-query-max-length");

    private readonly CliOption<int?> _batchTokens = BatchTokens();
    private readonly CliOption<int?> _dimensions = Opt.MaybeInt("--dimensions", "Keep the first N components, normalised again (Matryoshka models)", 1, 1 << 20);
    private readonly CliOption<int> _seed = Opt.Int("--seed", "Seed of everything random", 42, 0, int.MaxValue);

    private ComputeOptions? _settings;

    /// <summary>How many tokens go through a model together.</summary>
    public static CliOption<int?> BatchTokens() =>
        Opt.MaybeInt("--batch-tokens", "Tokens taken through the model at a time, 384 by each CPU thread or 16384 by a GPU by default; results do not depend on it", 1, 1 << 24);

    /// <summary>Adds the options.</summary>
    /// <param name="command">The command.</param>
    /// <param name="model">Whether the command names a model.</param>
    /// <param name="seed">Whether anything in it is random; a seed is accepted everywhere, but shown there only.</param>
    public void AddTo(Command command, bool model = true, bool seed = false)
    {
        if (model) _model.AddTo(command);
        foreach (Option option in (Option[])[_pooling, _normalize, _maxLength, _dimensions, _batchTokens]) command.Add(option);
        _compute.AddTo(command);
        _seed.Hidden = !seed;
        command.Add(_seed);
    }

    /// <summary>Lets a command line leave --model out where nothing is embedded; loading it then is wrong usage.</summary>
    public void MakeModelOptional() => _model.MakeOptional();

    /// <summary>Whether a model is named.</summary>
    public bool HasModel(ParseResult parsed) => _model.IsGiven(parsed);

    /// <summary>The model as it was named.</summary>
    public string ModelName(ParseResult parsed) => _model.Name(parsed);

    /// <summary>Seed of everything random.</summary>
    public int Seed(ParseResult parsed) => parsed.GetValue(_seed);

    /// <summary>Where to compute.</summary>
    public ComputeOptions Compute(ParseResult parsed, Terminal terminal) => _settings ??= _compute.Read(parsed, terminal);

    /// <summary>Loads the model that --model names.</summary>
    public EmbeddingSession Load(ParseResult parsed, Terminal terminal) => Load(parsed, terminal, _model.Resolve(parsed, terminal));

    /// <summary>Loads the model in a folder.</summary>
    public EmbeddingSession Load(ParseResult parsed, Terminal terminal, string directory) => new(terminal, directory, new EmbedderOptions
    {
        Pooling = parsed.GetValue(_pooling) switch { "cls" => PoolingMode.Cls, "mean" => PoolingMode.Mean, _ => null },
        Normalize = parsed.GetValue(_normalize),
        MaxLength = parsed.GetValue(_maxLength),
        BatchTokens = parsed.GetValue(_batchTokens),
        Dimensions = parsed.GetValue(_dimensions),
        Compute = Compute(parsed, terminal),
    });
}
