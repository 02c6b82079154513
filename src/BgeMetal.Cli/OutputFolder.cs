using BgeMetal.Cli.Parsing;

namespace BgeMetal.Cli;

/// <summary>The rule for output folders: one that holds something is refused unless the user says that it may be overwritten.</summary>
internal static class OutputFolder
{
    public static CliOption<bool> Overwrite() => Opt.Flag("--overwrite-output-dir", "Write into the folder although it is not empty", "overwrite");

    /// <summary>Checks that <paramref name="path"/> may be written to; does not make it.</summary>
    /// <exception cref="BgeMetalException">It is a file, or it is not empty and <paramref name="overwrite"/> is false.</exception>
    public static void Check(string path, bool overwrite)
    {
        if (File.Exists(path)) throw new BgeMetalException("cannot write", "this is a file, a folder was expected", path);
        if (!overwrite && Directory.Exists(path) && Directory.EnumerateFileSystemEntries(path).Any())
            throw new BgeMetalException("cannot write", "the folder is not empty; give --overwrite-output-dir to write into it all the same", path);
    }
}
