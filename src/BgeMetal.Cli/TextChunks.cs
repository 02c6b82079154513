using BgeMetal.Checkpoints;
using BgeMetal.Cli.Output;
using BgeMetal.Data;

namespace BgeMetal.Cli;

/// <summary>
/// A stream of texts in pieces that fit into memory. The first piece is read at once, so that a bad input is found before a model is loaded, and so
/// that the total is known when it is all there is.
/// </summary>
internal sealed class TextChunks : IDisposable
{
    private const int MaxTexts = 16_384;
    private const long MaxCharacters = 32 << 20;
    private readonly IEnumerator<TextInput> _texts;
    private readonly InvalidLines? _skipped;
    private List<TextInput>? _next;
    private bool _ended;
    private long _unfit;
    private TextInput _firstUnfit;

    private TextChunks(IEnumerable<TextInput> texts, InvalidLines? skipped)
    {
        _texts = texts.GetEnumerator();
        _skipped = skipped;
        _next = Fill();
    }

    /// <summary>How many texts there are; null when they are more than one piece.</summary>
    public long? Total => _ended ? _next?.Count ?? 0 : null;

    /// <summary>Reads files one after another.</summary>
    /// <param name="paths">Files, or "-" for standard input.</param>
    /// <param name="skipInvalid">Count bad lines instead of failing at the first.</param>
    public static TextChunks Open(IReadOnlyList<string> paths, bool skipInvalid)
    {
        InvalidLines? skipped = skipInvalid ? new InvalidLines() : null;
        return new TextChunks(paths.SelectMany(path => TextInputReader.Read(path, skipped)), skipped);
    }

    /// <summary>Texts that are in memory anyway.</summary>
    public static TextChunks Of(IEnumerable<TextInput> texts) => new(texts, null);

    /// <summary>The next piece, or null at the end.</summary>
    public IReadOnlyList<TextInput>? Next()
    {
        List<TextInput>? piece = _next ?? (_ended ? null : Fill());
        _next = null;
        return piece is { Count: > 0 } ? piece : null;
    }

    /// <summary>
    /// With --skip-invalid: the texts without those whose ready-made tokens the model cannot take, which are counted. Without it: all, and the model
    /// names the bad one.
    /// </summary>
    public IReadOnlyList<TextInput> Fitting(IReadOnlyList<TextInput> texts, ModelConfig config)
    {
        if (_skipped is null) return texts;
        List<TextInput> fitting = new(texts.Count);
        foreach (TextInput text in texts)
        {
            if (text.InputIds is not { } ids || (ids.Length <= config.LongestSequence && !ids.Any(id => id >= config.VocabSize))) fitting.Add(text);
            else if (_unfit++ == 0) _firstUnfit = text;
        }
        return fitting;
    }

    /// <summary>Says how many lines were passed over, if any.</summary>
    public void ReportSkipped(Terminal terminal)
    {
        ReportSkipped(terminal, _skipped);
        if (_unfit > 0) terminal.Warn($"{Terminal.Count(_unfit)} row{(_unfit == 1 ? "" : "s")} of tokens that the model cannot take skipped; the first: {_firstUnfit.Source}:{_firstUnfit.Line}");
    }

    /// <summary>Says how many lines were passed over, if any.</summary>
    public static void ReportSkipped(Terminal terminal, InvalidLines? skipped)
    {
        if (skipped is { Count: > 0 }) terminal.Warn($"{Terminal.Count(skipped.Count)} bad line{(skipped.Count == 1 ? "" : "s")} skipped; the first: {skipped.First?.Message}");
    }

    /// <inheritdoc/>
    public void Dispose() => _texts.Dispose();

    private List<TextInput> Fill()
    {
        List<TextInput> piece = [];
        long characters = 0;
        while (piece.Count < MaxTexts && characters < MaxCharacters)
        {
            if (!_texts.MoveNext())
            {
                _ended = true;
                break;
            }
            piece.Add(_texts.Current);
            characters += (_texts.Current.Text?.Length ?? 0) + (_texts.Current.InputIds?.Length ?? 0);
        }
        return piece;
    }
}
