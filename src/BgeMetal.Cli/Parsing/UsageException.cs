namespace BgeMetal.Cli.Parsing;

/// <summary>The command line itself is wrong; its message is one finished line, and the exit code is <see cref="ExitCode.WrongUsage"/>.</summary>
internal sealed class UsageException(string message) : Exception(message);
