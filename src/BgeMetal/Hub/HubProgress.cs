namespace BgeMetal.Hub;

/// <summary>How far a download is.</summary>
/// <param name="File">The file that is being fetched, as the repository names it.</param>
/// <param name="Bytes">Bytes of the whole model that are here, files found in the cache included.</param>
/// <param name="TotalBytes">Bytes of the whole model.</param>
public readonly record struct HubProgress(string File, long Bytes, long TotalBytes);
