using System.Buffers.Binary;
using System.Collections.Concurrent;
using System.Runtime.InteropServices;
using BgeMetal.Kernels.Runtime;

namespace BgeMetal.Kernels.Tests.Cuda;

/// <summary>
/// Runs the very text that a GPU would be given, instruction by instruction, in host memory. What the intrinsics write is thereby checked against
/// what their C# bodies do: the emulated device runs the bodies, this one the text. Threads of a warp advance by themselves and meet at shuffles,
/// matrix loads and matrix products; those of a block at barriers.
/// </summary>
public sealed unsafe class PtxDevice(int multiProcessors = 4, bool hasWarpGroups = false) : KernelDevice
{
    private static readonly ConcurrentDictionary<KernelDescriptor, (string Text, Lazy<PtxProgram> Program)> s_texts = new();

    private readonly Dictionary<KernelDescriptor, PtxProgram> _programs = [];
    private readonly PtxAllocations _memory = new();
    private readonly List<PtxShadow> _shared = [];
    private int _blocks;

    /// <summary>Changes each kernel's text before it is run: to see that a mistake is noticed.</summary>
    public Func<string, string> Change { get; init; } = text => text;

    /// <summary>The kernels that were launched.</summary>
    public IReadOnlyCollection<KernelDescriptor> Launched => _programs.Keys;

    /// <summary>Whether races, accesses outside of memory and the like are looked for (<see cref="PtxChecks"/>).</summary>
    public bool IsChecked { get; init; } = true;

    public override string Name => "interpreted PTX";

    public override int MultiProcessors => multiProcessors;

    internal override bool HasWarpGroups => hasWarpGroups;

    public override int SharedMemoryPerBlock => 227 * 1024;

    public override DeviceMemory Allocate(long sizeBytes)
    {
        long address = (long)NativeMemory.AlignedAlloc((nuint)Math.Max(sizeBytes, 1), 256);
        _memory.Add(address, sizeBytes);
        return new(this, address, sizeBytes);
    }

    public override PinnedMemory AllocatePinned(long sizeBytes) => new(this, (nint)NativeMemory.AlignedAlloc((nuint)Math.Max(sizeBytes, 1), 256), sizeBytes);

    public override void CopyToDevice(nint host, long device, long sizeBytes)
    {
        Touch(device, sizeBytes, defined: true);
        Buffer.MemoryCopy((void*)host, (void*)device, sizeBytes, sizeBytes);
    }

    public override void CopyToHost(long device, nint host, long sizeBytes) => Buffer.MemoryCopy((void*)device, (void*)host, sizeBytes, sizeBytes);

    public override void Copy(long source, long target, long sizeBytes)
    {
        if (sizeBytes == 0) return;
        PtxAllocations.Allocation from = _memory.Find(source, sizeBytes), to = _memory.Find(target, sizeBytes);
        to.Shadow.Define(target - to.Address, sizeBytes, from.Shadow, source - from.Address);
        Buffer.MemoryCopy((void*)source, (void*)target, sizeBytes, sizeBytes);
    }

    /// <summary>Bytes of 255 are what tests fill memory with that nobody has written yet: it counts as such.</summary>
    public override void Fill(long device, byte value, long sizeBytes)
    {
        Touch(device, sizeBytes, defined: value != byte.MaxValue);
        NativeMemory.Fill((void*)device, (nuint)sizeBytes, value);
    }

    public override void Synchronize()
    {
    }

    internal override void Free(DeviceMemory memory)
    {
        _memory.Remove(memory.Address);
        NativeMemory.AlignedFree((void*)memory.Address);
    }

    internal override void Free(PinnedMemory memory) => NativeMemory.AlignedFree((void*)memory.Address);

    private protected override void LaunchCore<TArguments>(Action<TArguments> kernel, LoadedKernel loaded, GridSize grid, ref TArguments arguments)
    {
        KernelDescriptor descriptor = loaded.Descriptor;
        if (!_programs.TryGetValue(descriptor, out PtxProgram? program))
            _programs.Add(descriptor, program = Load(descriptor));
        byte[] bytes = MemoryMarshal.AsBytes(new ReadOnlySpan<TArguments>(in arguments)).ToArray();
        Run(program, descriptor.Name, descriptor.Threads, descriptor.SharedBytes, grid, bytes);
    }

