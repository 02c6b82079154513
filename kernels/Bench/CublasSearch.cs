namespace BgeMetal.Kernels.Bench;

/// <summary>
/// Where libcublas may lie: where the loader looks; CUDA toolkits; and the packages that bring it for Python, of which PyTorch's installation has one, in
/// <c>nvidia/cublas/lib</c> or <c>nvidia/cu13/lib</c> of site-packages.
/// </summary>
internal static class CublasSearch
{
    private static readonly string[] s_names = ["libcublas.so.13", "libcublas.so.12", "libcublas.so.11", "libcublas.so"];

    /// <summary>Names for the loader, then files that exist, the likeliest first.</summary>
    public static IEnumerable<string> Candidates() => OperatingSystem.IsWindows() ? ["cublas64_13.dll", "cublas64_12.dll", "cublas64_11.dll"]
        : s_names.Concat(Folders().SelectMany(folder => s_names.Select(name => Path.Combine(folder, name))).Where(File.Exists));

    /// <summary>The folders that are looked through, without those of the loader.</summary>
    private static IEnumerable<string> Folders()
    {
        foreach (string toolkit in Matching("/usr/local", "cuda*"))
        {
            yield return Path.Combine(toolkit, "lib64");
            yield return Path.Combine(toolkit, "targets", "x86_64-linux", "lib");
        }
        foreach (string prefix in Prefixes().Distinct())
        {
            yield return Path.Combine(prefix, "lib");
            foreach (string python in Matching(Path.Combine(prefix, "lib"), "python3*"))
                foreach (string packages in new[] { "site-packages", "dist-packages" })
                    foreach (string package in Matching(Path.Combine(python, packages, "nvidia"), "*"))
                        yield return Path.Combine(package, "lib");
        }
    }

    // A virtual environment's python3 is a link to another's: the folder on the PATH is the one that counts.
    private static IEnumerable<string> Prefixes()
    {
        foreach (string variable in new[] { "VIRTUAL_ENV", "CONDA_PREFIX" })
            if (Environment.GetEnvironmentVariable(variable) is { Length: > 0 } prefix) yield return prefix;
        foreach (string folder in (Environment.GetEnvironmentVariable("PATH") ?? "").Split(Path.PathSeparator, StringSplitOptions.RemoveEmptyEntries))
            if (File.Exists(Path.Combine(folder, "python3")) && Path.GetDirectoryName(Path.GetFullPath(folder).TrimEnd('/')) is { } prefix) yield return prefix;
    }

    private static IEnumerable<string> Matching(string folder, string pattern) => Directory.Exists(folder)
        ? Directory.EnumerateDirectories(folder, pattern).OrderDescending(StringComparer.Ordinal) : [];
}
