using System.Text.RegularExpressions;

namespace BgeMetal.Hub;

/// <summary>The rules for names that come from users and from the hub: none of them may lead out of the cache folder.</summary>
internal static partial class HubName
{
    /// <summary>True for <c>NAME</c> or <c>ORG/NAME</c> by the hub's rules.</summary>
    public static bool IsRepository(string id) => id.Length <= 96 && Repository().IsMatch(id)
        && !id.Contains("--", StringComparison.Ordinal) && !id.Contains("..", StringComparison.Ordinal) && !id.EndsWith(".git", StringComparison.Ordinal);

    /// <summary>True for 40 lower-case hexadecimal digits.</summary>
    public static bool IsCommit(string revision) => Commit().IsMatch(revision);

    /// <summary>True for a branch, tag, commit or <c>refs/pr/N</c>.</summary>
    public static bool IsRevision(string revision) => revision.Length is > 0 and <= 200 && IsSafePath(revision);

    /// <summary>True for an entity tag that may be a file name; the hub's are hexadecimal digests.</summary>
    public static bool IsEntityTag(string tag) => EntityTag().IsMatch(tag);

    /// <summary>True for a relative path of ordinary segments: no <c>..</c>, no root, no drive, no backslash, no control character.</summary>
    public static bool IsSafePath(string path) => path.Length is > 0 and <= 1000
        && path.Split('/').All(segment => segment.Length > 0 && segment is not "." and not ".." && segment.All(c => c >= ' ' && c is not ('\\' or ':' or (char)127)));

    [GeneratedRegex(@"\A[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*)?\z")]
    private static partial Regex Repository();

    [GeneratedRegex(@"\A[0-9a-f]{40}\z")]
    private static partial Regex Commit();

    [GeneratedRegex(@"\A[A-Za-z0-9_-]{1,128}\z")]
    private static partial Regex EntityTag();
}
