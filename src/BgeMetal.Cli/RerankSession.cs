using System.Diagnostics;
using BgeMetal.Cli.Output;
using BgeMetal.Data;
using BgeMetal.Retrieval;

namespace BgeMetal.Cli;

/// <summary>A loaded reranker with the accounts of a command.</summary>
internal sealed class RerankSession : IDisposable
{
    private readonly Terminal _terminal;
    private readonly Stopwatch _work;
    private readonly RerankInstructions _instructions;
    private readonly Lock _gate = new();
    private EmbeddingRun _done;

    public RerankSession(Terminal terminal, string directory, RerankerOptions options, RerankInstructions? instructions = null)
    {
        (_terminal, _instructions) = (terminal, instructions ?? RerankInstructions.None);
        Stopwatch loading = Stopwatch.StartNew();
        Reranker = Reranker.Load(directory, options);
        LoadSeconds = loading.Elapsed.TotalSeconds;
        ComputeOptionSet.Tell(terminal, Reranker.Device);
        _work = Stopwatch.StartNew();
    }

    /// <summary>The model.</summary>
    public Reranker Reranker { get; }

    /// <summary>Seconds that loading took.</summary>
    public double LoadSeconds { get; }

    /// <summary>The scores of each row's passages, in the order of rows and passages; texts and ready-made tokens may be mixed.</summary>
    public float[][] Score(IReadOnlyList<RerankInput> rows, IProgress<long>? progress)
    {
        List<(string Query, string Passage)> texts = [];
        List<TextInput> tokens = [];
        foreach (RerankInput row in rows)
        {
            if (row.InputIds is { } ids) tokens.Add(new TextInput { Id = row.Id, InputIds = ids, Source = row.Source, Line = row.Line });
            else texts.AddRange(row.Passages.Select(passage => (_instructions.ToQuery(row.Query!), _instructions.ToPassage(passage))));
        }
        float[] ofTexts = texts.Count == 0 ? [] : Count(Reranker.ScorePairs(texts, progress, _terminal.Cancellation));
        float[] ofTokens = tokens.Count == 0 ? [] : Count(Reranker.ScoreTokens(tokens, progress, _terminal.Cancellation));
        int text = 0, token = 0;
        return [.. rows.Select(row => row.InputIds is not null ? ofTokens[token..++token] : ofTexts[text..(text += row.Passages.Count)])];
    }

    /// <summary>What was done so far.</summary>
    public RunStatistics Statistics() => new()
    {
        Texts = _done.Texts,
        Tokens = _done.Tokens,
        Seconds = _work.Elapsed.TotalSeconds,
        LoadSeconds = LoadSeconds,
        Device = Reranker.Device.Name,
        Dtype = Reranker.Device.DType,
        Threads = Reranker.Threads,
        KernelTimes = Reranker.KernelTimes,
    };

    /// <inheritdoc/>
    public void Dispose() => Reranker.Dispose();

    private float[] Count((float[] Scores, EmbeddingRun Run) result)
    {
        lock (_gate) _done += result.Run;
        return result.Scores;
    }
}
