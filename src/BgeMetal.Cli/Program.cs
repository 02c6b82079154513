using System.Runtime.InteropServices;
using BgeMetal.Cli;
using BgeMetal.Cli.Output;

using CancellationTokenSource interruption = new();
int signals = 0, exitCode = ExitCode.Interrupted;
void OnSignal(PosixSignalContext signal)
{
    // The first signal asks the work to stop and clean up, a second one does not wait for that.
    signal.Cancel = Interlocked.Increment(ref signals) == 1;
    if (signal.Signal == PosixSignal.SIGTERM) exitCode = 143;
    if (!signal.Cancel) Environment.Exit(exitCode);
    // Work that waits for standard input does not see the request.
    _ = Task.Delay(TimeSpan.FromSeconds(5)).ContinueWith(_ => Environment.Exit(exitCode), TaskScheduler.Default);
    interruption.Cancel();
}

using PosixSignalRegistration interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, OnSignal);
using PosixSignalRegistration terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, OnSignal);
using Terminal terminal = Terminal.OfProcess(interruption.Token);
int result = CommandLine.Run(args, terminal);
return result == ExitCode.Interrupted ? exitCode : result;
