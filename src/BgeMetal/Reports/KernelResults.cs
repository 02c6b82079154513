using System.Globalization;
using System.Reflection;
using System.Text;
using BgeMetal.Files;
using BgeMetal.Kernels.Bench;
using CsvHelper;
using CsvHelper.Configuration;

namespace BgeMetal.Reports;

/// <summary>kernels.csv: what was measured of single kernels, a line each. Lines are only ever added.</summary>
public static class KernelResults
{
    private static readonly CsvConfiguration s_format = new(CultureInfo.InvariantCulture) { NewLine = "\n" };

    /// <summary>The commit that this program was built from, as far as the build knew; else empty.</summary>
    public static string Commit { get; } = ShortCommit();

    /// <summary>Adds results to a file, which is made with its header line where there is none; the file changes as a whole or not at all.</summary>
    /// <param name="path">The CSV file.</param>
    /// <param name="results">What was measured.</param>
    /// <exception cref="BgeMetalException">The file is another kind of file, or cannot be read or written.</exception>
    public static void Append(string path, IReadOnlyCollection<BenchResult> results)
    {
        ArgumentNullException.ThrowIfNull(results);
        Append(path, results, Commit, DateTime.UtcNow);
    }

    internal static void Append(string path, IReadOnlyCollection<BenchResult> results, string commit, DateTime date)
    {
        string before = File.Exists(path) ? ReadText(path) : "";
        if (before.Length > 0) _ = Parse(path, before);
        using StringWriter text = new(CultureInfo.InvariantCulture);
        text.Write(before);
        if (before.Length > 0 && !before.EndsWith('\n')) text.Write('\n');
        using (CsvWriter csv = new(text, s_format with { HasHeaderRecord = before.Length == 0 }))
            csv.WriteRecords(results.Select(result => KernelResultRow.Of(result, commit, date)));
        AtomicFile.WriteAllText(path, text.ToString());
    }

    /// <summary>All lines of a file, oldest first.</summary>
    /// <exception cref="BgeMetalException">The file cannot be read, or a line is not as expected.</exception>
    internal static IReadOnlyList<KernelResultRow> Read(string path) => Parse(path, ReadText(path));

    private static List<KernelResultRow> Parse(string path, string text)
    {
        using StringReader reader = new(text);
        using CsvReader csv = new(reader, s_format);
        List<KernelResultRow> rows = [];
        try
        {
            while (csv.Read())
            {
                if (csv.Context.Reader?.HeaderRecord is null)
                {
                    csv.ReadHeader();
                    csv.ValidateHeader<KernelResultRow>();
                }
                else
                {
                    rows.Add(csv.GetRecord<KernelResultRow>());
                }
            }
        }
        catch (CsvHelperException e)
        {
            string why = e is HeaderValidationException ? "the header is not that of kernels.csv (op,backend,mode,dtype,shape,..)" : "the line has not the columns that its header names";
            throw new BgeMetalException("kernel results", why, path, csv.Parser.RawRow, e);
        }
        return rows;
    }

    private static string ReadText(string path)
    {
        try
        {
            return File.ReadAllText(path, Encoding.UTF8);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new BgeMetalException("cannot read the kernel results", e.Message, path, innerException: e);
        }
    }

    // The build puts the commit behind the version: 0.1.0+0123456789abcdef...
    private static string ShortCommit()
    {
        string version = typeof(KernelResults).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion ?? "";
        return version.Split('+') is [_, { Length: >= 8 } commit] ? commit[..8] : "";
    }
}
