using System.Diagnostics;
using BgeMetal.Kernels.Simd;

namespace BgeMetal.Kernels.Tests.Cpu;

/// <summary>Runs the CPU tests again in child processes in which the runtime hides instructions: machines that this one can play but is not.</summary>
[Collection(CpuKernels.Name)]
public sealed class NarrowMachineTests
{
    private const string Child = "BGEMETAL_TEST_CHILD";

    [Theory]
    [InlineData("DOTNET_EnableAVX512", "256-bit, AVX2, fused multiply-add")]
    [InlineData("DOTNET_EnableAVX2", "128-bit, SSE, no fused multiply-add")]
    public async Task The_CPU_tests_pass_without_the_instructions_that(string switchedOff, string description)
    {
        Assert.SkipWhen(Environment.GetEnvironmentVariable(Child) is not null, "this is the child");
        Assert.SkipUnless(VectorUnit.Widest == VectorWidth.Bits512, "needs a machine with AVX-512 to play the others");
        // A bundle brings its own run time, and the machine need not have another.
        string assembly = typeof(NarrowMachineTests).Assembly.Location;
        bool selfContained = File.Exists(Path.Combine(AppContext.BaseDirectory, "libcoreclr.so"));
        ProcessStartInfo start = new(selfContained ? Path.ChangeExtension(assembly, null) : "dotnet") { RedirectStandardOutput = true, RedirectStandardError = true };
        if (!selfContained) start.ArgumentList.Add(assembly);
        start.ArgumentList.Add("-noLogo");
        start.ArgumentList.Add("-noColor");
        start.ArgumentList.Add("-namespace");
        start.ArgumentList.Add(typeof(NarrowMachineTests).Namespace!);
        start.Environment[switchedOff] = "0";
        start.Environment[Child] = description;
        using Process process = Process.Start(start)!;
        Task<string> errors = process.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken);
        string output = await process.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken);
        await process.WaitForExitAsync(TestContext.Current.CancellationToken);
        Assert.True(process.ExitCode == 0, output + await errors);
        Assert.Matches("Total: [1-9][0-9]{2}, Errors: 0, Failed: 0", output);
    }

    [Fact]
    public void The_child_runs_on_the_machine_that_was_asked_for()
    {
        string? expected = Environment.GetEnvironmentVariable(Child);
        Assert.SkipWhen(expected is null, "only in a child");
        Assert.StartsWith(expected, VectorUnit.Description, StringComparison.Ordinal);
    }
}
