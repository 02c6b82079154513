using System.Globalization;
using System.Security.Cryptography;
using BgeMetal.Data;
using BgeMetal.Retrieval;
using BgeMetal.Retrieval.Mining;

namespace BgeMetal.Benchmarks.Search;

/// <summary>A training file and a pool of passages whose texts are numbers, and mining in them with vectors that are functions of those numbers.</summary>
internal sealed class MinedFiles
{
    private readonly string folder;
    private readonly int threads;
    private readonly SyntheticVectors passages;
    private readonly SyntheticVectors queries;
    private readonly int ranks;

    /// <summary>Writes the two files.</summary>
    public MinedFiles(string folder, int queryCount, int passageCount, int dimensions, int ranks, int threads)
    {
        (this.folder, this.ranks, this.threads) = (folder, ranks, threads);
        (queries, passages) = (Queries(dimensions), Passages(dimensions));
        File.WriteAllLines(At("rows.jsonl"), Enumerable.Range(0, queryCount).Select(i => $$"""{"query":"q{{i}}","pos":["p{{i % passageCount}}"],"neg":[]}"""));
        File.WriteAllLines(At("pool.jsonl"), Enumerable.Range(0, passageCount).Select(i => $$"""{"text":"p{{i}}"}"""));
    }

    /// <summary>The vectors of the passages.</summary>
    public static SyntheticVectors Passages(int dimensions) => new(dimensions, seed: 1);

    /// <summary>The vectors of the queries.</summary>
    public static SyntheticVectors Queries(int dimensions) => new(dimensions, seed: 2);

    /// <summary>Mines from an empty work folder; with <paramref name="stopAfter"/> stops when so many queries are done, and goes on.</summary>
    /// <returns>The hash of the mined file.</returns>
    public byte[] Mine(string name, int? stopAfter)
    {
        HardNegativeOptions options = new()
        {
            InputFile = At("rows.jsonl"),
            OutputFile = At(name),
            CandidatePool = At("pool.jsonl"),
            WorkDirectory = At("work"),
            RangeStart = 0,
            RangeEnd = ranks,
            QueryInstruction = "",
        };
        if (stopAfter is int most)
        {
            int done = 0;
            try
            {
                Run(options, (texts, instruction) => instruction is not null && (done += texts.Count) > most ? throw new OperationCanceledException() : Embed(texts));
                throw new BgeMetalException("mining", "the run was not stopped");
            }
            catch (OperationCanceledException)
            {
                // As asked for; the work folder stays.
            }
        }
        Run(options, (texts, _) => Embed(texts));
        using FileStream mined = File.OpenRead(options.OutputFile);
        return SHA256.HashData(mined);
    }

    private void Run(HardNegativeOptions options, EmbedTexts embed) => new HardNegativeMiner(options, embed, passages.Dimensions, threads, null, null).Run("synthetic", CancellationToken.None);

    private float[] Embed(IReadOnlyList<TextInput> texts)
    {
        int dimensions = passages.Dimensions;
        float[] vectors = GC.AllocateUninitializedArray<float>(texts.Count * dimensions);
        Parallel.For(0, texts.Count, i =>
        {
            string text = texts[i].Text!;
            (text[0] == 'p' ? passages : queries).Fill(long.Parse(text.AsSpan(1), NumberStyles.None, CultureInfo.InvariantCulture), vectors.AsSpan(i * dimensions, dimensions));
        });
        return vectors;
    }

    private string At(string name) => Path.Combine(folder, name);
}
