using System.CommandLine;
using BenchmarkDotNet.Running;
using BgeMetal;
using BgeMetal.Benchmarks.Commands;

RootCommand root = new("Speed of BgeMetal against its peers. Anything else than these commands goes to BenchmarkDotNet (--list flat, --filter '*').")
{
    VerifyCommand.Create(),
    EndToEndCommand.Create(),
    TopKCommand.Create(),
    MiningCommand.Create(),
    TrainStepCommand.Create(),
    GradientCacheCommand.Create(),
    PretrainStepCommand.Create(),
    StartUpCommand.Create(),
    StartUpCommand.CreatePeer(),
    LaunchesCommand.Create(),
    KernelStartCommand.Create(),
    ProductPlanCommand.Create(),
};
bool known = args.Length == 0 || args[0] is "--help" or "-h" or "--version" || root.Subcommands.Any(command => command.Name == args[0] || command.Aliases.Contains(args[0]));
if (!known)
{
    BenchmarkSwitcher.FromAssembly(typeof(Program).Assembly).Run(args);
    return 0;
}
try
{
    return root.Parse(args).Invoke(new InvocationConfiguration { EnableDefaultExceptionHandler = false });
}
catch (BgeMetalException failure)
{
    Console.Error.WriteLine("error: " + failure.Message);
    return 1;
}
