using System.Globalization;
using System.Text.RegularExpressions;

namespace BgeMetal.Kernels.Tests.Cuda;

/// <summary>What an instruction does to the flow of its thread.</summary>
internal enum PtxFlow
{
    Next,
    Branch,
    Return,
    Barrier,
    Shuffle,
    Vote,
    LoadMatrix,
    Multiply,
    WarpSync,
    WarpGroup,
    TransferWait,
}

/// <summary>A value, a place or several: a register slot, an immediate, an address (slot + offset), a special register or a vector of slots.</summary>
internal sealed record PtxOperand(int Slot, ulong Immediate, string? Special, PtxOperand[]? Vector)
{
    public static PtxOperand Register(int slot) => new(slot, 0, null, null);
}

/// <summary>One instruction of a parsed kernel.</summary>
internal sealed record PtxInstruction(string[] Operation, PtxOperand[] Operands, int Guard, bool GuardNegated, PtxFlow Flow, string Text)
{
    /// <summary>Where a branch goes.</summary>
    public int Target { get; set; } = -1;

    /// <summary>The type at the end of the operation's name.</summary>
    public string Type => Operation[^1];
}

/// <summary>
/// The body of one kernel's PTX as a list of instructions over numbered register slots; block-scoped registers get slots of their own. Understands the
/// part of the language that the kernels use and refuses everything else.
/// </summary>
internal sealed partial class PtxProgram
{
    private readonly List<Dictionary<string, int>> _scopes = [[]];
    private readonly Dictionary<string, int> _labels = [];
    private readonly string _parameters;

    private PtxProgram(string header, string body)
    {
        _parameters = ParameterName().Match(header).Groups[1].Value;
        SharedAlignment = SharedBlockAlignment().Match(header) is { Success: true } match ? int.Parse(match.Groups[1].Value, CultureInfo.InvariantCulture) : 1;
        ClusterBlocks = ClusterSize().Match(header) is { Success: true } cluster ? int.Parse(cluster.Groups[1].Value, CultureInfo.InvariantCulture) : 1;
        int start = 0;
        for (int i = 0; i < body.Length; i++)
        {
            if (body[i] is not ('{' or '}' or ':' or ';')) continue;
            bool blank = body.AsSpan(start, i - start).IsWhiteSpace();
            if (blank && body[i] == '{') _scopes.Add([]);
            else if (blank && body[i] == '}') _scopes.RemoveAt(_scopes.Count - 1);
            else if (body[i] == ':' && body[i + 1] != ':' && body[i - 1] != ':') _labels[body[start..i].Trim()] = Code.Count;
            else if (body[i] == ';') Statement(body[start..i].Trim());
            else continue;
            start = i + 1;
        }
        foreach (PtxInstruction instruction in Code)
            if (instruction.Flow == PtxFlow.Branch) instruction.Target = _labels[instruction.Operands[0].Special!];
    }

    /// <summary>The instructions.</summary>
    public List<PtxInstruction> Code { get; } = [];

    /// <summary>Register slots of a thread.</summary>
    public int Slots { get; private set; }

    /// <summary>What the text declares dynamic shared memory to be aligned to.</summary>
    public int SharedAlignment { get; }

    /// <summary>How many blocks the text says a cluster has.</summary>
    public int ClusterBlocks { get; }

    /// <summary>Parses the one kernel in <paramref name="ptx"/>, whose one parameter is its argument struct.</summary>
    public static PtxProgram Parse(string ptx)
    {
        string text = Comment().Replace(ptx, "");
        int entry = text.IndexOf(".entry", StringComparison.Ordinal), open = text.IndexOf('{', entry), close = text.LastIndexOf('}');
        return new PtxProgram(text[..open], text[(open + 1)..close]);
    }

