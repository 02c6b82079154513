namespace BgeMetal.Retrieval;

/// <summary>
/// The query instructions published with the BGE models. BGE v1 and v1.5 put an instruction before short queries in retrieval, never before
/// passages; M3E, bge-m3 and rerankers use none.
/// </summary>
internal static class QueryInstructions
{
    /// <summary>bge-*-en and bge-*-en-v1.5.</summary>
    public const string English = "Represent this sentence for searching relevant passages: ";

    /// <summary>bge-*-zh and bge-*-zh-v1.5.</summary>
    public const string Chinese = "为这个句子生成表示以用于检索相关文章：";

    /// <summary>The instruction for a model by the names it goes by (a hub id, a folder, <c>_name_or_path</c>); empty where none is published.</summary>
    public static string For(params IEnumerable<string?> names)
    {
        foreach (string? name in names)
        {
            string lower = (name ?? "").ToLowerInvariant().Replace('_', '-');
            if (!lower.Contains("bge-", StringComparison.Ordinal) || lower.Contains("reranker", StringComparison.Ordinal)) continue;
            if (lower.Contains("-zh", StringComparison.Ordinal)) return Chinese;
            if (lower.Contains("-en", StringComparison.Ordinal)) return English;
        }
        return "";
    }

    /// <summary>Whether one of the names is an M3E model, which pools by the mean.</summary>
    public static bool IsM3E(params IEnumerable<string?> names) =>
        names.Any(name => (name ?? "").Contains("m3e-", StringComparison.OrdinalIgnoreCase));
}
