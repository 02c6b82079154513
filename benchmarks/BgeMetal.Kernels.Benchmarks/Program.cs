using BenchmarkDotNet.Running;
using BgeMetal.Kernels.Benchmarks;

// --quick [gemm] [attention] [rows] [topk] [training] [team] [--threads N] [--width 128|256|512] [--append]: best times in seconds instead of minutes.
// Anything else goes to BenchmarkDotNet.
if (args.Contains("--quick")) return QuickRun.Execute(args);
BenchmarkSwitcher.FromAssembly(typeof(QuickRun).Assembly).Run(args);
return 0;
