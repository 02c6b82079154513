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
            if (PtxWarp.IsWhole(instruction, lanes)) PtxWarp.Execute(instruction, lanes);
            foreach (PtxThread lane in lanes) lane.Position++;
            progress = true;
        }
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
