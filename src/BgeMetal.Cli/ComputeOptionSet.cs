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
    private readonly CliOption<bool> _profile = Opt.Flag("--profile", "Show the time that each kernel takes");
    private readonly CliOption<bool> _bf16 = Opt.Flag("--bf16", "Like --dtype bf16 where the device has it", "use-bf16");

    public void AddTo(Command command)
    {
        _fp16.Hidden = _bf16.Hidden = true;
        _device.Validators.Add(static result =>
        {
            if (result.Tokens is [{ } token] && !Device().IsMatch(token.Value)) result.AddError($"--device: '{token.Value}' is not one of auto, cpu, cuda, cuda:N");
        });
        foreach (Option option in (Option[])[_device, _dtype, _threads, _profile, _fp16, _bf16]) command.Add(option);
    }

    /// <summary>The settings; FlagEmbedding's --fp16 is a wish that a CPU cannot grant, --dtype fp16 an order that it refuses.</summary>
    public ComputeOptions Read(ParseResult parsed, Terminal terminal)
    {
        ComputeOptions options = new() { Device = parsed.GetValue(_device)!.ToLowerInvariant(), DType = parsed.GetValue(_dtype)!, Threads = parsed.GetValue(_threads), Profile = parsed.GetValue(_profile) };
        if (options.DType != "auto" || !(parsed.GetValue(_fp16) || parsed.GetValue(_bf16))) return options;
        string wish = parsed.GetValue(_bf16) ? "bf16" : "fp16";
        if (options.UsesGpu) return options with { DType = wish };
        terminal.Warn($"--{wish}: the CPU computes in fp32");
        return options;
    }

    /// <summary>Says which GPU computes, or why it does not.</summary>
    public static void Tell(Terminal terminal, ComputeDevice device)
    {
        if (device.Remark.Length > 0) terminal.Warn($"computing on the CPU: {device.Remark}");
        else if (device.IsGpu) terminal.Say($"computing on {device}");
    }

    [GeneratedRegex(@"\A(auto|cpu|cuda(:[0-9]{1,4})?)\z", RegexOptions.IgnoreCase)]
    private static partial Regex Device();
}
