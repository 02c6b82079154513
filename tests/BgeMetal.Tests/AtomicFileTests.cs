using BgeMetal.Files;

namespace BgeMetal.Tests;

public sealed class AtomicFileTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("bgemetal-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void A_committed_file_replaces_the_old_one_and_leaves_no_temporary()
    {
        string path = Path.Combine(_folder, "a", "b.txt");
        AtomicFile.WriteAllText(path, "one");
        AtomicFile.WriteAllText(path, "two");
        Assert.Equal("two", System.IO.File.ReadAllText(path));
        Assert.Single(Directory.GetFiles(Path.GetDirectoryName(path)!));
    }

    [Fact]
    public void An_abandoned_file_leaves_the_old_one_untouched()
    {
        string path = Path.Combine(_folder, "x.txt");
        AtomicFile.WriteAllText(path, "old");
        using (AtomicFile file = AtomicFile.Create(path)) file.Stream.Write("half"u8);
        Assert.Equal("old", System.IO.File.ReadAllText(path));
        Assert.Single(Directory.GetFiles(_folder));
    }

    [Fact]
    public void A_directory_in_the_way_is_named()
    {
        BgeMetalException e = Assert.Throws<BgeMetalException>(() => AtomicFile.Create(_folder));
        Assert.Contains(_folder, e.Message, StringComparison.Ordinal);
        Assert.Contains("is a directory", e.Message, StringComparison.Ordinal);
    }
}
