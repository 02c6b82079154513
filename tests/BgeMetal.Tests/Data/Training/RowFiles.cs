using System.IO.Compression;
using System.Text;
using System.Text.Json;
using BgeMetal.Data;
using BgeMetal.Data.Training;

namespace BgeMetal.Tests.Data.Training;

/// <summary>A temporary folder of training files, with short ways to open them.</summary>
public sealed class RowFiles : IDisposable
{
    internal string Folder { get; } = Directory.CreateTempSubdirectory("bgemetal-").FullName;

    public void Dispose() => Directory.Delete(Folder, recursive: true);

    internal string Write(string name, params IEnumerable<string> lines) => WriteBytes(name, Encoding.UTF8.GetBytes(string.Concat(lines.Select(line => line + "\n"))));

    internal string WriteBytes(string name, byte[] bytes)
    {
        string path = Path.Combine(Folder, name);
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        using Stream file = File.Create(path);
        using Stream stream = name.EndsWith(".gz", StringComparison.Ordinal) ? new GZipStream(file, CompressionLevel.Fastest) : file;
        stream.Write(bytes);
        return path;
    }

    /// <summary>Rows whose token ids tell where they came from: query [10000 + i], positives [20000 + i], negatives [30000 + 100 i + j].</summary>
    internal static IEnumerable<string> TokenRows(int rows, int negatives, int from = 0, string extra = "") =>
        Enumerable.Range(from, rows).Select(i => JsonSerializer.Serialize(Ids(10000 + i)) is string query
            ? $$"""{"query":{{query}},"pos":[{{JsonSerializer.Serialize(Ids(20000 + i))}}],"neg":{{JsonSerializer.Serialize(Enumerable.Range(0, negatives).Select(j => Ids(30000 + 100 * i + j)))}}{{extra}}}"""
            : "");

    internal static TrainingDataSet<TrainingRow> Open(ContrastiveOptions options, InvalidLines? skipped, params IEnumerable<string> paths) =>
        TrainingDataSet<TrainingRow>.Open(paths.Select(path => new TrainingInput(path)), options.Rules(hasTokenizer: true).Read, new TrainingDataOptions { Skipped = skipped, Seed = options.Seed });

    /// <summary>The first ids of queries and passages, with the teacher's scores: all that a batch of <see cref="TokenRows"/> can differ in.</summary>
    internal static string Show(ContrastiveBatch batch) =>
        $"{string.Join(' ', batch.Queries.Select(q => q.Ids.Span[0]))} | {string.Join(' ', batch.Passages.Select(p => p.Ids.Span[0]))} | {string.Join(' ', batch.TeacherScores ?? [])}";

    private static Dictionary<string, int[]> Ids(int id) => new() { ["input_ids"] = [id] };
}