    // Compiling takes longer than most kernels of the tests.
    private PtxProgram Load(KernelDescriptor descriptor)
    {
        (string text, Lazy<PtxProgram> program) = s_texts.GetOrAdd(descriptor, static kernel =>
        {
            string compiled = PtxCompiler.Compile(kernel, kernel.TargetFor("sm_90"));
            return (compiled, new Lazy<PtxProgram>(() => PtxProgram.Parse(compiled)));
        });
        string changed = Change(text);
        return changed == text ? program.Value : PtxProgram.Parse(changed);
    }

    /// <summary>Runs a program block by block.</summary>
    internal void Run(PtxProgram program, string name, int threads, int sharedBytes, GridSize grid, byte[] arguments)
    {
        int first = _blocks + 1;
        for (int z = 0; z < grid.Z; z++)
            for (int y = 0; y < grid.Y; y++)
                for (int x = 0; x < grid.X; x += program.ClusterBlocks)
                {
                    _blocks++;
                    PtxClusterClocks? clocks = IsChecked ? new(program.ClusterBlocks, threads) : null;
                    RunCluster(program, PtxCluster.Of(x / program.ClusterBlocks, grid.X / program.ClusterBlocks, program.ClusterBlocks, clocks,
                        rank => new PtxBlock(program, arguments, sharedBytes, (grid.X, grid.Y, grid.Z), (x + rank, y, z), threads)
                        {
                            Checks = clocks is null ? null : Checks(program, clocks, rank, sharedBytes, first, $"{name}, block ({x + rank}, {y}, {z})"),
                        }), threads);
                }
    }

    private PtxChecks Checks(PtxProgram program, PtxClusterClocks clocks, int rank, int sharedBytes, int firstSerial, string place)
    {
        int start = PtxBlock.StartOfShared(program);
        if (rank == _shared.Count) _shared.Add(new PtxShadow(PtxBlock.MostSharedBytes));
        _shared[rank].Define(start, sharedBytes, defined: false);
        return new(program, _memory, _shared[rank], start, start + sharedBytes, clocks, rank, _blocks, firstSerial, place);
    }

    protected override void Dispose(bool disposing)
    {
    }

    private void Touch(long device, long sizeBytes, bool defined)
    {
        if (sizeBytes == 0) return;
        PtxAllocations.Allocation memory = _memory.Find(device, sizeBytes);
        memory.Shadow.Define(device - memory.Address, sizeBytes, defined);
    }

    private static void RunCluster(PtxProgram program, PtxCluster cluster, int count)
    {
        PtxThread[] threads = [.. cluster.Blocks.SelectMany(block => Enumerable.Range(0, count).Select(i => new PtxThread(block, i, program.Slots)))];
        cluster.Begin(threads);
        while (!Array.TrueForAll(threads, t => t.Exited))
        {
            bool progress = false;
            for (int w = 0; w < threads.Length; w += 32) progress |= RunWarp(program, threads.AsSpan(w, 32));
            if (progress || cluster.Deliver()) continue;
            // Nobody can go on alone, and nothing more arrives: all that are left of some block must stand at the same barrier.
            for (int first = 0; first < threads.Length; first += count) progress |= PassBarrier(program, threads.AsSpan(first, count));
            if (!progress)
                throw new InvalidOperationException("threads wait for each other at "
                    + string.Join(" and ", threads.Where(t => !t.Exited).Select(t => $"'{program.Code[t.Position].Text}'").Distinct()));
        }
        foreach (PtxBlock block in cluster.Blocks) block.Checks?.Finish(cluster.Unfinished);
    }

    private static bool PassBarrier(PtxProgram program, Span<PtxThread> block)
    {
        int position = block[0].Position;
        foreach (PtxThread thread in block)
            if (thread.Exited || thread.Position != position) return false;
        if (program.Code[position].Flow != PtxFlow.Barrier) return false;
        foreach (PtxThread thread in block) thread.Position++;
        block[0].Block.Checks?.Meet(0, block.Length);
        return true;
    }

    private static bool RunWarp(PtxProgram program, Span<PtxThread> lanes)
    {
        bool progress = false;
        while (true)
        {
            foreach (PtxThread lane in lanes) progress |= RunAlone(program, lane);
            if (lanes[0].Exited) return progress;
            PtxInstruction instruction = program.Code[lanes[0].Position];
            if (instruction.Flow is PtxFlow.Barrier or PtxFlow.TransferWait) return progress;
            foreach (PtxThread lane in lanes)
                if (lane.Exited || lane.Position != lanes[0].Position) throw new InvalidOperationException($"a warp is not whole at '{instruction.Text}'");
            if (WholeWarp(instruction, lanes)) Together(instruction, lanes);
            foreach (PtxThread lane in lanes) lane.Position++;
            progress = true;
        }
    }

