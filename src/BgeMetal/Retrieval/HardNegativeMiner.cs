using System.Diagnostics;
using System.Text.Json;
using BgeMetal.Data;
using BgeMetal.Files;
using BgeMetal.Retrieval.Mining;
using BgeMetal.Tensors;

namespace BgeMetal.Retrieval;

/// <summary>
/// Mines hard negatives as FlagEmbedding's hn_mine does: the corpus is searched exactly for every query, and negatives are drawn from a range of ranks, without
/// the row's positives and its query. Vectors lie on disk and memory does not grow with them; an interrupted run with the same inputs and options goes on where
/// it was and gives the same file. Unlike in hn_mine no negative appears twice in a row.
/// </summary>
public sealed class HardNegativeMiner
{
    private const int MaxHits = 1 << 22;              // of one search: 48 MiB a thread
    private readonly HardNegativeOptions _options;
    private readonly EmbedTexts _embed;
    private readonly int _dimensions;
    private readonly int _threads;
    private readonly Func<string, IReadOnlyList<string>, float[]>? _rerank;
    private readonly InvalidLines? _skipped;
    private readonly Device? _device;

    internal HardNegativeMiner(HardNegativeOptions options, EmbedTexts embed, int dimensions, int threads, Func<string, IReadOnlyList<string>, float[]>? rerank, InvalidLines? skipped,
        Device? device = null)
    {
        (_options, _embed, _dimensions, _threads, _rerank, _skipped, _device) = (options, embed, dimensions, threads, rerank, skipped, device);
    }

    /// <summary>Rows that are mined at a time, and lost at most when the run is stopped.</summary>
    internal int BlockRows { get; init; } = 1024;

    /// <summary>Mines and writes the output file.</summary>
    /// <param name="embedder">Gives the vectors.</param>
    /// <param name="options">What to mine, and how.</param>
    /// <param name="reranker">Refuses candidates it finds as relevant as a positive; null for none. Must give logits, not probabilities.</param>
    /// <param name="skipped">Counts malformed rows, with <see cref="HardNegativeOptions.SkipInvalid"/>.</param>
    /// <param name="progress">Told how many more texts are embedded; called from several threads.</param>
    /// <param name="cancellationToken">Stops between chunks; what is finished stays in the work folder.</param>
    /// <exception cref="BgeMetalException">A malformed row (with file and line), an option out of range, an empty corpus, or a file that cannot be written.</exception>
    public static HardNegativeReport Run(Embedder embedder, HardNegativeOptions options, Reranker? reranker = null, InvalidLines? skipped = null,
        IProgress<long>? progress = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(embedder);
        ArgumentNullException.ThrowIfNull(options);
        EmbeddingRun done = default;
        HardNegativeMiner miner = new(options with { QueryInstruction = options.QueryInstruction ?? embedder.QueryInstruction }, (texts, instruction) =>
        {
            float[] vectors = new float[checked(texts.Count * embedder.Dimensions)];
            done += embedder.Embed(texts, instruction, vectors, progress, cancellationToken);
            return vectors;
        }, embedder.Dimensions, embedder.Threads, reranker is null ? null : (query, passages) => reranker.Score(query, passages, cancellationToken), skipped,
            options.UseGpuForSearching ? embedder.ComputesOn : null);
        long start = Stopwatch.GetTimestamp();
        string models = string.Join('\n', FilesOf(embedder.ModelDirectory).Concat(reranker is null ? [] : FilesOf(reranker.ModelDirectory)));
        HardNegativeReport report = miner.Run($"{models}\n{embedder.Pooling} {embedder.Normalize} {embedder.MaxLength} {reranker?.MaxLength} {embedder.Device.DType}", cancellationToken);
        return report with { Run = done with { Seconds = Stopwatch.GetElapsedTime(start).TotalSeconds } };
    }

    /// <summary>Mines; <paramref name="model"/> stands for everything that the vectors depend on besides the texts.</summary>
    internal HardNegativeReport Run(string model, CancellationToken ct)
    {
        _options.Validate();
        string work = _options.WorkDirectory ?? Path.GetFullPath(_options.OutputFile) + ".work";
        // Where the search runs changes nothing, so a run may go on elsewhere.
        MiningFolder folder = MiningFolder.Open(work, string.Join('\n', model, _dimensions, _options with { WorkDirectory = null, UseGpuForSearching = false }, BlockRows, MiningCorpus.ShardRows,
            MiningFolder.Describe(_options.InputFile), _options.CandidatePool is null ? "" : MiningFolder.Describe(_options.CandidatePool)));
        HardNegativeReport total;
        int blocks = 0;
        using (MiningCorpus corpus = MiningCorpus.Build(CorpusTexts(), folder, _embed, _dimensions, _threads, _device, ct))
        {
            total = new HardNegativeReport { CorpusTexts = corpus.Count };
            NegativeSelector selector = new(corpus, _options, _rerank);
            long first = 0;
            // The malformed rows were counted when the corpus was read, or are counted here when it comes from a pool.
            InvalidLines? skipped = _options.CandidatePool is null && _skipped is not null ? new InvalidLines() : _skipped;
            foreach (MiningRow[] block in MiningRow.Read(_options.InputFile, skipped).Chunk(BlockRows))
            {
                ct.ThrowIfCancellationRequested();
                if (corpus.Count == 0) throw new BgeMetalException("nothing to mine in", "the candidate pool has no text", _options.CandidatePool);
                total = total.Plus(Finished(folder, blocks) ?? Mine(folder, blocks, block, first, corpus, selector, ct));
                first += block.Length;
                blocks++;
            }
        }
        folder.Join("rows", blocks, "jsonl", _options.OutputFile);
        if (_options.ReportFile is { } report) folder.Join("suspects", blocks, "jsonl", report);
        folder.Delete();
        return total;
    }

