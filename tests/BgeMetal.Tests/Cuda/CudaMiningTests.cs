using System.Text.Json;
using BgeMetal.Data;
using BgeMetal.Kernels;
using BgeMetal.Retrieval;
using BgeMetal.Retrieval.Mining;
using BgeMetal.Tensors;

namespace BgeMetal.Tests.Cuda;

/// <summary>Hard negatives by a search on the emulated GPU are the CPU's, also when the run is stopped and goes on.</summary>
[Collection("emulated gpu")]
public sealed class CudaMiningTests : IDisposable
{
    private const int Dimensions = 6;
    private readonly string _folder = Directory.CreateTempSubdirectory("bgemetal-").FullName;
    private readonly Device _gpu = DevicePair.Emulated(DType.BFloat16);

    public void Dispose()
    {
        _gpu.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    [Fact]
    public void Negatives_are_the_cpus_ties_included()
    {
        HardNegativeOptions options = Options(rows: 12, pool: 150) with { RangeStart = 2, RangeEnd = 60, NegativeNumber = 9, RelativeMargin = 0.05 };
        string expected = Mine(options, null);
        Assert.Equal(expected, Mine(options with { UseGpuForSearching = true }, _gpu));
    }

    [Fact]
    public void A_run_that_was_stopped_on_one_device_goes_on_on_another_and_gives_the_same_file()
    {
        // Two blocks of rows: 8 and 3.
        HardNegativeOptions options = Options(rows: 11, pool: 40) with { RangeStart = 0, RangeEnd = 30, NegativeNumber = 5 };
        string expected = Mine(options, null);
        foreach ((Device? first, Device? second) in new (Device?, Device?)[] { (_gpu, _gpu), (_gpu, null), (null, _gpu) })
        {
            File.Delete(options.OutputFile);
            int queries = 0, embedded = 0;
            float[] Breaking(IReadOnlyList<TextInput> texts, string? instruction) => instruction is not null && ++queries == 2 ? throw new IOException("the plug is pulled") : Embed(texts, instruction);
            Assert.Throws<IOException>(() => Mine(options with { UseGpuForSearching = first is not null }, first, Breaking));
            Assert.False(File.Exists(options.OutputFile));
            float[] Counting(IReadOnlyList<TextInput> texts, string? instruction)
            {
                embedded += texts.Count;
                return Embed(texts, instruction);
            }
            Assert.Equal(expected, Mine(options with { UseGpuForSearching = second is not null }, second, Counting));
            Assert.Equal(3, embedded);
        }
    }

    [Fact]
    public void A_range_that_is_too_long_for_a_gpu_is_searched_on_the_cpu()
    {
        HardNegativeOptions options = Options(rows: 3, pool: 1300) with { RangeStart = 1000, RangeEnd = 1200, NegativeNumber = 9, UseGpuForSearching = true };
        Assert.Equal(Mine(options, null), Mine(options, _gpu));
    }

    private HardNegativeOptions Options(int rows, int pool)
    {
        File.WriteAllLines(At("in.jsonl"), Enumerable.Range(0, rows).Select(i => JsonSerializer.Serialize(new { query = $"query {i % 50}", pos = new[] { $"text {7 * i % pool}" }, neg = Array.Empty<string>() })));
        File.WriteAllLines(At("pool.txt"), Enumerable.Range(0, pool).Select(i => $"text {i}"));
        return new HardNegativeOptions { InputFile = At("in.jsonl"), OutputFile = At("out.jsonl"), CandidatePool = At("pool.txt"), QueryInstruction = "q:" };
    }

    private static string Mine(HardNegativeOptions options, Device? device, EmbedTexts? embed = null)
    {
        new HardNegativeMiner(options, embed ?? Embed, Dimensions, 1, null, null, device) { BlockRows = 8 }.Run("m", TestContext.Current.CancellationToken);
        return File.ReadAllText(options.OutputFile);
    }

    /// <summary>Small whole numbers, of which many inner products are equal.</summary>
    private static float[] Embed(IReadOnlyList<TextInput> texts, string? instruction) => [.. texts.SelectMany(text =>
        System.Security.Cryptography.SHA256.HashData(System.Text.Encoding.UTF8.GetBytes(instruction + text.Text)).Take(Dimensions).Select(value => (float)(value % 5 - 2)))];

    private string At(string name) => Path.Combine(_folder, name);
}
