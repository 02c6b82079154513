using System.CommandLine;
using BgeMetal.Cli.Output;
using BgeMetal.Cli.Parsing;
using BgeMetal.Hub;

namespace BgeMetal.Cli;

/// <summary>The options that name a model, and the way from them to a folder.</summary>
internal sealed class ModelOption
{
    private readonly CliOption<string> _model = Opt.RequiredText("--model", "MODEL", "A model's folder, or a hub id such as BAAI/bge-small-en-v1.5 (fetched on first use)",
        "model-name-or-path", "embedder-name-or-path", "reranker-name-or-path", "encoder", "encoder-name", "model-name", "model-id");

    private readonly CliOption<string> _revision = Revision();
    private readonly CliOption<string?> _cache = CacheDirectory();

    public static CliOption<string> Revision() => Opt.TextOr("--revision", "REV", "main", "Branch, tag or commit of a hub id", "model-revision");

    public static CliOption<string?> CacheDirectory() => Opt.Text("--cache-dir", "DIR", "The model cache, instead of HF_HUB_CACHE or HF_HOME/hub", "model-cache-dir");

    public void AddTo(Command command)
    {
        command.Add(_model);
        command.Add(_revision);
        command.Add(_cache);
    }

    /// <summary>Lets a command line leave the model out; asking for it then is wrong usage.</summary>
    public void MakeOptional() => _model.Required = false;

    /// <summary>Whether a model is named.</summary>
    public bool IsGiven(ParseResult parsed) => parsed.GetValue(_model) is not null;

    /// <summary>The model as it was named.</summary>
    public string Name(ParseResult parsed) => parsed.GetValue(_model) ?? throw new UsageException("Option '--model' is required.");

    /// <summary>The model's folder, fetched where it is not here yet.</summary>
    public string Resolve(ParseResult parsed, Terminal terminal) =>
        Resolve(Name(parsed), parsed.GetValue(_revision)!, parsed.GetValue(_cache), terminal);

    /// <summary>The folder of any model given on the command line.</summary>
    public static string Resolve(string model, string revision, string? cache, Terminal terminal)
    {
        if (Directory.Exists(model)) return Path.GetFullPath(model);
        using ModelHub hub = new(Options(cache));
        return Download(terminal, model, progress => hub.ResolveAsync(model, revision, progress, terminal.Cancellation));
    }

    /// <summary>The hub's settings with another cache folder, where one is given.</summary>
    public static HubOptions Options(string? cache)
    {
        HubOptions options = HubOptions.FromEnvironment();
        return cache is null ? options : options with { CacheDirectory = Path.GetFullPath(cache) };
    }

    /// <summary>Runs a download with its progress; the bar appears with the first byte that has to come.</summary>
    public static string Download(Terminal terminal, string model, Func<IProgress<HubProgress>, Task<string>> start)
    {
        using DownloadProgress progress = new(terminal, model);
        return start(progress).GetAwaiter().GetResult();
    }

    private sealed class DownloadProgress(Terminal terminal, string model) : IProgress<HubProgress>, IDisposable
    {
        private const double Megabyte = 1e6;
        private Progress? _bar;
        private long _reported;

        public void Report(HubProgress value)
        {
            if (_bar is null) terminal.Say($"downloading {model}");
            _bar ??= terminal.Watch($"downloading {model}", "MB", (long)Math.Ceiling(value.TotalBytes / Megabyte));
            long megabytes = (long)(value.Bytes / Megabyte);
            _bar.Report(megabytes - _reported);
            _reported = megabytes;
        }

        public void Dispose() => _bar?.Dispose();
    }
}
