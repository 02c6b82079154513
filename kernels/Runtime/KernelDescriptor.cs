using System.Reflection;

namespace BgeMetal.Kernels.Runtime;

/// <summary>One kernel: a closed method and the launch facts that its <see cref="CudaKernelAttribute"/> declares.</summary>
public sealed class KernelDescriptor
{
    internal KernelDescriptor(MethodInfo method, CudaKernelAttribute attribute, DType dtype, string name)
    {
        Method = method;
        DType = dtype;
        Name = name;
        Stem = attribute.Stem;
        Direction = attribute.Direction;
        Threads = attribute.Threads;
        MinBlocks = attribute.MinBlocks;
        SharedBytes = attribute.SharedBytes;
        ClusterBlocks = attribute.ClusterBlocks;
        TensorCores = attribute.TensorCores;
        Architecture = attribute.Architecture;
        ArgumentType = method.GetParameters() is [{ ParameterType: { IsValueType: true } type }]
            ? type : throw new InvalidOperationException($"kernel {name} must take exactly one struct");
    }

    /// <summary>Unique and stable: stem, method and type arguments, joined by dots.</summary>
    public string Name { get; }

    /// <summary>The op it belongs to.</summary>
    public string Stem { get; }

    /// <summary>Forward, backward or neither.</summary>
    public KernelDirection Direction { get; }

    /// <summary>How activations are stored.</summary>
    public DType DType { get; }

    /// <summary>Threads of a block.</summary>
    public int Threads { get; }

    /// <summary>Blocks that must fit on a multiprocessor at once.</summary>
    public int MinBlocks { get; }

    /// <summary>Bytes of dynamic shared memory.</summary>
    public int SharedBytes { get; }

    /// <summary>Blocks of a cluster; 1 where blocks are on their own.</summary>
    public int ClusterBlocks { get; }

    /// <summary>True when it must contain tensor-core instructions.</summary>
    public bool TensorCores { get; }

    /// <summary>The one architecture that has its instructions, for example sm_90a; null where every one has them.</summary>
    public string? Architecture { get; }

    /// <summary>Whether a GPU of <paramref name="architecture"/> (sm_80, sm_90, ...) can run it: sm_90a is what sm_90 has and no other architecture.</summary>
    public bool RunsOn(string architecture) => Architecture is null || Architecture == architecture || Architecture == architecture + "a";

    /// <summary>What its text is compiled for on a GPU of <paramref name="architecture"/>.</summary>
    /// <exception cref="ArgumentException">It does not run there.</exception>
    public string TargetFor(string architecture) => RunsOn(architecture) ? Architecture ?? architecture
        : throw new ArgumentException($"{Name} is for {Architecture} only, not for {architecture}", nameof(architecture));

    /// <summary>The struct that is the kernel's parameter block.</summary>
    public Type ArgumentType { get; }

    /// <summary>The closed method ILGPU compiles.</summary>
    public MethodInfo Method { get; }

    /// <summary>The entry's name in PTX, as profilers show it.</summary>
    public string EntryName => Name.Replace('.', '_');

    /// <inheritdoc/>
    public override string ToString() => Name;
}

/// <summary>All kernels of this assembly, found by their attributes.</summary>
public static class KernelRegistry
{
    private static readonly Lazy<KernelDescriptor[]> s_all = new(() => [.. Find(typeof(KernelRegistry).Assembly).OrderBy(k => k.Name, StringComparer.Ordinal)]);
    private static readonly Lazy<Dictionary<MethodInfo, KernelDescriptor>> s_byMethod = new(() => s_all.Value.ToDictionary(k => k.Method));

    /// <summary>The kernels, ordered by name.</summary>
    public static IReadOnlyList<KernelDescriptor> All => s_all.Value;

    /// <summary>The descriptor of a kernel method.</summary>
    /// <exception cref="InvalidOperationException">No attribute declares this instantiation.</exception>
    public static KernelDescriptor Of(MethodInfo method) => s_byMethod.Value.TryGetValue(method, out KernelDescriptor? kernel)
        ? kernel : throw new InvalidOperationException($"no [CudaKernel] declares {method.DeclaringType?.Name}.{method}");

    /// <summary>The kernels that <paramref name="assembly"/> declares; also used on the tests' own kernels.</summary>
    internal static IEnumerable<KernelDescriptor> Find(Assembly assembly)
    {
        foreach (Type type in assembly.GetTypes())
            foreach (MethodInfo method in type.GetMethods(BindingFlags.Static | BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.DeclaredOnly))
                foreach (CudaKernelAttribute attribute in method.GetCustomAttributes<CudaKernelAttribute>())
                    foreach (Type? element in ElementsOf(attribute, method))
                        yield return Describe(type, method, attribute, element);
    }

    private static KernelDescriptor Describe(Type type, MethodInfo method, CudaKernelAttribute attribute, Type? element)
    {
        Type[] rest = [.. attribute.TypeArguments.Select(t => t.IsGenericTypeDefinition ? t.MakeGenericType(element!) : t)];
        Type[] arguments = element is null ? rest : [element, .. rest];
        MethodInfo closed = arguments.Length == 0 ? method : method.MakeGenericMethod(arguments);
        IEnumerable<string> words = arguments.Where(t => !typeof(Primitives.IAccumulator).IsAssignableFrom(t)).Select(t => t.Name.Split('`')[0]);
        DType dtype = element is null ? DType.Float32
            : element == typeof(BF16) ? DType.BFloat16 : element == typeof(FP16) ? DType.Float16 : DType.Float32;
        return new(closed, attribute, dtype, string.Join('.', [type.Name.Replace("Kernels", "", StringComparison.Ordinal), method.Name, .. words]));
    }

    private static IEnumerable<Type?> ElementsOf(CudaKernelAttribute attribute, MethodInfo method)
    {
        if (attribute.Elements == ElementTypes.None || !method.IsGenericMethodDefinition)
        {
            yield return null;
            yield break;
        }
        if (attribute.Elements.HasFlag(ElementTypes.Single)) yield return typeof(FP32);
        if (attribute.Elements.HasFlag(ElementTypes.BFloat)) yield return typeof(BF16);
        if (attribute.Elements.HasFlag(ElementTypes.Half)) yield return typeof(FP16);
    }
}