    // Whether the lanes execute the instruction: all of them or none.
    private static bool WholeWarp(PtxInstruction instruction, Span<PtxThread> lanes)
    {
        PtxOperand[] o = instruction.Operands;
        PtxOperand? mask = instruction.Flow switch { PtxFlow.Shuffle => o[4], PtxFlow.Vote => o[2], PtxFlow.WarpSync => o[0], _ => null };
        int passing = 0;
        foreach (PtxThread lane in lanes)
        {
            if (lane.Passes(instruction)) passing++;
            if (mask is not null && (uint)lane.Read(mask) != uint.MaxValue) throw new InvalidOperationException($"'{instruction.Text}' names not all lanes");
        }
        return passing == 0 || passing == 32 ? passing == 32 : throw new InvalidOperationException($"a warp is not whole at '{instruction.Text}'");
    }

    private static bool RunAlone(PtxProgram program, PtxThread thread)
    {
        bool progress = false;
        while (!thread.Exited)
        {
            PtxInstruction instruction = program.Code[thread.Position];
            if (instruction.Flow == PtxFlow.TransferWait && thread.Block.Transfers.Passes(thread, instruction))
            {
                thread.Execute(instruction);
                thread.Position++;
                progress = true;
                continue;
            }
            if (instruction.Flow > PtxFlow.Return) return progress;
            progress = true;
            bool passes = thread.Passes(instruction);
            if (passes && instruction.Flow == PtxFlow.Branch)
            {
                thread.Position = instruction.Target;
                continue;
            }
            thread.Exited = passes && instruction.Flow == PtxFlow.Return;
            if (passes && instruction.Flow == PtxFlow.Next) thread.Execute(instruction);
            thread.Position++;
        }
        return progress;
    }

    private static void Together(PtxInstruction instruction, Span<PtxThread> lanes)
    {
        PtxOperand[] o = instruction.Operands;
        switch (instruction.Flow)
        {
            case PtxFlow.Shuffle:
                (ulong Value, byte Undefined)[] values = new (ulong, byte)[32];
                for (int i = 0; i < 32; i++) values[i] = (lanes[i].Read(o[1]), lanes[i].Undefined(o[1]));
                for (int i = 0; i < 32; i++)
                {
                    (ulong value, byte undefined) = values[ShuffleSource(i, instruction.Operation[2], (int)o[2].Immediate, (int)o[3].Immediate)];
                    lanes[i].Set(o[0], value, undefined);
                }
                break;
            case PtxFlow.Vote:
                ulong votes = 0;
                byte unknown = 0;
                for (int i = 0; i < 32; i++)
                {
                    votes |= (lanes[i].Read(o[1]) & 1) << i;
                    unknown |= lanes[i].Undefined(o[1]);
                }
                for (int i = 0; i < 32; i++) lanes[i].Set(o[0], votes, unknown);
                break;
            case PtxFlow.WarpSync:
                lanes[0].Block.Checks?.Meet(lanes[0].Index, 32);
                break;
            case PtxFlow.WarpGroup:
                lanes[0].Block.TensorCores[lanes[0].Index / 32].Execute(instruction, lanes);
                break;
            case PtxFlow.LoadMatrix:
                LoadMatrices(o, instruction.Operation.Contains("trans"), lanes);
                break;
            default:
                Multiply(o, instruction.Operation.Contains("bf16"), lanes);
                break;
        }
    }

    // The third operand says in its second byte which bits of the lane stay as they are.
    private static int ShuffleSource(int lane, string mode, int operand, int clamp)
    {
        int kept = clamp >> 8 & 31;
        return mode switch
        {
            "bfly" => lane ^ operand,
            "idx" => (lane & kept) | (operand & ~kept),
            _ => throw new NotSupportedException(mode),
        };
    }

