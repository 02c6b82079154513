using System.Runtime.InteropServices;
using BgeMetal.Kernels.Primitives;

namespace BgeMetal.Kernels.Tests.Cuda;

/// <summary>
/// The copy engine of a block and its mbarriers. A copy spoils its target when it is issued and arrives only when no thread can go on without it, the last
/// issued first: a kernel that reads too early, or has a stage overwritten too early, computes with NaN. A copy to several blocks of the cluster is one for each.
/// </summary>
internal sealed unsafe class PtxTransfers(PtxBlock block)
{
    private readonly Dictionary<int, Barrier> _barriers = [];

    /// <summary>mbarrier.init and mbarrier.arrive.</summary>
    public void Signal(PtxThread thread, PtxInstruction instruction)
    {
        PtxOperand[] o = instruction.Operands;
        if (instruction.Operation[1] == "init")
        {
            int address = Address(thread, o[0]);
            if (address % TransferBarrier.SizeBytes != 0) throw new DataMisalignedException(instruction.Text);
            _barriers[address] = new Barrier((int)thread.Read(o[1]));
            block.Checks?.BarrierMade(thread, address);
        }
        else
        {
            (PtxBlock there, int address) = block.Cluster.Find(block, Address(thread, o[1]), instruction);
            if (there != block && !instruction.Operation.Contains("shared::cluster")) throw new NotSupportedException(instruction.Text);
            Barrier barrier = there.Transfers.Find(address, instruction);
            there.Checks?.Arrives(thread, address);
            if (barrier.Change(1, instruction.Operation[2] == "expect_tx" ? (int)thread.Read(o[2]) : 0)) there.Checks?.PhaseEnds(address);
        }
    }

    /// <summary>Fences; the one behind mbarrier.init is what lets the engine see the barriers.</summary>
    public void Fence(PtxThread thread, PtxInstruction instruction)
    {
        if (instruction.Operation[1] == "proxy") block.Checks?.Fence(thread);
        if (instruction.Operation[1] != "mbarrier_init") return;
        foreach (Barrier barrier in _barriers.Values) barrier.Published = true;
    }

    /// <summary>Whether the phase that mbarrier.try_wait asks for is over.</summary>
    public bool Passes(PtxThread thread, PtxInstruction instruction) => instruction.Operation[0] == "barrier" ? block.Cluster.Passes(thread) : Find(Address(thread, instruction.Operands[1]), instruction).Phase != (int)thread.Read(instruction.Operands[2]);

    /// <summary>A thread goes on behind mbarrier.try_wait, or behind the cluster's barrier.</summary>
    public void Pass(PtxThread thread, PtxInstruction instruction)
    {
        if (instruction.Operation[0] == "mbarrier") block.Checks?.Waited(thread, Address(thread, instruction.Operands[1]));
        else block.Checks?.MeetsCluster(thread);
    }

    /// <summary>cp.async.bulk.tensor: [target], [map, {column, row}], [barrier], and with .multicast::cluster a bit for each block that receives it.</summary>
    public void Copy(PtxThread thread, PtxInstruction instruction)
    {
        PtxOperand[] o = instruction.Operands, box = o[1].Vector!;
        int map = (int)thread.Read(box[0]), target = Address(thread, o[0]), barrier = Address(thread, o[2]);
        TensorView view = MemoryMarshal.Read<TensorMap>(block.Arguments.AsSpan(map)).View();
        if (target % TensorCopy.Alignment != 0 || map % 64 != 0 || view.Address % 16 != 0 || view.StrideBytes % 16 != 0 || view.BoxRows > 256)
            throw new DataMisalignedException(instruction.Text);
        int at = thread.Position, firstColumn = (int)thread.Read(box[1]), firstRow = (int)thread.Read(box[2]), blocks = instruction.Operation.Contains("multicast::cluster") ? (int)thread.Read(o[3]) : 1 << block.Rank;
        Check(thread, view, firstColumn, firstRow);
        foreach (PtxBlock there in block.Cluster.Blocks.Where(b => (blocks >> b.Rank & 1) != 0))
        {
            if (!there.Transfers.Find(barrier, instruction).Published) throw new InvalidOperationException($"the copy engine does not know the barrier of '{instruction.Text}'");
            there.Checks?.BoxBegins(thread, target, view.BoxRows * 128, barrier);
            block.Cluster.Reached(there, instruction).Shared.AsSpan(target, view.BoxRows * 128).Fill(0xff);
            block.Cluster.Send(() => block.Cluster.Reached(there, instruction).Transfers.Receive(view, target, barrier, firstColumn, firstRow, at), at);
        }
    }

    private void Receive(TensorView view, int target, int barrier, int firstColumn, int firstRow, int at)
    {
        for (int r = 0; r < view.BoxRows; r++)
            for (int c = 0; c < TensorMap.BoxColumns; c++)
            {
                int row = firstRow + r, column = firstColumn + c, address = target + (r * 128) + (c * 2);
                bool inside = row >= 0 && row < view.Rows && column >= 0 && column < view.Columns;
                long source = view.Address + (row * view.StrideBytes) + (column * 2L);
                ushort bits = inside ? *(ushort*)source : (ushort)0;
                if (inside) block.Checks?.BoxValue(PtxWarpGroup.Swizzle(address), source);
                MemoryMarshal.Write(block.Shared.AsSpan(PtxWarpGroup.Swizzle(address)), in bits);
            }
        block.Checks?.BoxEnds(target, view.BoxRows * 128, barrier, at);
        if (_barriers[barrier].Change(0, -view.BoxRows * 128)) block.Checks?.PhaseEnds(barrier);
    }

    private void Check(PtxThread thread, TensorView view, int column, int row)
    {
        if (block.Checks is not { } checks) return;
        int columns = Math.Min(column + TensorMap.BoxColumns, view.Columns) - Math.Max(column, 0);
        for (int r = Math.Max(row, 0); columns > 0 && r < Math.Min(row + view.BoxRows, view.Rows); r++)
            checks.BoxRow(thread, view.Address + (r * view.StrideBytes) + (Math.Max(column, 0) * 2L), columns * 2);
    }

    private static int Address(PtxThread thread, PtxOperand operand) => (int)(uint)(thread.Read(operand) + operand.Immediate);

    private Barrier Find(int address, PtxInstruction instruction) =>
        _barriers.TryGetValue(address, out Barrier? barrier) ? barrier : throw new InvalidOperationException($"no mbarrier at {address} for '{instruction.Text}'");

    private sealed class Barrier
    {
        private readonly int _arrivals;
        private int _missing;
        private long _bytes;

        public Barrier(int arrivals) => _arrivals = _missing = arrivals;

        public int Phase { get; private set; }

        public bool Published { get; set; }

        /// <summary>Counts; true when that ended a phase.</summary>
        public bool Change(int arrived, int bytes)
        {
            _bytes += bytes;
            _missing -= arrived;
            if (_missing < 0) throw new InvalidOperationException("an mbarrier's phase has more arrivals than it was made for");
            if (_missing > 0 || _bytes != 0) return false;
            _missing = _arrivals;
            Phase ^= 1;
            return true;
        }
    }
}
