using System.Runtime.InteropServices;

namespace BgeMetal.Kernels.Tests.Cuda;

/// <summary>One thread of an interpreted kernel: its registers and everything it can do by itself.</summary>
internal sealed unsafe class PtxThread
{
    private readonly PtxBlock _block;
    private readonly int _index;
    private readonly byte[] _undefined;
    private readonly ulong[] _registers;
    private readonly Queue<List<(int Target, long Source, int Size, int Read, int At)>> _groups = [];
    private readonly int[] _inFlight, _beingRead, _written;
    private List<(int Target, long Source, int Size, int Read, int At)> _open = [];
    private int _fences = 1, _products;

    public PtxThread(PtxBlock block, int index, int slots)
    {
        (_block, _index) = (block, index);
        (_registers, _inFlight, _beingRead, _written, _undefined) = (new ulong[slots], new int[slots], new int[slots], new int[slots], new byte[slots]);
        if (block.Checks is not null) _undefined.AsSpan().Fill(PtxUndefined.All);
    }

    public int Position { get; set; }

    public bool Exited { get; set; }

    public ulong this[int slot]
    {
        get => _registers[slot];
        set => _registers[slot] = value;
    }

    public bool Passes(PtxInstruction instruction)
    {
        if (instruction.Guard < 0) return true;
        if (_undefined[instruction.Guard] != 0) _block.Checks?.Used(this);
        return (_registers[instruction.Guard] != 0) != instruction.GuardNegated;
    }

    public PtxBlock Block => _block;

    public int Index => _index;

    public ulong Read(PtxOperand operand) => operand.Slot >= 0 ? _registers[Settled(operand.Slot)]
        : operand.Special is { } name ? (ulong)_block.Special(name, _index) : operand.Immediate;

    /// <summary>Which parts of an operand nobody wrote (<see cref="PtxUndefined"/>).</summary>
    public byte Undefined(PtxOperand operand) => operand.Slot >= 0 ? _undefined[operand.Slot] : (byte)0;

    /// <summary>Sets a register that an instruction of the whole warp writes.</summary>
    public void Set(PtxOperand operand, ulong value, byte undefined) => (_registers[operand.Slot], _undefined[operand.Slot]) = (value, undefined);