    private IEnumerable<TextInput> CorpusTexts()
    {
        if (_options.CandidatePool is { } pool) return TextInputReader.Read(pool, _skipped);
        return MiningRow.Read(_options.InputFile, _skipped)
            .SelectMany(row => row.Positives.Concat(row.Negatives).Select(text => text.ToInput(row.Place.File, row.Place.Line)));
    }

    private static HardNegativeReport? Finished(MiningFolder folder, int block) => File.Exists(folder.Part("rows", block, "jsonl"))
        ? JsonSerializer.Deserialize<HardNegativeReport>(File.ReadAllBytes(folder.Part("tally", block, "json")))
        : null;

    /// <summary>Mines one block of rows and leaves its parts in the folder, the rows last: where they are, the others are.</summary>
    private HardNegativeReport Mine(MiningFolder folder, int number, MiningRow[] rows, long first, MiningCorpus corpus, NegativeSelector selector, CancellationToken ct)
    {
        float[] queries = _embed(Array.ConvertAll(rows, row => row.Query.ToInput(row.Place.File, row.Place.Line)), _options.QueryInstruction);
        Dictionary<MiningText, float[]>? positives = _options.NeedsPositives ? Vectors(rows, corpus) : null;
        HardNegativeReport tally = new();
        using AtomicFile output = AtomicFile.Create(folder.Part("rows", number, "jsonl"));
        using MemoryStream suspects = new();
        int k = (int)Math.Min(_options.RangeEnd, corpus.Count), atATime = Math.Clamp(MaxHits / k, 1, rows.Length);
        long[] hits = new long[atATime * k];
        float[] scores = new float[hits.Length];
        for (int i = 0; i < rows.Length; i++)
        {
            int at = i % atATime, count = Math.Min(atATime, rows.Length - i);
            if (at == 0) corpus.Search(queries.AsSpan(i * _dimensions, count * _dimensions), k, hits.AsSpan(0, count * k), scores.AsSpan(0, count * k), ct);
            ct.ThrowIfCancellationRequested();
            Selection chosen = selector.Select(rows[i], first + i, queries.AsSpan(i * _dimensions, _dimensions), hits.AsSpan(at * k, k), scores.AsSpan(at * k, k),
                positives is null ? null : Array.ConvertAll(rows[i].Positives, text => positives[text]));
            rows[i].Write(output.Stream, chosen.Negatives);
            if (chosen.Suspects.Count > 0) Write(suspects, rows[i], chosen);
            tally = tally.Plus(chosen.Tally);
        }
        AtomicFile.WriteAllBytes(folder.Part("suspects", number, "jsonl"), suspects.GetBuffer().AsSpan(0, (int)suspects.Length));
        AtomicFile.WriteAllBytes(folder.Part("tally", number, "json"), JsonSerializer.SerializeToUtf8Bytes(tally));
        output.Commit();
        return tally;
    }

    /// <summary>The vectors of all positives of a block: those of the corpus where it has them.</summary>
    private Dictionary<MiningText, float[]> Vectors(MiningRow[] rows, MiningCorpus corpus)
    {
        Dictionary<MiningText, float[]> vectors = [];
        List<(MiningText Text, MiningRow Row)> missing = [];
        foreach (MiningRow row in rows)
            foreach (MiningText text in row.Positives)
                if (vectors.TryAdd(text, []))
                {
                    if (corpus.TryFind(text, out long at)) vectors[text] = corpus.VectorAt(at);
                    else missing.Add((text, row));
                }
        float[] made = missing.Count == 0 ? [] : _embed([.. missing.Select(item => item.Text.ToInput(item.Row.Place.File, item.Row.Place.Line))], null);
        for (int i = 0; i < missing.Count; i++) vectors[missing[i].Text] = made[(i * _dimensions)..((i + 1) * _dimensions)];
        return vectors;
    }

    private static void Write(Stream output, MiningRow row, Selection chosen)
    {
        using Utf8JsonWriter json = new(output, MiningRow.WriterOptions);
        json.WriteStartObject();
        json.WriteNumber("line"u8, row.Place.Line);
        json.WritePropertyName("query"u8);
        row.Query.Write(json);
        json.WriteNumber("positive_score"u8, chosen.LowestPositive);
        json.WriteStartArray("suspects"u8);
        foreach (Suspect suspect in chosen.Suspects)
        {
            json.WriteStartObject();
            json.WritePropertyName("text"u8);
            suspect.Text.Write(json);
            json.WriteNumber("score"u8, suspect.Score);
            json.WriteEndObject();
        }
        json.WriteEndArray();
        json.WriteEndObject();
        json.Flush();
        output.Write("\n"u8);
    }

    private static IEnumerable<string> FilesOf(string directory) =>
        Directory.EnumerateFiles(directory).Where(file => !Path.GetFileName(file).StartsWith('.')).Order(StringComparer.Ordinal).Select(MiningFolder.Describe);
}
