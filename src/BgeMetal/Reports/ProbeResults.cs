using System.Globalization;
using System.Text.Json;
using BgeMetal.Files;
using BgeMetal.Kernels.Bench;
using CsvHelper;
using CsvHelper.Configuration;

namespace BgeMetal.Reports;

/// <summary>What a probe found out, as files: everything in JSON, the kernels as CSV too.</summary>
public static class ProbeResults
{
    private static readonly JsonSerializerOptions s_json = new() { WriteIndented = true, PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower, NewLine = "\n" };

    /// <summary>Writes <paramref name="name"/>.json and <paramref name="name"/>_kernels.csv into a folder, each whole or not at all.</summary>
    /// <param name="folder">Made where it is not there.</param>
    /// <param name="name">The files' first name.</param>
    /// <param name="report">What was found out.</param>
    /// <exception cref="BgeMetalException">A file cannot be written.</exception>
    public static void Write(string folder, string name, ProbeReport report)
    {
        ArgumentNullException.ThrowIfNull(report);
        AtomicFile.WriteAllText(Path.Combine(folder, name + ".json"), JsonSerializer.Serialize(report, s_json) + "\n");
        using StringWriter text = new(CultureInfo.InvariantCulture);
        using (CsvWriter csv = new(text, new CsvConfiguration(CultureInfo.InvariantCulture) { NewLine = "\n" })) csv.WriteRecords(report.Kernels);
        AtomicFile.WriteAllText(Path.Combine(folder, name + "_kernels.csv"), text.ToString());
    }

    /// <summary>Reads what <see cref="Write"/> wrote as JSON.</summary>
    /// <exception cref="BgeMetalException">It cannot be read, or is something else.</exception>
    public static ProbeReport Read(string path)
    {
        try
        {
            return JsonSerializer.Deserialize<ProbeReport>(File.ReadAllText(path), s_json) ?? throw new BgeMetalException("cannot read a probe's results", "the file is empty", path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or JsonException)
        {
            throw new BgeMetalException("cannot read a probe's results", e.Message, path, innerException: e);
        }
    }
}
