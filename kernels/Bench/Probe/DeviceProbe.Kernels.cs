using System.Collections.Concurrent;
using System.Diagnostics;
using BgeMetal.Kernels.Cuda;
using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;

namespace BgeMetal.Kernels.Bench;

/// <content>The device itself, its kernels, and one product.</content>
public sealed unsafe partial class DeviceProbe
{
    private const int MostThreads = 0, SharedSize = 1, LocalSize = 3, RegisterCount = 4, BinaryVersion = 6;

    private void Describe(CudaDevice? gpu)
    {
        Add("device", "multiprocessors", _device.MultiProcessors);
        Add("device", "shared memory of a block at most", _device.SharedMemoryPerBlock, "bytes");
        if (gpu is null) return;
        Add("device", "second-level cache", gpu.SecondLevelCacheBytes, "bytes");
        (long free, long total) = gpu.MemoryInfo();
        Add("device", "free memory", free, "bytes");
        Add("device", "memory", total, "bytes");
    }

    private void LoadKernels(CudaDevice? gpu)
    {
        if (gpu is null) return;
        IReadOnlyList<KernelDescriptor> kernels = _settings.Kernels ?? [.. KernelRegistry.All.Where(kernel => kernel.Architecture is null || gpu.HasWarpGroups)];
        ConcurrentBag<KernelLoad> loads = [];
        long begin = Stopwatch.GetTimestamp();
        Parallel.ForEach(kernels, new ParallelOptions { MaxDegreeOfParallelism = Math.Min(Environment.ProcessorCount, 8) }, kernel => loads.Add(Load(gpu, kernel)));
        Add("kernels", "wall time of loading all", Stopwatch.GetElapsedTime(begin).TotalMilliseconds, "ms");
        _kernels = [.. loads.OrderBy(load => load.Kernel, StringComparer.Ordinal)];
        KernelLoad[] loaded = [.. _kernels.Where(load => load.Error.Length == 0)];
        Add("kernels", "loaded", loaded.Length);
        Add("kernels", "failed", _kernels.Count - loaded.Length);
        Add("kernels", "compiled by this process, others read from disk", gpu.CompiledKernels);
        Add("kernels", "text, sum over threads", loaded.Sum(load => load.TextMs), "ms");
        Add("kernels", "driver, sum over threads", loaded.Sum(load => load.DriverMs), "ms");
        Add("kernels", "driver, longest", loaded.Select(load => load.DriverMs).DefaultIfEmpty().Max(), "ms");
        Add("kernels", "with local memory", loaded.Count(load => load.LocalBytes > 0));
        Add("kernels", "with more registers than in the table", loaded.Count(load => load.Registers > load.ExpectedRegisters));
        foreach (KernelLoad load in _kernels.Where(load => load.Error.Length > 0)) Fail(load.Kernel, load.Error);
        Clusters(gpu, [.. kernels.Where(kernel => kernel.ClusterBlocks > 1 && loaded.Any(load => load.Kernel == kernel.Name))]);
    }

    /// <summary>How many clusters run at once: a persistent grid counts on all of its own, or the last ones wait for the first to end.</summary>
    private void Clusters(CudaDevice gpu, KernelDescriptor[] kernels)
    {
        if (kernels.Length == 0 || gpu.Api.cuOccupancyMaxActiveClusters == null) return;
        int fewest = int.MaxValue;
        foreach (KernelDescriptor kernel in kernels)
        {
            int clusters = 0, wanted = gpu.MultiProcessors * kernel.MinBlocks / kernel.ClusterBlocks;
            LaunchConfiguration configuration = new()
            {
                GridX = (uint)(wanted * kernel.ClusterBlocks),
                GridY = 1,
                GridZ = 1,
                BlockX = (uint)kernel.Threads,
                BlockY = 1,
                BlockZ = 1,
                SharedBytes = (uint)kernel.SharedBytes,
            };
            gpu.Api.Check(gpu.Api.cuOccupancyMaxActiveClusters(&clusters, gpu.Load(kernel).Function, &configuration), $"ask how many clusters of {kernel.Name} run at once");
            fewest = Math.Min(fewest, clusters);
            if (clusters < wanted) Fail(kernel.Name, $"{clusters} clusters run at once, the grid has up to {wanted}");
        }
        Add("kernels", "clusters at once, fewest of any kernel", fewest);
    }

