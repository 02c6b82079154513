using System.Runtime.CompilerServices;

namespace BgeMetal.Tests;

/// <summary>On a machine with a GPU the tests compute on the CPU all the same, where they do not ask for the GPU: what they promise is the CPU's bits.</summary>
internal static class CpuUnlessAsked
{
    [ModuleInitializer]
    public static void Set() => Environment.SetEnvironmentVariable("BGEMETAL_DEVICE", "cpu");
}
