using System.Runtime.InteropServices;
using BgeMetal.Kernels.Primitives;

namespace BgeMetal.Kernels.Tests.Cuda;

/// <summary>
/// The copy engine of a block and its mbarriers. A copy spoils its target when it is issued and arrives only when no thread can go on without it, the last
/// issued first: a kernel that reads too early, or has a stage overwritten too early, computes with NaN.
/// </summary>
internal sealed unsafe class PtxTransfers(PtxBlock block)
{
    private readonly Dictionary<int, Barrier> _barriers = [];
    private readonly Stack<(TensorView View, int Target, int Barrier, int Column, int Row)> _pending = [];

    /// <summary>mbarrier.init and mbarrier.arrive.</summary>
    public void Signal(PtxThread thread, PtxInstruction instruction)
    {
        PtxOperand[] o = instruction.Operands;
        if (instruction.Operation[1] == "init")
        {
            int address = Address(thread, o[0]);
            if (address % TransferBarrier.SizeBytes != 0) throw new DataMisalignedException(instruction.Text);
            _barriers[address] = new Barrier((int)thread.Read(o[1]));
        }
        else
        {
            Find(Address(thread, o[1]), instruction).Change(1, instruction.Operation[2] == "expect_tx" ? (int)thread.Read(o[2]) : 0);
        }
    }

    /// <summary>Fences; the one behind mbarrier.init is what lets the engine see the barriers.</summary>
    public void Fence(PtxInstruction instruction)
    {
        if (instruction.Operation[1] != "mbarrier_init") return;
        foreach (Barrier barrier in _barriers.Values) barrier.Published = true;
    }

    /// <summary>Whether the phase that mbarrier.try_wait asks for is over.</summary>
    public bool Passes(PtxThread thread, PtxInstruction instruction) => Find(Address(thread, instruction.Operands[1]), instruction).Phase != (int)thread.Read(instruction.Operands[2]);

    /// <summary>cp.async.bulk.tensor: [target], [map, {column, row}], [barrier].</summary>
    public void Copy(PtxThread thread, PtxInstruction instruction)
    {
        PtxOperand[] o = instruction.Operands, box = o[1].Vector!;
        int map = (int)thread.Read(box[0]), target = Address(thread, o[0]), barrier = Address(thread, o[2]);
        TensorView view = MemoryMarshal.Read<TensorMap>(block.Arguments.AsSpan(map)).View();
        if (target % TensorCopy.Alignment != 0 || map % 64 != 0 || view.Address % 16 != 0 || view.StrideBytes % 16 != 0 || view.BoxRows > 256)
            throw new DataMisalignedException(instruction.Text);
        if (!Find(barrier, instruction).Published) throw new InvalidOperationException($"the copy engine does not know the barrier of '{instruction.Text}'");
        block.Shared.AsSpan(target, view.BoxRows * 128).Fill(0xff);
        _pending.Push((view, target, barrier, (int)thread.Read(box[1]), (int)thread.Read(box[2])));
    }

    /// <summary>Lets the copy that was issued last arrive; false when there is none.</summary>
    public bool Deliver()
    {
        if (!_pending.TryPop(out (TensorView View, int Target, int Barrier, int Column, int Row) copy)) return false;
        for (int r = 0; r < copy.View.BoxRows; r++)
            for (int c = 0; c < TensorMap.BoxColumns; c++)
            {
                int row = copy.Row + r, column = copy.Column + c, address = copy.Target + (r * 128) + (c * 2);
                bool inside = row >= 0 && row < copy.View.Rows && column >= 0 && column < copy.View.Columns;
                ushort bits = inside ? *(ushort*)(copy.View.Address + (row * copy.View.StrideBytes) + (column * 2L)) : (ushort)0;
                MemoryMarshal.Write(block.Shared.AsSpan(PtxWarpGroup.Swizzle(address)), in bits);
            }
        _barriers[copy.Barrier].Change(0, -copy.View.BoxRows * 128);
        return true;
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

        public void Change(int arrived, int bytes)
        {
            _bytes += bytes;
            _missing -= arrived;
            if (_missing < 0) throw new InvalidOperationException("an mbarrier's phase has more arrivals than it was made for");
            if (_missing > 0 || _bytes != 0) return;
            _missing = _arrivals;
            Phase ^= 1;
        }
    }
}
