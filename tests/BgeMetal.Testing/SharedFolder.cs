namespace BgeMetal.Testing;

/// <summary>
/// Finds the reference numbers and data that live beside the checkout. Tests that need them skip, with the reason, where they are absent.
/// </summary>
public static class SharedFolder
{
    /// <summary>The checkout's root: the nearest folder above the test binary that holds BgeMetal.sln.</summary>
    public static string RepositoryRoot { get; } = FindRoot();

    /// <summary>The fixtures folder: the environment variable BGEMETAL_FIXTURES, else ../shared/fixtures beside the checkout.</summary>
    public static string Fixtures => Environment.GetEnvironmentVariable("BGEMETAL_FIXTURES") is { Length: > 0 } path
        ? path : Path.Combine(RepositoryRoot, "..", "shared", "fixtures");

    /// <summary>The data folder: the environment variable BGEMETAL_DATA, else ../shared/data beside the checkout.</summary>
    public static string Data => Environment.GetEnvironmentVariable("BGEMETAL_DATA") is { Length: > 0 } path
        ? path : Path.Combine(RepositoryRoot, "..", "shared", "data");

    /// <summary>The path below the fixtures folder; skips the calling test when it is absent.</summary>
    public static string FixtureOrSkip(params string[] parts) => ExistingOrSkip(Path.Combine([Fixtures, .. parts]));

    /// <summary>The path below the data folder; skips the calling test when it is absent.</summary>
    public static string DataOrSkip(params string[] parts) => ExistingOrSkip(Path.Combine([Data, .. parts]));

    private static string ExistingOrSkip(string path)
    {
        Assert.SkipUnless(Path.Exists(path), $"not on this machine: {path}");
        return path;
    }

    private static string FindRoot()
    {
        for (DirectoryInfo? folder = new(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
            if (System.IO.File.Exists(Path.Combine(folder.FullName, "BgeMetal.sln")))
                return folder.FullName;
        return AppContext.BaseDirectory;
    }
}
