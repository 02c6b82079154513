using System.CommandLine;
using System.Text.RegularExpressions;
using BgeMetal.Cli.Output;
using BgeMetal.Cli.Parsing;
using BgeMetal.Retrieval;

namespace BgeMetal.Cli;

/// <summary>The options that say where and how precisely to compute.</summary>
internal sealed partial class ComputeOptionSet
{
    private readonly CliOption<string> _device = Opt.TextOr("--device", "auto|cpu|cuda|cuda:N", "auto", "Where to compute", "devices");
    private readonly CliOption<string> _dtype = Opt.Choice("--dtype", "Precision of the computation", "auto", ["auto", "fp32", "bf16", "fp16"]);
    private readonly CliOption<int> _threads = Opt.Int("--threads", "CPU threads, 0 for one a core; results do not depend on it", 0, 0, 1024);
    private readonly CliOption<bool> _fp16 = Opt.Flag("--fp16", "Like --dtype fp16 where the device has it", "use-fp16");
    private readonly CliOption<bool> _bf16 = Opt.Flag("--bf16", "Like --dtype bf16 where the device has it", "use-bf16");

    public void AddTo(Command command)
    {
        _fp16.Hidden = _bf16.Hidden = true;
        _device.Validators.Add(static result =>
        {
            if (result.Tokens is [{ } token] && !Device().IsMatch(token.Value)) result.AddError($"--device: '{token.Value}' is not one of auto, cpu, cuda, cuda:N");
        });
        foreach (Option option in (Option[])[_device, _dtype, _threads, _fp16, _bf16]) command.Add(option);
    }

    /// <summary>The settings; FlagEmbedding's --fp16 is a wish that a CPU cannot grant, --dtype fp16 an order that it refuses.</summary>
    public ComputeOptions Read(ParseResult parsed, Terminal terminal)
    {
        string device = parsed.GetValue(_device)!.ToLowerInvariant(), dtype = parsed.GetValue(_dtype)!;
        if (dtype == "auto" && (parsed.GetValue(_fp16) || parsed.GetValue(_bf16)))
        {
            if (device.StartsWith("cuda", StringComparison.Ordinal)) dtype = parsed.GetValue(_bf16) ? "bf16" : "fp16";
            else terminal.Warn($"--{(parsed.GetValue(_bf16) ? "bf16" : "fp16")}: the CPU computes in fp32");
        }
        return new ComputeOptions { Device = device, DType = dtype, Threads = parsed.GetValue(_threads) };
    }

    [GeneratedRegex(@"\A(auto|cpu|cuda(:[0-9]{1,4})?)\z", RegexOptions.IgnoreCase)]
    private static partial Regex Device();
}