    // Lane 8 q + r supplies row r of matrix q; lane l receives row l / 4, columns 2 (l % 4) and the next, or the transpose's.
    private static void LoadMatrices(PtxOperand[] o, bool transposed, Span<PtxThread> lanes)
    {
        for (int q = 0; q < 4; q++)
        {
            ushort[,] matrix = new ushort[8, 8];
            ulong[] undefined = new ulong[8];
            for (int r = 0; r < 8; r++)
            {
                PtxThread lane = lanes[(8 * q) + r];
                undefined[r] = lane.Block.Checks?.MatrixRead(lane, (int)lane.Place(o[1])) ?? 0;
                for (int c = 0; c < 8; c++)
                    matrix[r, c] = BinaryPrimitives.ReadUInt16LittleEndian(lane.SharedBytes(o[1], 16)[(2 * c)..]);
            }
            for (int l = 0; l < 32; l++)
            {
                int row = l / 4, column = 2 * (l % 4);
                uint low = transposed ? matrix[column, row] : matrix[row, column], high = transposed ? matrix[column + 1, row] : matrix[row, column + 1];
                ulong mask = transposed ? (undefined[column] >> row & 1) | ((undefined[column + 1] >> row & 1) << 1) : undefined[row] >> column & 3;
                lanes[l].Set(o[0].Vector![q], low | (high << 16), (byte)mask);
            }
        }
    }

    // The fragments of mma.m16n8k16 as the PTX manual lays them out.
    private static void Multiply(PtxOperand[] o, bool bf16, Span<PtxThread> lanes)
    {
        float[,] a = new float[16, 16], b = new float[16, 8];
        Span<bool> rows = stackalloc bool[16], columns = stackalloc bool[8];
        for (int l = 0; l < 32; l++)
        {
            int group = l / 4, pair = 2 * (l % 4);
            for (int half = 0; half < 2; half++)
            {
                for (int i = 0; i < 4; i++)
                {
                    a[group + (i % 2 * 8), pair + (i / 2 * 8) + half] = Half(lanes[l].Read(o[1].Vector![i]), half, bf16);
                    rows[group + (i % 2 * 8)] |= lanes[l].Undefined(o[1].Vector![i]) != 0;
                }
                for (int i = 0; i < 2; i++)
                {
                    b[pair + (8 * i) + half, group] = Half(lanes[l].Read(o[2].Vector![i]), half, bf16);
                    columns[group] |= lanes[l].Undefined(o[2].Vector![i]) != 0;
                }
            }
        }
        for (int l = 0; l < 32; l++)
            for (int i = 0; i < 4; i++)
            {
                float sum = PtxArithmetic.Float(lanes[l].Read(o[3].Vector![i]));
                for (int k = 0; k < 16; k++) sum += a[(l / 4) + (i / 2 * 8), k] * b[k, (2 * (l % 4)) + (i % 2)];
                bool unknown = rows[(l / 4) + (i / 2 * 8)] || columns[(2 * (l % 4)) + (i % 2)] || lanes[l].Undefined(o[3].Vector![i]) != 0;
                lanes[l].Set(o[0].Vector![i], BitConverter.SingleToUInt32Bits(sum), unknown ? PtxUndefined.All : (byte)0);
            }
    }

    private static float Half(ulong word, int half, bool bf16)
    {
        uint bits = (uint)(word >> (16 * half)) & 0xffff;
        return bf16 ? BF16.FromBits(bits) : FP16.FromBits(bits);
    }
}

/// <summary>One interpreting device for all tests that use one.</summary>
public sealed class PtxFixture : IDisposable
{
    public PtxDevice Device { get; } = new();

    public void Dispose() => Device.Dispose();
}

[CollectionDefinition("interpreted PTX")]
public sealed class PtxTestGroup : ICollectionFixture<PtxFixture>;

/// <summary>Linear layers, from the text.</summary>
[Collection("interpreted PTX")]
public sealed class PtxLinearTests(PtxFixture fixture) : LinearTests(fixture.Device);

/// <summary>Attention, from the text.</summary>
[Collection("interpreted PTX")]
public sealed class PtxAttentionTests(PtxFixture fixture) : AttentionTests(fixture.Device);

/// <summary>Layer normalisation, from the text.</summary>
[Collection("interpreted PTX")]
public sealed class PtxLayerNormTests(PtxFixture fixture) : LayerNormTests(fixture.Device);

/// <summary>Embedding, pooling, row normalisation, from the text.</summary>
[Collection("interpreted PTX")]
public sealed class PtxTokenOpTests(PtxFixture fixture) : TokenOpTests(fixture.Device);

/// <summary>The optimizer, from the text.</summary>
[Collection("interpreted PTX")]
public sealed class PtxOptimizerTests(PtxFixture fixture) : OptimizerTests(fixture.Device);
