using System.Security.Cryptography;
using System.Text;

namespace BgeMetal.Kernels.Runtime;

/// <summary>
/// PTX by kernel and architecture: from memory, else from a folder, else compiled. A file is named by a digest of everything its text depends on
/// (kernel, architecture, this assembly's build, ILGPU's version, the fix-ups) and begins with a digest of the text, so that a file that was cut
/// off or changed is compiled anew. Thread-safe.
/// </summary>
internal sealed class KernelCache
{
    private readonly string? _folder;
    private int _compiled;

    /// <summary>Keeps files in <paramref name="folder"/>; null keeps none.</summary>
    public KernelCache(string? folder) => _folder = folder;

    /// <summary>How many kernels had to be compiled.</summary>
    public int Compiled => _compiled;

    /// <summary>The environment variable BGEMETAL_KERNEL_CACHE ("off" for none), else bgemetal/kernels in the user's cache folder.</summary>
    public static string? DefaultFolder()
    {
        if (Environment.GetEnvironmentVariable("BGEMETAL_KERNEL_CACHE") is { Length: > 0 } named) return named == "off" ? null : named;
        string? cache = Environment.GetEnvironmentVariable("XDG_CACHE_HOME");
        string home = Environment.GetFolderPath(Environment.SpecialFolder.UserProfile);
        if (string.IsNullOrEmpty(cache) && home.Length > 0) cache = Path.Combine(home, ".cache");
        return string.IsNullOrEmpty(cache) ? null : Path.Combine(cache, "bgemetal", "kernels");
    }

    /// <summary>The text to load.</summary>
    public string Get(KernelDescriptor kernel, string target)
    {
        string? path = _folder is null ? null : Path.Combine(_folder, Key(kernel, target) + ".ptx");
        if (path is not null && TryRead(path, out string text)) return text;
        text = PtxCompiler.Compile(kernel, target);
        Interlocked.Increment(ref _compiled);
        if (path is not null) TryWrite(path, text);
        return text;
    }

    /// <summary>The file name, without its ending, of a kernel's text.</summary>
    public static string Key(KernelDescriptor kernel, string target)
    {
        string facts = string.Join('\n', kernel.Name, target, kernel.Threads, kernel.MinBlocks,
            kernel.Method.Module.ModuleVersionId, PtxCompiler.IlgpuVersion, PtxFixups.Revision);
        return $"{kernel.EntryName}-{target}-{Digest(facts)[..16]}";
    }

    private static bool TryRead(string path, out string text)
    {
        text = "";
        try
        {
            string content = File.ReadAllText(path);
            int line = content.IndexOf('\n', StringComparison.Ordinal);
            if (line < 0) return false;
            text = content[(line + 1)..];
            return content[..line] == Header(text);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return false;
        }
    }

    // A cache that cannot be written costs time at the next start, nothing else.
    private static void TryWrite(string path, string text)
    {
        string temporary = $"{path}.{Environment.ProcessId:x}-{Guid.NewGuid():n}.tmp";
        try
        {
            Directory.CreateDirectory(Path.GetDirectoryName(path)!);
            File.WriteAllText(temporary, $"{Header(text)}\n{text}");
            File.Move(temporary, path, overwrite: true);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            try
            {
                File.Delete(temporary);
            }
            catch (Exception inner) when (inner is IOException or UnauthorizedAccessException)
            {
                return;
            }
        }
    }

    private static string Header(string text) => $"// sha256 {Digest(text)}";

    private static string Digest(string text) => Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(text)));
}
