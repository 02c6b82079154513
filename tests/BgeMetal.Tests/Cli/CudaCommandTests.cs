using System.Diagnostics;
using System.Text.Json;
using BgeMetal.Cli;

namespace BgeMetal.Tests.Cli;

/// <summary>
/// The program as a process with a driver that has no GPU behind it (stub_driver.c in the place of libcuda.so.1): what it finds, what it says, what it asks the
/// driver for. Kernels do not run, so numbers mean nothing here.
/// </summary>
public sealed class CudaCommandTests : CommandFolder
{
    [Fact]
    public void A_gpu_without_memory_left_is_an_error_with_the_bytes()
    {
        (int code, string error) = Embed("cuda:1", []);
        Assert.Equal(1, code);
        Assert.Contains("error: device 'cuda:1': out of device memory on Stub 1: ", error, StringComparison.Ordinal);
        Assert.Contains("bytes asked for, 1000000 of 2000000 bytes free", error, StringComparison.Ordinal);
    }

    [Fact]
    public void A_driver_that_is_too_old_and_a_gpu_that_is_not_there_are_errors()
    {
        Assert.Contains("the CUDA driver is too old: it supports CUDA 11.4", Embed("cuda", ["-DSTUB_VERSION=11040"]).Error, StringComparison.Ordinal);
        Assert.Contains("there is no GPU 7: this machine has 2", Embed("cuda:7", []).Error, StringComparison.Ordinal);
    }

    [Fact]
    public void Auto_leaves_a_gpu_that_cannot_be_used_and_says_why()
    {
        (int code, string error) = Embed("auto", ["-DSTUB_MAJOR=6"]);
        Assert.True(code == 0, error);
        Assert.Contains("warning: computing on the CPU: device 'cuda:0': GPU 0 (Stub 0) is too old: compute capability 6.0, at least 8.0 is needed", error, StringComparison.Ordinal);
    }

    [Fact]
    public void Auto_takes_a_gpu_and_says_which()
    {
        (int code, string error) = Embed("auto", ["-DSTUB_MEMORY=4000000000"], "--profile", "--stats", In("stats.json"));
        Assert.True(code == 0, error);
        Assert.Contains("computing on cuda:0 (Stub 0, bf16)", error, StringComparison.Ordinal);
        Assert.Contains("on cuda:0 (bf16, ", error, StringComparison.Ordinal);
        Assert.Matches(@"(?m)^Embedding\.Forward\.BF16 +\d+ ", error);
        using JsonDocument stats = JsonDocument.Parse(System.IO.File.ReadAllBytes(In("stats.json")));
        Assert.Equal(("cuda:0", "bf16"), (stats.RootElement.GetProperty("device").GetString(), stats.RootElement.GetProperty("dtype").GetString()));
    }

    [Fact]
    public void Small_batches_of_one_bucket_are_captured_once_and_replayed_and_the_next_goes_in_before_the_last_is_waited_for()
    {
        System.IO.File.WriteAllLines(In("six.txt"), Enumerable.Repeat("the cat", 6));
        (int code, string error) = Embed("cuda", ["-DSTUB_MEMORY=4000000000"], "--input", In("six.txt"), "--batch-tokens", "4");
        Assert.True(code == 0, error);
        string[] log = System.IO.File.ReadAllLines(In("log"));
        int begin = Array.IndexOf(log, "begin capture on 0x57"), end = Array.IndexOf(log, "end capture on 0x57");
        Assert.Equal(1, log.Count(line => line == "begin capture on 0x57"));
        // Nothing but launches inside, as many as the first batch had, which was not captured; after it nothing is launched but the graph.
        Assert.All(log[(begin + 1)..end], line => Assert.StartsWith("launch ", line, StringComparison.Ordinal));
        Assert.Equal(log[..begin].Count(line => line.StartsWith("launch ", StringComparison.Ordinal)), end - begin - 1);
        Assert.Equal(5, log.Count(line => line == "replay 0x62 on 0x57"));
        // Page-locked memory is taken once for each of the two batches that are under way.
        Assert.Equal(4, log.Count(line => line.StartsWith("pin ", StringComparison.Ordinal)));
        string[] after = [.. log[end..].Select(line => line.Split(' ')[0]).SkipWhile(word => word != "upload").TakeWhile(word => word != "executable").Where(word => word != "pin")];
        string[] batch = ["upload", "replay", "download", "mark"];
        Assert.Equal([.. batch, "wait", .. batch, "wait", .. batch, "wait", .. batch, "wait", .. batch, "wait", "wait"], after);
        Assert.True(Array.IndexOf(log, "executable gone") < Array.IndexOf(log, "release"));
    }

    private (int Code, string Error) Embed(string device, string[] definitions, params string[] more)
    {
        Assert.SkipWhen(OperatingSystem.IsWindows(), "a shared library in the place of libcuda.so.1");
        string driver = Directory.CreateDirectory(In("driver")).FullName;
        try
        {
            using Process compiler = Process.Start("gcc", ["-shared", "-fPIC", "-w", .. definitions, "-o", Path.Combine(driver, "libcuda.so.1"), Path.Combine(AppContext.BaseDirectory, "Cuda", "stub_driver.c")]);
            compiler.WaitForExit();
            Assert.Equal(0, compiler.ExitCode);
        }
        catch (System.ComponentModel.Win32Exception e)
        {
            Assert.Skip($"no gcc to build the stub driver with: {e.Message}");
        }
        System.IO.File.WriteAllText(In("two.txt"), "the cat\nthe river\n");
        ProcessStartInfo start = new("dotnet", [typeof(CommandLine).Assembly.Location, "embed", "--model", Model, .. more.Contains("--input") ? Array.Empty<string>() : ["--input", In("two.txt")], "--output", In("v.npy"), "--device", device, .. more])
        {
            RedirectStandardError = true,
        };
        (start.Environment["LD_LIBRARY_PATH"], start.Environment["BGEMETAL_DEVICE"], start.Environment["BGEMETAL_KERNEL_CACHE"]) = (driver, "", "off");
        start.Environment["STUB_LOG"] = In("log");
        using Process process = Process.Start(start)!;
        string error = process.StandardError.ReadToEnd();
        process.WaitForExit();
        return (process.ExitCode, error);
    }
}
