using System.Security.Cryptography;
using System.Text;
using BgeMetal.Files;

namespace BgeMetal.Retrieval.Mining;

/// <summary>
/// Finished parts of a mining run on disk. Every part appears whole or not at all, so a run that was killed goes on with the first part that is missing;
/// a folder of other inputs or options is emptied first. Only files of this class's names are ever deleted.
/// </summary>
internal sealed class MiningFolder
{
    private const string Format = "mine 1";
    private static readonly string[] s_ours = ["corpus-*.idx", "rows-*.jsonl", "suspects-*.jsonl", "tally-*.json", "run.txt", ".corpus-*.tmp*", ".rows-*.tmp", ".suspects-*.tmp", ".tally-*.tmp", ".run.txt.*.tmp"];
    private readonly string _path;

    private MiningFolder(string path) => _path = path;

    /// <summary>Opens a folder for a run that <paramref name="what"/> describes completely.</summary>
    /// <exception cref="BgeMetalException">The folder cannot be made or emptied.</exception>
    public static MiningFolder Open(string path, string what)
    {
        MiningFolder folder = new(path);
        string fingerprint = Convert.ToHexString(SHA256.HashData(Encoding.UTF8.GetBytes($"{Format}\n{what}"))) + "\n";
        try
        {
            Directory.CreateDirectory(path);
            string run = folder.At("run.txt");
            if (File.Exists(run) && File.ReadAllText(run) == fingerprint) return folder;
            folder.Empty();
            AtomicFile.WriteAllText(run, fingerprint);
            return folder;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new BgeMetalException("cannot use the work folder", e.Message, path, innerException: e);
        }
    }

    /// <summary>What tells one state of a file from another.</summary>
    public static string Describe(string path)
    {
        FileInfo file = new(path);
        return file.Exists ? $"{file.FullName} {file.Length} {file.LastWriteTimeUtc.Ticks}" : $"{path} missing";
    }

    /// <summary>The path of a part.</summary>
    public string Part(string kind, int number, string ending) => At($"{kind}-{number:00000}.{ending}");

    /// <summary>Joins the parts 0 .. count-1 into one file.</summary>
    public void Join(string kind, int count, string ending, string target)
    {
        using AtomicFile file = AtomicFile.Create(target);
        for (int i = 0; i < count; i++)
        {
            using FileStream part = File.OpenRead(Part(kind, i, ending));
            part.CopyTo(file.Stream, 1 << 20);
        }
        file.Commit();
    }

    /// <summary>Deletes the parts, and the folder if nothing else is in it.</summary>
    public void Delete()
    {
        Empty();
        if (!Directory.EnumerateFileSystemEntries(_path).Any()) Directory.Delete(_path);
    }

    private void Empty()
    {
        foreach (string file in s_ours.SelectMany(pattern => Directory.GetFiles(_path, pattern))) File.Delete(file);
    }

    private string At(string name) => Path.Combine(_path, name);
}
