using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using BgeMetal.Benchmarks.Gpu;
using BgeMetal.Benchmarks.Models;
using BgeMetal.Checkpoints;
using BgeMetal.Kernels;
using BgeMetal.Kernels.Runtime;
using BgeMetal.Retrieval;
using BgeMetal.Tensors;

namespace BgeMetal.Benchmarks.Commands;

/// <summary>
/// <c>kernel-start</c>: what lies between a process's start and its first vector on a GPU, as far as it can be measured without one: which kernels are loaded ahead and which are
/// launched, how long their PTX takes to generate and to read back, and how long a model takes to load over the stub driver. The driver's own compilation is not in it.
/// </summary>
internal static class KernelStartCommand
{
    public static Command Create()
    {
        Option<string> model = new("--model") { Description = "Model shape", DefaultValueFactory = _ => "bge-small-en" };
        Command command = new("kernel-start", "PTX generation, cache and loading of a model's kernels, without a GPU") { model };
        command.SetAction(parsed => Run(EncoderShape.Named(parsed.GetValue(model)!)));
        return command;
    }

    private static int Run(EncoderShape shape)
    {
        KernelDescriptor[] kernels = [.. Device.ForwardKernels(DType.BFloat16, shape.HiddenSize, shape.HeadSize, hasHead: false)];
        DirectoryInfo folder = Directory.CreateTempSubdirectory("bgemetal-kernels-");
        try
        {
            KernelCache cold = new(folder.FullName);
            double first = Ms(() => cold.Get(kernels[0], "sm_90"));
            List<(string Name, double Ms)> each = [.. kernels[1..].Select(kernel => (kernel.Name, Ms(() => cold.Get(kernel, "sm_90"))))];
            KernelCache warm = new(folder.FullName);
            double read = Ms(() => Array.ForEach(kernels, kernel => warm.Get(kernel, "sm_90")));
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
                $"{shape.Name}, bf16: {kernels.Length} kernels loaded ahead; PTX: the first {first:F0} ms, then median {Median(each):F0} ms, longest {each.Max(kernel => kernel.Ms):F0} ms ({each.MaxBy(kernel => kernel.Ms).Name}), all {first + each.Sum(kernel => kernel.Ms):F0} ms one after another"));
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"from the disk: all {read:F1} ms, {warm.Compiled} compiled"));
        }
        finally
        {
            folder.Delete(recursive: true);
        }
        Load(shape, kernels);
        return 0;
    }

    /// <summary>Loads a model over the stub and embeds texts of several lengths under a profile, which names what was launched.</summary>
    private static void Load(EncoderShape shape, KernelDescriptor[] ahead)
    {
        using ModelFolder folder = new(EncoderWeights.Random(shape, 42), []);
        using StubGpu gpu = new();
        Embedder? embedder = null;
        double load = Ms(() => embedder = Embedder.Load(folder.Path, new EmbedderOptions { Pooling = PoolingMode.Cls, Compute = new ComputeOptions { Threads = 1, Profile = true, Opener = () => gpu.Open(DType.BFloat16) } }));
        using (embedder)
        {
            double vector = Ms(() => Embed(1, 16));
            foreach ((int sequences, int length) in ((int, int)[])[(1, 64), (1, 256), (32, 128), (128, 128)]) Embed(sequences, length);
            HashSet<string> launched = [.. embedder!.KernelTimes.Select(kernel => kernel.Name)], loaded = [.. ahead.Select(kernel => kernel.Name)];
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"stub driver: model loaded in {load:F0} ms, first vector {vector:F0} ms later; {launched.Count} kernels launched by batches of 1 x 16 to 128 x 128"));
            Console.WriteLine($"loaded and not launched: {string.Join(", ", loaded.Except(launched).Order(StringComparer.Ordinal))}");
            Console.WriteLine($"launched and not loaded ahead: {string.Join(", ", launched.Except(loaded).Order(StringComparer.Ordinal))}");
        }

        void Embed(int sequences, int length)
        {
            int[][] texts = Workload.Texts(shape.VocabularySize, 1, Enumerable.Repeat(length, sequences));
            embedder!.EmbedSequences([.. texts.Select(ids => new Data.TokenSequence(ids))], new float[sequences * embedder.Dimensions]);
        }
    }

    private static double Ms(Action action)
    {
        long start = Stopwatch.GetTimestamp();
        action();
        return Stopwatch.GetElapsedTime(start).TotalMilliseconds;
    }

    private static double Median(List<(string Name, double Ms)> kernels) => kernels.Select(kernel => kernel.Ms).Order().ElementAt(kernels.Count / 2);
}