    private KernelLoad Load(CudaDevice gpu, KernelDescriptor kernel)
    {
        try
        {
            LoadedFunction loaded = gpu.Load(kernel);
            int Attribute(int attribute)
            {
                int value = 0;
                gpu.Api.Check(gpu.Api.cuFuncGetAttribute(&value, attribute, loaded.Function), $"ask {kernel.Name} for attribute {attribute}");
                return value;
            }
            int blocks = 0;
            gpu.Api.Check(gpu.Api.cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, loaded.Function, kernel.Threads, (nuint)kernel.SharedBytes), $"ask for the occupancy of {kernel.Name}");
            int most = Attribute(MostThreads);
            return new KernelLoad
            {
                Kernel = kernel.Name,
                TextMs = Math.Round(loaded.TextMs, 2),
                DriverMs = Math.Round(loaded.DriverMs, 2),
                Registers = Attribute(RegisterCount),
                ExpectedRegisters = _settings.Costs.Registers(kernel.Name, kernel.TargetFor(gpu.Target)),
                LocalBytes = Attribute(LocalSize),
                SharedBytes = Attribute(SharedSize) + kernel.SharedBytes,
                Threads = kernel.Threads,
                BlocksPerMultiprocessor = blocks,
                Binary = Attribute(BinaryVersion),
                Error = most < kernel.Threads ? $"a block can have {most} threads, {kernel.Threads} are needed" : blocks == 0 ? "not one block fits a multiprocessor" : "",
            };
        }
        // A kernel that the compiler refuses must not hide the others; what is broken worse than this ends the program.
        catch (Exception e) when (e is DeviceException or ILGPU.InternalCompilerException or NotSupportedException or InvalidOperationException)
        {
            return new KernelLoad { Kernel = kernel.Name, Threads = kernel.Threads, Error = e.Message };
        }
    }

    /// <summary>A product of integers, exact in bf16, by a kernel whose blocks take more than 48 KB of shared memory.</summary>
    private void Product()
    {
        LinearShape shape = new(130, 128, 136);
        using CudaOperands operands = new(_device, default, new RandomPatterns(1));
        sbyte[] x = Digits(shape.Rows * shape.Inputs, 3), w = Digits(shape.Outputs * shape.Inputs, 5);
        DevicePointer<BF16> y = operands.Reserve<BF16>((long)shape.Rows * shape.Outputs);
        _device.Fill(y.Address, 0xff, (long)shape.Rows * shape.Outputs * 2);
        Linear.Forward(_device, shape, new DeviceMatrix<BF16>(Upload(operands, x), shape.Inputs), new DeviceMatrix<BF16>(Upload(operands, w), shape.Inputs), default,
            LinearActivation.None, default, default, new DeviceMatrix<BF16>(y, shape.Outputs), default);
        ushort[] bits = new ushort[shape.Rows * shape.Outputs];
        _device.Download(y.Cast<ushort>(), bits);
        int wrong = 0;
        for (int i = 0; i < bits.Length; i++)
        {
            int sum = 0;
            for (int k = 0; k < shape.Inputs; k++) sum += x[(i / shape.Outputs * shape.Inputs) + k] * w[(i % shape.Outputs * shape.Inputs) + k];
            if (BF16.FromBits(bits[i]) != sum) wrong++;
        }
        Add("kernels", "wrong elements of a product on tensor cores", wrong);
        if (wrong > 0) Fail("product on tensor cores", $"{wrong} of {bits.Length} elements are wrong");
    }

    private static DevicePointer<BF16> Upload(CudaOperands operands, sbyte[] values) => operands.Upload<ushort>([.. values.Select(v => (ushort)BF16.ToBits(v))]).Cast<BF16>();

    // -1, 0 and 1 in an order that repeats in neither rows nor columns.
    private static sbyte[] Digits(int count, int step) => [.. Enumerable.Range(0, count).Select(i => (sbyte)((((long)i * i * step) + i) % 7 % 3 - 1))];
}
