using ILGPU;
using ILGPU.Backends.PTX;
using ILGPU.IR.Intrinsics;
using IrValue = ILGPU.IR.Value;

namespace BgeMetal.Kernels.Primitives;

/// <summary>
/// A cluster: neighbouring blocks of a grid that run at the same time and reach each other's shared memory and barriers (sm_90). How many they are is said by
/// <see cref="Runtime.CudaKernelAttribute.ClusterBlocks"/>. PTX ISA, "barrier.cluster" and "Special Registers".
/// </summary>
internal static class BlockCluster
{
    /// <summary>This block's number within its cluster.</summary>
    [IntrinsicImplementation]
    public static int Rank() => Grid.IdxX;

    /// <summary>This cluster's number within the grid.</summary>
    [IntrinsicImplementation]
    public static int Index() => EmulatedCluster.Running.Index;

    /// <summary>Clusters of the grid.</summary>
    [IntrinsicImplementation]
    public static int Count() => EmulatedCluster.Running.Count;

    /// <summary>
    /// Waits for all threads of all blocks of the cluster. Needed before anybody signals or writes into another block (its barriers must have been made), and
    /// before a block ends that others still signal or write into.
    /// </summary>
    [IntrinsicImplementation]
    public static void Barrier() => EmulatedCluster.Running.Meet(Grid.IdxX, Group.DimX);

    private static class Ptx
    {
        public static void Rank(PTXBackend backend, PTXCodeGenerator generator, IrValue value) => Read(new(generator, value), "%cluster_ctarank");

        public static void Index(PTXBackend backend, PTXCodeGenerator generator, IrValue value) => Read(new(generator, value), "%clusterid.x");

        public static void Count(PTXBackend backend, PTXCodeGenerator generator, IrValue value) => Read(new(generator, value), "%nclusterid.x");

        public static void Barrier(PTXBackend backend, PTXCodeGenerator generator, IrValue value) =>
            new PtxCall(generator, value).Emit("\tbarrier.cluster.arrive.release;\n\tbarrier.cluster.wait.acquire;");

        private static void Read(PtxCall call, string register) => call.Emit($"\tmov.u32 {call.Result()}, {register};");
    }
}
