using System.Text;
using ILGPU.Backends.PTX;
using ILGPU.IR.Intrinsics;
using IrValue = ILGPU.IR.Value;

namespace BgeMetal.Kernels.Primitives;

/// <summary>
/// cp.async.bulk.tensor: one thread has the copy engine move a whole box from device to shared memory. Rows of 128 bytes come one below the other, and
/// the 16-byte chunk c of the row at shared address a lies at chunk c ^ (a / 128 % 8), as the tensor cores read it.
/// </summary>
internal static unsafe class TensorCopy
{
    /// <summary>What stands for the kernel's parameter block in the text until <see cref="Runtime.PtxFixups"/> puts its name there.</summary>
    public const string Parameters = "__tensor_map_parameters";

    /// <summary>The alignment of a box in shared memory.</summary>
    public const int Alignment = 1024;

    /// <summary>
    /// Copies the box whose first element is (<paramref name="row"/>, <paramref name="column"/>) to <paramref name="target"/>, a multiple of 1024, and tells
    /// the barrier how many bytes came. <paramref name="map"/> must be map number <paramref name="index"/> (a compile-time constant) of the argument struct.
    /// </summary>
    [IntrinsicImplementation]
    public static void Load(TensorMap map, int index, int target, int barrier, int column, int row)
    {
        TensorView view = map.View();
        CopyBox(view, SharedBlock.Pointer(0, 1), target, column, row);
        TransferBarrier.Complete(barrier, view.BoxRows * 128);
    }

    /// <summary>
    /// The same into all of the cluster's <paramref name="blocks"/> blocks (a compile-time constant): to the same address of each, and each one's own
    /// barrier at the same address is told. The box is fetched once.
    /// </summary>
    [IntrinsicImplementation]
    public static void LoadToAll(TensorMap map, int index, int target, int barrier, int column, int row, int blocks)
    {
        TensorView view = map.View();
        for (int rank = 0; rank < blocks; rank++)
        {
            CopyBox(view, EmulatedCluster.Running.Pointer(rank, 0), target, column, row);
            TransferBarrier.CompleteAt(barrier, rank, view.BoxRows * 128);
        }
    }

    /// <summary>Where the engine puts the byte that belongs at <paramref name="address"/>.</summary>
    public static int Swizzle(int address) => address ^ ((address >> 7 & 7) << 4);

    private static void CopyBox(in TensorView view, byte* shared, int target, int column, int row)
    {
        EmulatedWarp.CheckAligned(target, Alignment);
        for (int r = 0; r < view.BoxRows; r++)
            for (int c = 0; c < TensorMap.BoxColumns; c++)
            {
                bool inside = row + r >= 0 && row + r < view.Rows && column + c >= 0 && column + c < view.Columns;
                ushort bits = inside ? *(ushort*)(view.Address + (row + r) * view.StrideBytes + (column + c) * 2L) : (ushort)0;
                *(ushort*)(shared + Swizzle(target + r * 128 + c * 2)) = bits;
            }
    }

    private static class Ptx
    {
        public static void Load(PTXBackend backend, PTXCodeGenerator generator, IrValue value) => Copy(new(generator, value), blocks: 1);

        public static void LoadToAll(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            Copy(call, call.Constant(6));
        }

        private static void Copy(PtxCall call, int blocks)
        {
            int index = call.Constant(1);
            string target = call.Operand(2), barrier = call.Operand(3), column = call.Operand(4), row = call.Operand(5);
            bool one = blocks == 1;
            call.Emit(new StringBuilder($"\t.reg .b64 m;\n\tmov.b64 m, {Parameters};\n\tcvta.param.u64 m, m;\n")
                .Append(index == 0 ? "" : ($"\tadd.s64 m, m, {index * TensorMap.SizeBytes};\n"))
                .Append(one ? "" : $"\t.reg .b16 all;\n\tmov.b16 all, {(1 << blocks) - 1};\n")
                .Append($"\tcp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes{(one ? "" : ".multicast::cluster")} ")
                .Append($"[{target}], [m, {{{column}, {row}}}], [{barrier}]{(one ? "" : ", all")};\n"));
        }
    }
}