    private void Statement(string text)
    {
        if (text.StartsWith(".pragma", StringComparison.Ordinal)) return;
        if (text.StartsWith(".reg", StringComparison.Ordinal))
        {
            Declare(text);
            return;
        }
        string original = text;
        int guard = -1;
        bool negated = false;
        if (text[0] == '@')
        {
            string[] parts = text.Split((char[]?)null, 2, StringSplitOptions.RemoveEmptyEntries);
            negated = parts[0][1] == '!';
            guard = Lookup(parts[0].TrimStart('@', '!'));
            text = parts[1];
        }
        string[] pieces = text.Split((char[]?)null, 2, StringSplitOptions.RemoveEmptyEntries);
        string[] operation = pieces[0].Split('.');
        PtxOperand[] operands = pieces.Length == 1 ? [] : [.. OperandText().Matches(pieces[1]).Select(m => Operand(m.Value.Trim()))];
        PtxFlow flow = operation[0] switch
        {
            "bra" => PtxFlow.Branch,
            "ret" => PtxFlow.Return,
            "bar" when operation[1] == "warp" => PtxFlow.WarpSync,
            "bar" => PtxFlow.Barrier,
            "wgmma" => PtxFlow.WarpGroup,
            "mbarrier" when operation[1] == "try_wait" => PtxFlow.TransferWait,
            "barrier" when operation is [_, "cluster", "wait", ..] => PtxFlow.TransferWait,
            "shfl" => PtxFlow.Shuffle,
            "vote" => PtxFlow.Vote,
            "ldmatrix" => PtxFlow.LoadMatrix,
            "mma" => PtxFlow.Multiply,
            _ => PtxFlow.Next,
        };
        Code.Add(new(operation, operands, guard, negated, flow, original));
    }

    private void Declare(string text)
    {
        foreach (Match match in Declaration().Matches(text[text.IndexOf('.', 4)..]))
        {
            string name = match.Groups[1].Value;
            if (match.Groups[2].Success)
                for (int i = 0, count = int.Parse(match.Groups[2].Value, CultureInfo.InvariantCulture); i < count; i++) _scopes[^1][$"{name}{i}"] = Slots++;
            else _scopes[^1][name] = Slots++;
        }
    }

    private PtxOperand Operand(string text)
    {
        if (text[0] == '{') return new(-1, 0, null, [.. text.Trim('{', '}').Split(',').Select(part => Operand(part.Trim()))]);
        // The engine's operand: a map and where its box begins.
        if (text[0] == '[' && text.Contains('{')) return new(-1, 0, null, [.. text.Split(['[', ']', '{', '}', ',', ' '], StringSplitOptions.RemoveEmptyEntries).Select(Operand)]);
        if (text[0] == '[')
        {
            string[] parts = text.Trim('[', ']').Split('+');
            ulong offset = parts.Length == 1 ? 0 : Number(parts[1]);
            return TryLookup(parts[0].Trim(), out int slot) ? new(slot, offset, null, null) : new(-1, offset, parts[0].Trim(), null);
        }
        if (TryLookup(text, out int register)) return PtxOperand.Register(register);
        if (char.IsAsciiDigit(text[0]) || text[0] == '-') return new(-1, Number(text), null, null);
        return text == _parameters ? new(-1, 0, null, null) : new(-1, 0, text, null);
    }

    private int Lookup(string name) => TryLookup(name, out int slot) ? slot : throw new NotSupportedException($"unknown register {name}");

    private bool TryLookup(string name, out int slot)
    {
        for (int i = _scopes.Count - 1; i >= 0; i--)
            if (_scopes[i].TryGetValue(name, out slot)) return true;
        slot = -1;
        return false;
    }

    private static ulong Number(string text) =>
        text.StartsWith("0f", StringComparison.OrdinalIgnoreCase) || text.StartsWith("0x", StringComparison.Ordinal)
            ? ulong.Parse(text[2..], NumberStyles.HexNumber, CultureInfo.InvariantCulture)
            : text[0] == '-' ? (ulong)long.Parse(text, CultureInfo.InvariantCulture) : ulong.Parse(text, CultureInfo.InvariantCulture);

    [GeneratedRegex(@"\.param[^;]*?(\w+)\[\d+\]")]
    private static partial Regex ParameterName();

    [GeneratedRegex(@"\.extern \.shared \.align (\d+)")]
    private static partial Regex SharedBlockAlignment();

    [GeneratedRegex(@"\.reqnctapercluster (\d+), 1, 1")]
    private static partial Regex ClusterSize();

    [GeneratedRegex(@"//[^\n]*")]
    private static partial Regex Comment();

    [GeneratedRegex(@"([%\w$]+)(?:<(\d+)>)?\s*(?=,|$)")]
    private static partial Regex Declaration();

    [GeneratedRegex(@"\{[^}]*\}|\[[^\]]*\]|[^,\s][^,]*")]
    private static partial Regex OperandText();
}
