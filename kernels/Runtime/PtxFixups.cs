using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;
using BgeMetal.Kernels.Primitives;

namespace BgeMetal.Kernels.Runtime;

/// <summary>
/// What the text that ILGPU writes needs before it is loaded. Branches lose <c>.uni</c>, because ptxas unrolls no loop whose back edge carries it;
/// <c>.target</c> names the real architecture (ILGPU stops at sm_80); the entry gets the kernel's own name and numbered names are renumbered in
/// order of appearance, because they contain counters of the compiling process and a text that changes misses the driver's own cache; the empty functions that stand for intrinsics go; a kernel that copies by tensor maps gets its parameters, which begin with them,
/// declared with the alignment that the copy engine asks for; one whose products run by themselves (wgmma) gets shared memory as aligned as their operands must be, and loses the
/// moves of a register to itself, which would touch accumulators while a product is under way; a kernel that runs in clusters says how large they are, so that
/// a plain launch makes them (what nvcc writes for <c>__cluster_dims__</c>; CUDA programming guide, "Thread block clusters").
/// </summary>
internal static partial class PtxFixups
{
    /// <summary>Part of the disk cache's key: raise it when the fix-ups change.</summary>
    public const int Revision = 4;

    /// <summary>The text to load for architecture <paramref name="target"/>, for example "sm_90".</summary>
    public static string Apply(string ptx, string target, string entryName, int clusterBlocks = 1)
    {
        string text = ptx.Replace("\r\n", "\n").Replace("bra.uni", "bra");
        text = Target().Replace(text, $".target {target}");
        text = RemoveUncalled(text);
        if (text.Contains(TensorCopy.Parameters, StringComparison.Ordinal)) text = PlaceTensorMaps(text);
        if (text.Contains("wgmma.", StringComparison.Ordinal)) text = SelfMove().Replace(DynamicShared().Replace(text, $"$1.align {TensorCopy.Alignment} "), "");
        if (clusterBlocks > 1) text = Header().Replace(text, $"$0\n.explicitcluster\n.reqnctapercluster {clusterBlocks}, 1, 1", 1);
        Match entry = Entry().Match(text);
        if (entry.Success) text = text.Replace(entry.Groups[1].Value, entryName);
        return Renumber(text);
    }

    private static string PlaceTensorMaps(string text)
    {
        string parameters = Parameters().Match(text).Groups[1].Value;
        text = Parameters().Replace(text, match => match.Value.Replace(".align 8", ".align 64", StringComparison.Ordinal));
        return text.Replace(TensorCopy.Parameters, parameters, StringComparison.Ordinal);
    }

    // Intrinsics leave functions behind that nobody calls: the text was put in the place of the call.
    private static string RemoveUncalled(string text) => Function().Replace(text, match =>
        Regex.IsMatch(text, $@"\bcall\b[^;]*\b{match.Groups[1].Value}\b") ? match.Value : "");

    private static string Renumber(string text)
    {
        Dictionary<string, string> numbers = [];
        StringBuilder result = new(text.Length);
        int position = 0;
        foreach (Match match in NumberedName().Matches(text))
        {
            string old = match.Groups[2].Value;
            if (!numbers.TryGetValue(old, out string? renamed))
                numbers[old] = renamed = numbers.Count.ToString(CultureInfo.InvariantCulture);
            result.Append(text, position, match.Groups[2].Index - position).Append(renamed);
            position = match.Index + match.Length;
        }
        return result.Append(text, position, text.Length - position).ToString();
    }

    [GeneratedRegex(@"\.target\s+\S+")]
    private static partial Regex Target();

    // A declaration up to its semicolon, or a definition up to its closing brace; the name comes before the second parenthesis.
    [GeneratedRegex(@"^\.visible \.func (?:\([^)]*\) )?(\w+)\([^)]*\)\s*(?:;|\{.*?^\}\s*?$)\n*", RegexOptions.Multiline | RegexOptions.Singleline)]
    private static partial Regex Function();

    [GeneratedRegex(@"\.entry\s+\w+\(\s*\.param \.align 8 \.b8 (\w+)\[\d+\]")]
    private static partial Regex Parameters();

    [GeneratedRegex(@"^\s*mov\.\w+\s+(%\w+), \1;\n", RegexOptions.Multiline)]
    private static partial Regex SelfMove();

    [GeneratedRegex(@"(\.extern \.shared )\.align \d+ ")]
    private static partial Regex DynamicShared();

    [GeneratedRegex(@"\.entry\s+\w+\s*\([^)]*\)")]
    private static partial Regex Header();

    [GeneratedRegex(@"\.entry\s+(\w+)\s*\(")]
    private static partial Regex Entry();

    [GeneratedRegex(@"(?<=[A-Za-z$])(?<!\bsm)(_)(\d+)\b")]
    private static partial Regex NumberedName();
}
