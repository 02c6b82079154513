using BgeMetal.Kernels.Cpu;
using BgeMetal.Kernels.Runtime;

namespace BgeMetal.Kernels.Bench;

/// <summary>Makes the operands of one call on the CPU and returns the call.</summary>
internal delegate Action<WorkerTeam> CpuCall(CpuOperands operands, BenchShape shape);

/// <summary>Makes the operands of one call on a GPU and returns the call, which only enqueues.</summary>
internal delegate Action CudaCall(CudaOperands operands, BenchShape shape, DType dtype);

/// <summary>
/// An operation as benchmarks see it: what it costs by formula, and how to call it on either backend. E in a formula is the size of an element in bytes,
/// the other letters are those of <see cref="BenchShape"/>; a multiply-add counts as two operations, and bytes are those of operands and results, each once.
/// </summary>
public sealed class BenchOp
{
    internal BenchOp(string stem, string name, KernelDirection direction, string flops, string bytes) =>
        (Stem, Name, Direction, Flops, Bytes) = (stem, name, direction, flops, bytes);

    /// <summary>The stem it belongs to.</summary>
    public string Stem { get; }

    /// <summary>The stem, or the fusion by its parts: AddLayerNorm, LinearGelu.</summary>
    public string Name { get; }

    /// <summary>Forward, backward or neither.</summary>
    public KernelDirection Direction { get; }

    /// <summary>Floating-point operations, a formula.</summary>
    public string Flops { get; }

    /// <summary>Bytes, a formula.</summary>
    public string Bytes { get; }

    /// <summary>The pass in lower case.</summary>
    public string Mode => Direction.ToString().ToLowerInvariant();

    internal CpuCall? Cpu { get; init; }

    internal IReadOnlyList<string> CpuShapes { get; init; } = [];

    internal CudaCall? Cuda { get; init; }

    /// <summary>Shapes in bf16, the type that is trained and served in.</summary>
    internal IReadOnlyList<string> CudaShapes { get; init; } = [];

    /// <summary>Shapes in the other types; by default the first of bf16's.</summary>
    internal IReadOnlyList<string>? OtherShapes { get; init; }

    /// <summary>Element types on a GPU.</summary>
    internal IReadOnlyList<DType> CudaTypes { get; init; } = [DType.BFloat16, DType.Float16, DType.Float32];

    /// <summary>The same product by cuBLAS, where it is a plain one.</summary>
    internal CublasForm Peer { get; init; }

    /// <summary>Whether it is one matrix product with what follows it, which several kernels can compute.</summary>
    internal bool IsProduct => Flops == "2 T K N";

    /// <summary>Whether it is an attention that Hopper has kernels of its own for, where a head is not too wide.</summary>
    internal bool HasWarpGroupAttention => Name is "Attention" or "AttentionDropout" or "AttentionRagged";

    /// <summary>Operations and bytes of one call.</summary>
    /// <exception cref="KeyNotFoundException">The shape lacks a size that a formula names.</exception>
    public (double Flops, double Bytes) Cost(BenchShape shape, DType dtype)
    {
        ArgumentNullException.ThrowIfNull(shape);
        double Size(string name) => name == "E" ? dtype.SizeBytes : shape[name];
        return (Formula.Evaluate(Flops, Size), Formula.Evaluate(Bytes, Size));
    }

    internal IEnumerable<BenchCase> CpuCases() => Cpu is null ? [] : CpuShapes.Select(shape => new BenchCase(this, new BenchShape(shape), DType.Float32));

    internal IEnumerable<BenchCase> CudaCases() => Cuda is null ? [] :
        from dtype in CudaTypes
        from shape in dtype == DType.BFloat16 || CudaTypes.Count == 1 ? CudaShapes : OtherShapes ?? [CudaShapes[0]]
        select new BenchCase(this, new BenchShape(shape), dtype);

    /// <summary>The cases at other shapes than the table's: those that have the sizes of the table's, and no others.</summary>
    internal IEnumerable<BenchCase> CudaCases(IReadOnlyList<BenchShape> shapes) => Cuda is null ? [] :
        from dtype in CudaTypes
        from shape in shapes
        where shape.Names.ToHashSet().SetEquals(new BenchShape(CudaShapes[0]).Names)
        select new BenchCase(this, shape, dtype);
}

/// <summary>One operation at one shape in one type.</summary>
/// <param name="Op">What is called.</param>
/// <param name="Shape">Its sizes.</param>
/// <param name="DType">How activations are stored.</param>
public sealed record BenchCase(BenchOp Op, BenchShape Shape, DType DType)
{
    /// <summary>The type's short name: fp32, bf16, fp16.</summary>
    public string TypeName => NameOf(DType);

    /// <summary>Whether every word of <paramref name="filter"/> occurs in the case's stem, name, pass, type or shape, whatever the capitals.</summary>
    public bool Matches(string filter)
    {
        ArgumentNullException.ThrowIfNull(filter);
        string all = $"{Op.Stem} {Op.Name} {Op.Mode} {TypeName} {Shape}";
        return filter.Split([' ', ',', '.'], StringSplitOptions.RemoveEmptyEntries).All(word => all.Contains(word, StringComparison.OrdinalIgnoreCase));
    }

    /// <summary>A type's short name.</summary>
    public static string NameOf(DType dtype) => dtype switch { DType.BFloat16 => "bf16", DType.Float16 => "fp16", DType.Int32 => "int32", _ => "fp32" };

    /// <inheritdoc/>
    public override string ToString() => $"{Op.Name} {Op.Mode} {TypeName} {Shape}";
}
