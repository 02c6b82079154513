using BgeMetal.Kernels.Runtime;

namespace BgeMetal.Kernels.Tests.Cuda;

public sealed class KernelCacheTests : IDisposable
{
    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("bgemetal-cache-");
    private static KernelDescriptor Kernel => KernelRegistry.All.Single(k => k.Name == "ColumnSum.Finish");

    [Fact]
    public void A_second_start_reads_the_text_from_disk_and_compiles_nothing()
    {
        KernelCache first = new(_folder.FullName), second = new(_folder.FullName);
        string text = first.Get(Kernel, "sm_90");
        Assert.Equal((text, 1, 0), (second.Get(Kernel, "sm_90"), first.Compiled, second.Compiled));
        Assert.Contains(".target sm_90", text, StringComparison.Ordinal);
        Assert.Single(_folder.GetFiles());
    }

    [Theory]
    [InlineData(0)]
    [InlineData(60)]
    [InlineData(-1)]
    public void A_file_that_was_cut_off_or_changed_is_compiled_anew_and_replaced(int keep)
    {
        KernelCache first = new(_folder.FullName), second = new(_folder.FullName), third = new(_folder.FullName);
        string text = first.Get(Kernel, "sm_80"), path = _folder.GetFiles().Single().FullName, content = File.ReadAllText(path);
        File.WriteAllText(path, keep >= 0 ? content[..keep] : content.Replace("add", "sub", StringComparison.Ordinal));
        Assert.Equal((text, 1), (second.Get(Kernel, "sm_80"), second.Compiled));
        Assert.Equal((text, 0), (third.Get(Kernel, "sm_80"), third.Compiled));
    }

    [Fact]
    public void Architectures_and_kernels_have_files_of_their_own()
    {
        Assert.NotEqual(KernelCache.Key(Kernel, "sm_80"), KernelCache.Key(Kernel, "sm_90"));
        Assert.Equal(KernelRegistry.All.Count, KernelRegistry.All.Select(k => KernelCache.Key(k, "sm_90")).Distinct().Count());
    }

    [Fact]
    public void A_folder_that_cannot_be_written_costs_nothing_but_time()
    {
        string file = Path.Combine(_folder.FullName, "file");
        File.WriteAllText(file, "");
        KernelCache cache = new(Path.Combine(file, "below"));
        Assert.Contains("ColumnSum_Finish", cache.Get(Kernel, "sm_90"), StringComparison.Ordinal);
    }

    public void Dispose() => _folder.Delete(recursive: true);
}
