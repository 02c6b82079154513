namespace BgeMetal.Kernels.Runtime;

/// <summary>Which half of an op a kernel computes.</summary>
public enum KernelDirection
{
    /// <summary>Outputs from inputs.</summary>
    Forward,

    /// <summary>Gradients.</summary>
    Backward,

    /// <summary>Neither: optimizer, casts, reductions.</summary>
    Update,
}

/// <summary>A set of element types to instantiate a kernel for.</summary>
[Flags]
public enum ElementTypes
{
    /// <summary>The kernel is not generic over an element type.</summary>
    None = 0,

    /// <summary>binary32.</summary>
    Single = 1,

    /// <summary>bfloat16.</summary>
    BFloat = 2,

    /// <summary>binary16.</summary>
    Half = 4,

    /// <summary>bfloat16 and binary16: what tensor cores multiply.</summary>
    Low = BFloat | Half,

    /// <summary>All three.</summary>
    All = Single | BFloat | Half,
}

/// <summary>
/// Declares one family of instantiations of a kernel: a static method with one parameter, a blittable struct. When <see cref="Elements"/> is set,
/// the method's first type parameter runs over those types; <paramref name="typeArguments"/> are the rest, and an open generic struct among them
/// is closed over the element type. Everything that lists, tests, compiles or launches kernels reads these attributes.
/// </summary>
/// <param name="stem">The op: Linear, LayerNorm, ...</param>
/// <param name="direction">Forward, backward or neither.</param>
/// <param name="threads">Threads of a block, a multiple of 32.</param>
/// <param name="typeArguments">Type arguments after the element type.</param>
[AttributeUsage(AttributeTargets.Method, AllowMultiple = true)]
public sealed class CudaKernelAttribute(string stem, KernelDirection direction, int threads, params Type[] typeArguments) : Attribute
{
    /// <summary>The <see cref="Architecture"/> of kernels with wgmma or setmaxnreg: Hopper, and nothing after it.</summary>
    public const string Hopper = "sm_90a";

    /// <summary>The op.</summary>
    public string Stem { get; } = stem;

    /// <summary>Forward, backward or neither.</summary>
    public KernelDirection Direction { get; } = direction;

    /// <summary>Threads of a block.</summary>
    public int Threads { get; } = threads;

    /// <summary>Type arguments after the element type.</summary>
    public IReadOnlyList<Type> TypeArguments { get; } = typeArguments;

    /// <summary>The element types to instantiate for.</summary>
    public ElementTypes Elements { get; set; } = ElementTypes.All;

    /// <summary>Blocks that must fit on a multiprocessor at once; bounds the registers of a thread.</summary>
    public int MinBlocks { get; set; } = 1;

    /// <summary>Bytes of dynamic shared memory; 0 for none.</summary>
    public int SharedBytes { get; set; }

    /// <summary>Blocks of a cluster, which run side by side and reach each other's shared memory; the grid is a multiple of it in x. 1 for none.</summary>
    public int ClusterBlocks { get; set; } = 1;

    /// <summary>True when the kernel must contain tensor-core instructions.</summary>
    public bool TensorCores { get; set; }

    /// <summary>The one architecture that has the kernel's instructions, for example <see cref="Hopper"/>; null for every architecture from sm_80 on.</summary>
    public string? Architecture { get; set; }
}
