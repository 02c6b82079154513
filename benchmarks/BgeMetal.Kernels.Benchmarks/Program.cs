using BenchmarkDotNet.Running;
using BgeMetal.Kernels.Benchmarks;

// Times by hand and rows of results/kernels.csv: `bgemetal kernels bench`. This program is for BenchmarkDotNet's statistics.
BenchmarkSwitcher.FromAssembly(typeof(CpuBenchmarks).Assembly).Run(args);
