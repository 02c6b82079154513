using System.Runtime.InteropServices;

namespace BgeMetal.Kernels.Tests.Cuda;

/// <summary>One thread of an interpreted kernel: its registers and everything it can do by itself.</summary>
internal sealed unsafe class PtxThread(PtxBlock block, int index, int slots)
{
    private readonly ulong[] _registers = new ulong[slots];
    private readonly Queue<List<(int Target, long Source, int Size, int Read, int At)>> _groups = [];
    private readonly int[] _inFlight = new int[slots], _beingRead = new int[slots], _written = new int[slots];
    private List<(int Target, long Source, int Size, int Read, int At)> _open = [];
    private int _fences = 1, _products;

    public int Position { get; set; }

    public bool Exited { get; set; }

    public ulong this[int slot]
    {
        get => _registers[slot];
        set => _registers[slot] = value;
    }

    public bool Passes(PtxInstruction instruction) => instruction.Guard < 0 || (_registers[instruction.Guard] != 0) != instruction.GuardNegated;

    public PtxBlock Block => block;

    public int Index => index;

    public ulong Read(PtxOperand operand) => operand.Slot >= 0 ? _registers[Settled(operand.Slot)]
        : operand.Special is { } name ? (ulong)block.Special(name, index) : operand.Immediate;

    public Span<byte> SharedBytes(PtxOperand address, int size)
    {
        int at = (int)(uint)(Read(address) + address.Immediate);
        if (at % Math.Min(size, 16) != 0) throw new DataMisalignedException($"shared address {at} for {size} bytes");
        block.Checks?.Inside(this, at, size);
        return block.Shared.AsSpan(at, size);
    }

    /// <summary>Executes an instruction that concerns this thread alone.</summary>
    public void Execute(PtxInstruction instruction)
    {
        PtxOperand[] o = instruction.Operands;
        string type = instruction.Type;
        switch (instruction.Operation[0])
        {
            case "ld": Load(instruction); break;
            case "st": Store(instruction); break;
            case "cp" when instruction.Operation[2] == "bulk": block.Transfers.Copy(this, instruction); break;
            case "cp": AsyncCopy(instruction); break;
            case "mbarrier" when instruction.Flow == PtxFlow.TransferWait: block.Transfers.Pass(this, instruction); Write(o[0], 1); break;
            case "mbarrier": block.Transfers.Signal(this, instruction); break;
            case "fence": block.Transfers.Fence(this, instruction); break;
            case "setmaxnreg": break;
            case "setp": Write(o[0], PtxArithmetic.Compare(instruction.Operation[1], type, Read(o[1]), Read(o[2])) ? 1ul : 0ul); break;
            case "selp": Write(o[0], Read(o[3]) != 0 ? Read(o[1]) : Read(o[2])); break;
            case "mov" when o[0].Vector is { } parts: Unpack(parts, Read(o[1])); break;
            case "mov" when o[1].Vector is { } parts: Write(o[0], (Read(parts[0]) & 0xffff) | (Read(parts[1]) << 16)); break;
            case "mov": Write(o[0], Read(o[1])); break;
            default: Write(o[0], PtxArithmetic.Compute(instruction, [.. o.Skip(1).Select(Read)])); break;
        }
    }

    /// <summary>
    /// An asynchronous product begins to change <paramref name="sums"/> and to read <paramref name="operands"/>, which nobody wrote since the last fence; until it is waited for, nobody
    /// may touch the former or write the latter.
    /// </summary>
    public void BeginProduct(PtxOperand[] sums, PtxOperand[] operands)
    {
        foreach (PtxOperand register in sums) _inFlight[Unwritten(register)]++;
        foreach (PtxOperand register in operands) _beingRead[Unwritten(register)]++;
        _products++;
    }

    /// <summary>The product is done with its registers.</summary>
    public void EndProduct(PtxOperand[] sums, PtxOperand[] operands)
    {
        foreach (PtxOperand register in sums) _inFlight[register.Slot]--;
        foreach (PtxOperand register in operands) _beingRead[register.Slot]--;
        _products--;
    }

    /// <summary>What was written so far is what the next products begin with.</summary>
    public void FenceAccumulators() => _fences++;

    private int Unwritten(PtxOperand register) => _written[register.Slot] < _fences
        ? register.Slot : throw new InvalidOperationException("a register of a product was written and no wgmma.fence followed");

