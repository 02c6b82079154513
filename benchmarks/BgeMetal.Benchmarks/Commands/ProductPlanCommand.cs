using System.CommandLine;
using System.Globalization;
using BgeMetal.Benchmarks.Gpu;
using BgeMetal.Kernels;
using BgeMetal.Kernels.Cuda;
using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;

namespace BgeMetal.Benchmarks.Commands;

/// <summary>
/// <c>product-plan</c>: which kernel the products of a BERT layer take on an H100 and what share of the tensor cores' peak <see cref="GemmCost"/> predicts for it, as the table of
/// docs/PERFORMANCE.md. Nothing runs; BGEMETAL_PRODUCTS keeps kernels out as everywhere.
/// </summary>
internal static class ProductPlanCommand
{
    // H100 SXM: bytes of memory a cycle, at the clock at which it has its peak.
    private const double MemoryBytes = 3.35e12 / 1.755e9;

    public static Command Create()
    {
        Command command = new("product-plan", "The predicted kernels and rates of a layer's products on an H100");
        command.SetAction(_ => Run());
        return command;
    }

    private static int Run()
    {
        using StubGpu gpu = new();
        using CudaDevice device = CudaDevice.Open(DriverApi.Load(gpu.Path), 0, new KernelCache(KernelCache.DefaultFolder()));
        Console.WriteLine("| tokens | h | QKV | attention output | FFN up + GELU | FFN down | weight gradient, FFN |");
        Console.WriteLine("|---|---|---|---|---|---|---|");
        foreach (int tokens in (int[])[4096, 16384, 65536])
            foreach (int h in (int[])[384, 512, 768, 1024])
            {
                // Bytes beside the operands' of an output element: a result, a residual or a pre-activation with it, a binary32 that is added to.
                string[] cells = [Cell<Nt>(device, tokens, 3 * h, h, 2), Cell<Nt>(device, tokens, h, h, 4), Cell<Nt>(device, tokens, 4 * h, h, 4, GemmCost.GeluEpilogue),
                    Cell<Nt>(device, tokens, h, 4 * h, 4), Cell<Tn>(device, 4 * h, h, tokens, 8)];
                Console.WriteLine($"| {tokens / 1024}k | {h} | {string.Join(" | ", cells)} |");
            }
        return 0;
    }

    private static string Cell<TForm>(CudaDevice device, int m, int n, int k, int outputBytes, int epilogue = GemmCost.PlainEpilogue) where TForm : struct, IForm
    {
        double memory = (2.0 * k * (m + n) + (double)outputBytes * m * n) / MemoryBytes, least = (double)m * n * k / GemmCost.MultiplyAdds / device.MultiProcessors;
        ProductKernels allowed = device.Products;
        GemmPlan plan = Plan();
        device.Products = ProductKernels.Mma;
        GemmPlan other = Plan();
        device.Products = allowed;
        double mma = GemmCost.Mma(m, n, k, other.Splits, device.MultiProcessors, epilogue, other.Block);
        double cycles = plan.WarpGroups == WarpGroupTiling.None ? mma : GemmCost.Of(plan.WarpGroups, m, n, k, plan.Splits, device.MultiProcessors, epilogue);
        string name = plan.WarpGroups switch { WarpGroupTiling.Tile128 => "128", WarpGroupTiling.Tile256 => "256", WarpGroupTiling.Pair128 => "pair", _ => "mma" };
        return string.Create(CultureInfo.InvariantCulture,
            $"{100 * least / Math.Max(cycles, memory):F0} ({name}{(plan.Splits > 1 ? $" / {plan.Splits}" : "")}{(memory > cycles ? ", memory" : "")}), {100 * least / Math.Max(mma, memory):F0}");

        GemmPlan Plan()
        {
            DeviceMatrix<BF16> a = new(new(0x10000), TForm.AkContiguous ? k : m), b = new(new(0x20000), TForm.BkContiguous ? k : n);
            return GemmPlan.Choose<BF16, TForm>(device, m, n, k, a, b, new(new(0x30000), Linear.AmpleWorkspace), epilogueInstructions: epilogue);
        }
    }
}