    public Span<byte> SharedBytes(PtxOperand address, int size)
    {
        int at = (int)(uint)Place(address);
        if (at % Math.Min(size, 16) != 0) throw new DataMisalignedException($"shared address {at} for {size} bytes");
        _block.Checks?.Inside(this, at, size);
        return _block.Shared.AsSpan(at, size);
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
            case "cp" when instruction.Operation[2] == "bulk": _block.Transfers.Copy(this, instruction); break;
            case "cp": AsyncCopy(instruction); break;
            case "mapa": Write(o[0], _block.Cluster.Map(Read(o[1]), (int)Read(o[2]))); break;
            case "barrier" when instruction.Operation[2] == "arrive": _block.Cluster.Arrive(this); break;
            case "barrier": _block.Transfers.Pass(this, instruction); break;
            case "mbarrier" when instruction.Flow == PtxFlow.TransferWait: _block.Transfers.Pass(this, instruction); Write(o[0], 1); break;
            case "mbarrier": _block.Transfers.Signal(this, instruction); break;
            case "fence": _block.Transfers.Fence(this, instruction); break;
            case "setmaxnreg": break;
            case "setp": Write(o[0], PtxArithmetic.Compare(instruction.Operation[1], type, Read(o[1]), Read(o[2])) ? 1ul : 0ul, (Undefined(o[1]) | Undefined(o[2])) == 0 ? (byte)0 : PtxUndefined.All); break;
            case "selp": Select(o); break;
            case "mov" when o[0].Vector is { } parts: Unpack(parts, Read(o[1]), Undefined(o[1])); break;
            case "mov" when o[1].Vector is { } parts:
                Write(o[0], (Read(parts[0]) & 0xffff) | (Read(parts[1]) << 16), (byte)((Undefined(parts[0]) & 1) | ((Undefined(parts[1]) & 1) << 1)));
                break;
            case "mov": Write(o[0], Read(o[1]), Undefined(o[1])); break;
            default: Compute(instruction); break;
        }
    }

    private void Compute(PtxInstruction instruction)
    {
        PtxOperand[] o = instruction.Operands;
        ulong[] values = new ulong[o.Length - 1];
        Span<byte> undefined = stackalloc byte[values.Length];
        for (int i = 0; i < values.Length; i++) (values[i], undefined[i]) = (Read(o[i + 1]), Undefined(o[i + 1]));
        Write(o[0], PtxArithmetic.Compute(instruction, values), PtxUndefined.Of(instruction, values, undefined));
    }

    private void Select(PtxOperand[] o)
    {
        PtxOperand chosen = Read(o[3]) != 0 ? o[1] : o[2];
        Write(o[0], Read(chosen), Undefined(o[3]) != 0 ? PtxUndefined.All : Undefined(chosen));
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

    private void Write(PtxOperand operand, ulong value, byte undefined = 0)
    {
        if (_products > 0 && _beingRead[operand.Slot] > 0) throw new InvalidOperationException("a register is written while a product reads it");
        _registers[Settled(operand.Slot)] = value;
        _undefined[operand.Slot] = undefined;
        _written[operand.Slot] = _fences;
    }

    private void Unpack(PtxOperand[] parts, ulong value, byte undefined)
    {
        Write(parts[0], value & 0xffff, (byte)(undefined & 1));
        Write(parts[1], value >> 16 & 0xffff, (byte)(undefined >> 1 & 1));
    }

    private void Load(PtxInstruction instruction)
    {
        PtxOperand[] targets = instruction.Operands[0].Vector ?? [instruction.Operands[0]];
        PtxOperand address = instruction.Operands[1];
        int size = PtxArithmetic.Bits(instruction.Type) / 8;
        ReadOnlySpan<byte> bytes = instruction.Operation[1] switch
        {
            "param" => _block.Arguments.AsSpan((int)address.Immediate, size),
            "shared" => SharedBytes(address, size * targets.Length),
            "global" => Global(address, size * targets.Length),
            _ => throw new NotSupportedException(instruction.Text),
        };
        ulong? undefined = instruction.Operation[1] switch
        {
            "shared" => _block.Checks?.SharedRead(this, (int)Place(address), bytes.Length),
            "global" => _block.Checks?.GlobalRead(this, Place(address), bytes.Length),
            _ => null,
        };
        for (int i = 0; i < targets.Length; i++)
            Write(targets[i], Value(bytes.Slice(i * size, size)), (byte)((undefined ?? 0) >> (i * size / 2) & ((1ul << (size / 2)) - 1)));
    }

    private void Store(PtxInstruction instruction)
    {
        PtxOperand[] sources = instruction.Operands[1].Vector ?? [instruction.Operands[1]];
        int size = PtxArithmetic.Bits(instruction.Type) / 8;
        Span<byte> bytes = instruction.Operation[1] == "shared"
            ? SharedBytes(instruction.Operands[0], size * sources.Length) : Global(instruction.Operands[0], size * sources.Length);
        ulong undefined = 0;
        for (int i = 0; i < sources.Length; i++) undefined |= (ulong)PtxUndefined.Width(instruction, Undefined(sources[i])) << (i * size / 2);
        if (instruction.Operation[1] == "shared") _block.Checks?.SharedWrite(this, (int)Place(instruction.Operands[0]), bytes.Length, undefined);
        else _block.Checks?.GlobalWrite(this, Place(instruction.Operands[0]), bytes.Length, undefined);
        for (int i = 0; i < sources.Length; i++)
        {
            ulong value = Read(sources[i]);
            MemoryMarshal.AsBytes(new ReadOnlySpan<ulong>(in value))[..size].CopyTo(bytes[(i * size)..]);
        }
    }

    /// <summary>The address that an operand names.</summary>
    public long Place(PtxOperand address)
    {
        if (Undefined(address) != 0) _block.Checks?.Used(this);
        return (long)(Read(address) + address.Immediate);
    }

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
                        _block.Checks?.CopyEnds(this, target, size, at, source, read);
                        _block.Shared.AsSpan(target, size).Clear();
                        if (read > 0) new ReadOnlySpan<byte>((void*)source, read).CopyTo(_block.Shared.AsSpan(target));
                    }
                break;
            default:
                int bytes = (int)o[2].Immediate, target16 = (int)(uint)(Read(o[0]) + o[0].Immediate), valid = (int)Read(o[3]);
                long from = Place(o[1]);
                if (target16 % bytes != 0 || (valid > 0 && from % bytes != 0)) throw new DataMisalignedException(instruction.Text);
                _block.Checks?.CopyBegins(this, target16, bytes, from, valid);
                _open.Add((target16, from, bytes, valid, Position));
                break;
        }
    }
}