    private int Settled(int slot) => _products == 0 || _inFlight[slot] == 0 ? slot : throw new InvalidOperationException("a register is touched while a product accumulates in it");

    private void Write(PtxOperand operand, ulong value)
    {
        if (_products > 0 && _beingRead[operand.Slot] > 0) throw new InvalidOperationException("a register is written while a product reads it");
        _registers[Settled(operand.Slot)] = value;
        _written[operand.Slot] = _fences;
    }

    private void Unpack(PtxOperand[] parts, ulong value)
    {
        Write(parts[0], value & 0xffff);
        Write(parts[1], value >> 16 & 0xffff);
    }

    private void Load(PtxInstruction instruction)
    {
        PtxOperand[] targets = instruction.Operands[0].Vector ?? [instruction.Operands[0]];
        PtxOperand address = instruction.Operands[1];
        int size = PtxArithmetic.Bits(instruction.Type) / 8;
        ReadOnlySpan<byte> bytes = instruction.Operation[1] switch
        {
            "param" => block.Arguments.AsSpan((int)address.Immediate, size),
            "shared" => SharedBytes(address, size * targets.Length),
            "global" => Global(address, size * targets.Length),
            _ => throw new NotSupportedException(instruction.Text),
        };
        if (instruction.Operation[1] == "shared") block.Checks?.SharedRead(this, (int)Place(address), size * targets.Length);
        if (instruction.Operation[1] == "global") block.Checks?.GlobalRead(this, Place(address), size * targets.Length);
        for (int i = 0; i < targets.Length; i++) Write(targets[i], Value(bytes.Slice(i * size, size)));
    }

    private void Store(PtxInstruction instruction)
    {
        PtxOperand[] sources = instruction.Operands[1].Vector ?? [instruction.Operands[1]];
        int size = PtxArithmetic.Bits(instruction.Type) / 8;
        Span<byte> bytes = instruction.Operation[1] == "shared"
            ? SharedBytes(instruction.Operands[0], size * sources.Length) : Global(instruction.Operands[0], size * sources.Length);
        if (instruction.Operation[1] == "shared") block.Checks?.SharedWrite(this, (int)Place(instruction.Operands[0]), bytes.Length, 0);
        else block.Checks?.GlobalWrite(this, Place(instruction.Operands[0]), bytes.Length, 0);
        for (int i = 0; i < sources.Length; i++)
        {
            ulong value = Read(sources[i]);
            MemoryMarshal.AsBytes(new ReadOnlySpan<ulong>(in value))[..size].CopyTo(bytes[(i * size)..]);
        }
    }

    /// <summary>The address that an operand names.</summary>
    public long Place(PtxOperand address) => (long)(Read(address) + address.Immediate);

    private Span<byte> Global(PtxOperand address, int size)
    {
        long at = Place(address);
        if (at % size != 0) throw new DataMisalignedException($"device address 0x{at:x} for {size} bytes");
        return new((void*)at, size);
    }

    private static ulong Value(ReadOnlySpan<byte> bytes)
    {
        ulong value = 0;
        bytes.CopyTo(MemoryMarshal.AsBytes(new Span<ulong>(ref value)));
        return value;
    }

    // Copies take effect when they are waited for, not before.
    private void AsyncCopy(PtxInstruction instruction)
    {
        PtxOperand[] o = instruction.Operands;
        switch (instruction.Operation[2])
        {
            case "commit_group":
                _groups.Enqueue(_open);
                _open = [];
                break;
            case "wait_group":
                while (_groups.Count > (int)o[0].Immediate)
                    foreach ((int target, long source, int size, int read, int at) in _groups.Dequeue())
                    {
                        block.Checks?.CopyEnds(this, target, size, at, source, read);
                        block.Shared.AsSpan(target, size).Clear();
                        if (read > 0) new ReadOnlySpan<byte>((void*)source, read).CopyTo(block.Shared.AsSpan(target));
                    }
                break;
            default:
                int bytes = (int)o[2].Immediate, target16 = (int)(uint)(Read(o[0]) + o[0].Immediate), valid = (int)Read(o[3]);
                long from = Place(o[1]);
                if (target16 % bytes != 0 || (valid > 0 && from % bytes != 0)) throw new DataMisalignedException(instruction.Text);
                block.Checks?.CopyBegins(this, target16, bytes, from, valid);
                _open.Add((target16, from, bytes, valid, Position));
                break;
        }
    }
}
