using System.ComponentModel;
using System.Diagnostics;

namespace BgeMetal.Kernels.Reports;

/// <summary>NVIDIA's offline tools (ptxas, cuobjdump), where the machine has them. Nothing here is needed to run a kernel.</summary>
public static class CudaToolkit
{
    /// <summary>
    /// The path of a tool: what the environment variable of its name in capitals says, else the first of the PATH, ~/.cache/bgemetal/cuda/bin and
    /// /usr/local/cuda/bin that has it, else null.
    /// </summary>
    public static string? Find(string tool)
    {
        ArgumentNullException.ThrowIfNull(tool);
        string name = OperatingSystem.IsWindows() ? tool + ".exe" : tool;
        string home = Environment.GetFolderPath(Environment.SpecialFolder.UserProfile);
        return (Environment.GetEnvironmentVariable("PATH") ?? "").Split(Path.PathSeparator, StringSplitOptions.RemoveEmptyEntries)
            .Append(Path.Combine(home, ".cache", "bgemetal", "cuda", "bin")).Append("/usr/local/cuda/bin").Select(folder => Path.Combine(folder, name))
            .Prepend(Environment.GetEnvironmentVariable(tool.ToUpperInvariant()) ?? "").FirstOrDefault(File.Exists);
    }

    /// <summary>Runs a program to its end and returns both of its streams together.</summary>
    /// <exception cref="InvalidOperationException">It does not start or reports failure; the message holds what it said.</exception>
    internal static string Run(string program, params string[] arguments)
    {
        ProcessStartInfo start = new(program, arguments) { RedirectStandardError = true, RedirectStandardOutput = true };
        try
        {
            using Process process = Process.Start(start)!;
            Task<string> errors = process.StandardError.ReadToEndAsync();
            string output = process.StandardOutput.ReadToEnd() + errors.GetAwaiter().GetResult();
            process.WaitForExit();
            return process.ExitCode == 0 ? output : throw new InvalidOperationException($"{program} {string.Join(' ', arguments)}: {output.Trim()}");
        }
        catch (Win32Exception e)
        {
            throw new InvalidOperationException($"{program} cannot be started: {e.Message}", e);
        }
    }
}
