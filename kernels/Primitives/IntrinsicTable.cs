using System.Reflection;
using ILGPU;
using ILGPU.Backends.PTX;
using ILGPU.IR;
using ILGPU.IR.Intrinsics;

namespace BgeMetal.Kernels.Primitives;

/// <summary>
/// Tells ILGPU about every intrinsic of this assembly: a static method marked <see cref="IntrinsicImplementationAttribute"/>, whose PTX is
/// written by the method of the same name in the nested class <c>Ptx</c>. The method's own body is what ILGPU's CPU accelerator runs.
/// </summary>
internal static class IntrinsicTable
{
    private const BindingFlags Everything = BindingFlags.Static | BindingFlags.Public | BindingFlags.NonPublic;

    /// <summary>Registers all intrinsics; call while the context is being built, because a backend copies the table.</summary>
    public static void Register(Context.Builder builder)
    {
        IntrinsicImplementationManager manager = builder.GetIntrinsicManager();
        foreach ((MethodInfo method, MethodInfo handler) in Entries())
            manager.RegisterMethod(method, new PTXIntrinsic(handler, IntrinsicImplementationMode.GenerateCode));
    }

    /// <summary>All intrinsics with the methods that write their PTX.</summary>
    /// <exception cref="MissingMethodException">An intrinsic has no PTX.</exception>
    public static IEnumerable<(MethodInfo Method, MethodInfo Handler)> Entries()
    {
        foreach (Type type in typeof(IntrinsicTable).Assembly.GetTypes())
            foreach (MethodInfo method in type.GetMethods(Everything))
                if (method.GetCustomAttribute<IntrinsicImplementationAttribute>() is not null)
                    yield return (method, type.GetNestedType("Ptx", BindingFlags.NonPublic)?.GetMethod(method.Name, Everything)
                        ?? throw new MissingMethodException($"{type.FullName}.Ptx", method.Name));
    }
}
