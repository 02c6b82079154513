using System.Globalization;
using System.Runtime.InteropServices;
using BgeMetal.Kernels;
using BgeMetal.Kernels.Cpu;
using BgeMetal.Kernels.Runtime;

namespace BgeMetal.Tensors;

/// <summary>Where tensors live and operations run.</summary>
internal enum DeviceKind
{
    /// <summary>Host memory, managed SIMD kernels.</summary>
    Cpu,

    /// <summary>An NVIDIA GPU through ILGPU.</summary>
    Cuda,
}

/// <summary>
/// A place to compute. On the CPU it names the team of threads that splits each operation: a team of one runs everything inline, which is how
/// many texts are embedded (one text chunk a thread); a larger team splits inside each operation, which is how a single text is embedded. On CUDA it holds
/// the one stream that everything is enqueued on, the storage type of activations and compute weights, and memory for intermediate sums; one thread at a
/// time uses it.
/// </summary>
internal sealed unsafe class Device : IDisposable
{
    /// <summary>Intermediate sums of a GPU: 256 MiB, with which every product may be split as it likes.</summary>
    public const long AmpleWorkspaceFloats = 64L << 20;

    private static readonly string[] s_forwardStems = ["Embedding", "Linear", "LayerNorm", "Attention", "Pooling", "NormalizeRows"], s_heads = ["Head32", "Head64", "Head128"];

    private readonly KernelDevice? _kernels;
    private readonly PinnedTransfers? _transfers;
    private readonly DeviceMemory? _workspace;
    private readonly CancellationTokenSource _closing = new();
    private Task _preparing = Task.CompletedTask;
    private KernelProfile? _profile;

    private Device(DeviceKind kind, WorkerTeam team)
    {
        Kind = kind;
        Team = team;
        Name = "cpu";
    }

    private Device(KernelDevice kernels, DType dtype, WorkerTeam team, long workspaceFloats, string name) : this(DeviceKind.Cuda, team)
    {
        _kernels = kernels;
        _transfers = new PinnedTransfers(kernels);
        _workspace = kernels.Allocate(workspaceFloats * sizeof(float));
        DType = dtype;
        Name = name;
    }

    /// <summary>The CPU, every operation on the calling thread.</summary>
    public static Device SingleThread { get; } = new(DeviceKind.Cpu, WorkerTeam.Single);

    /// <summary>The kind of device, on which an operation branches.</summary>
    public DeviceKind Kind { get; }

    /// <summary>The threads that share one operation on the CPU, and the host's work on CUDA.</summary>
    public WorkerTeam Team { get; }

    /// <summary>How activations and compute weights are stored; statistics and losses are always binary32.</summary>
    public DType DType { get; }

    /// <summary>As options name it: cpu, cuda:0.</summary>
    public string Name { get; }

    /// <summary>What the hardware calls itself; empty for the CPU.</summary>
    public string Hardware => _kernels?.Name ?? "";

    /// <summary>Why it is not a GPU that is there; empty otherwise.</summary>
    public string Remark { get; private init; } = "";

    /// <summary>Taken by whoever computes here on behalf of callers from several threads.</summary>
    public Lock Gate { get; } = new();

    /// <summary>Where kernels are launched (CUDA only).</summary>
    public KernelDevice Kernels => _kernels ?? throw new InvalidOperationException("the CPU launches no kernels");

    /// <summary>Memory for intermediate sums (CUDA only), 256-byte aligned.</summary>
    public nint WorkspaceAddress => (nint)(_workspace?.Address ?? 0);

    /// <summary>Floats of it.</summary>
    public long WorkspaceFloats => (_workspace?.SizeBytes ?? 0) / sizeof(float);

    /// <summary>The CPU with operations split over <paramref name="team"/>, which the caller owns.</summary>
    public static Device Cpu(WorkerTeam team) => new(DeviceKind.Cpu, team);

    /// <summary>The CPU with operations split over so many threads, which live until the device is disposed.</summary>
    public static Device CpuThreads(int threads, string remark = "") => new(DeviceKind.Cpu, new WorkerTeam(threads)) { Remark = remark };

    /// <summary>A GPU, or its emulation, that the new device owns; <paramref name="threads"/> prepare data on the host.</summary>
    public static Device Cuda(KernelDevice kernels, DType dtype, int threads = 1, long workspaceFloats = AmpleWorkspaceFloats, string name = "cuda:0") =>
        new(kernels, dtype, new WorkerTeam(threads), workspaceFloats, name);

    /// <summary>The names of the GPUs, in the driver's order; empty where there is no driver.</summary>
    public static IReadOnlyList<string> Gpus() => CudaDevice.List();

    /// <summary>Opens a GPU.</summary>
    /// <exception cref="BgeMetalException">There is no driver, it is too old, there is no such GPU, it is too old, or it has no memory left.</exception>
    public static Device OpenCuda(int index, DType dtype, int threads)
    {
        string name = string.Create(CultureInfo.InvariantCulture, $"cuda:{index}");
        CudaDevice? opened = null;
        try
        {
            opened = CudaDevice.Open(index);
            return Cuda(opened, dtype, threads, AmpleWorkspaceFloats, name);
        }
        catch (DeviceException e)
        {
            opened?.Dispose();
            throw Failure(e, name);
        }
    }

    /// <summary>
    /// Compiles (or reads from disk) and loads the kernels of a model's forward pass in the background, side by side, so that they need not be waited for one after
    /// another where they are launched. What the model turns out to need besides is loaded there; a kernel that cannot be loaded fails there.
    /// </summary>
    /// <param name="hiddenSize">Columns of an activation.</param>
    /// <param name="headDim">Columns of an attention head.</param>
    /// <param name="hasHead">Whether a classification head follows the encoder.</param>
    public void PrepareForward(int hiddenSize, int headDim, bool hasHead)
    {
        if (_kernels is not CudaDevice gpu) return;
        KernelDescriptor[] kernels = [.. ForwardKernels(DType, hiddenSize, headDim, hasHead)];
        _preparing = Task.Run(() => gpu.Prepare(kernels, _closing.Token));
    }

    /// <summary>
    /// Records what <paramref name="enqueue"/> enqueues on a GPU. Kernels that load ahead are waited for: what the driver thinks of loading beside a capture need not be known.
    /// </summary>
    public DeviceGraph Capture(Action enqueue)
    {
        AwaitPreparation();
        return Kernels.Capture(enqueue);
    }

    /// <summary>The kernels that a model of such sizes is expected to launch in a forward pass.</summary>
    internal static IEnumerable<KernelDescriptor> ForwardKernels(DType dtype, int hiddenSize, int headDim, bool hasHead)
    {
        string own = headDim <= 32 ? "Head32" : headDim <= 64 ? "Head64" : "Head128";
        List<string> others = [.. s_heads.Where(head => head != own)];
        // Heads of more than 64 columns and binary32 have one kernel for everything.
        if (dtype != DType.Float32 && headDim <= 64)
        {
            others.Add("Dropped");
            others.Add("Masked");
        }
        if (!hasHead) others.Add("TanhOutput");
        if (hiddenSize % 8 == 0 && hiddenSize <= 1024) others.Add("ForwardAny");
        // A head of one output is too narrow for the tensor cores.
        if (hiddenSize % 8 == 0 && dtype != DType.Float32 && !hasHead) others.Add("ExactGemm");
        return KernelRegistry.All.Where(kernel => kernel.DType == dtype && kernel.Direction == KernelDirection.Forward && s_forwardStems.Contains(kernel.Stem)
            && !kernel.Name.Split('.').Any(others.Contains) && !(kernel.Stem == "LayerNorm" && kernel.Name.EndsWith(".Dropped", StringComparison.Ordinal)));
    }

    // Without its failure, which comes again when the kernel is launched.
    private void AwaitPreparation() => ((IAsyncResult)_preparing).AsyncWaitHandle.WaitOne();

    /// <summary>Whether a GPU, its driver or its memory failed.</summary>
    public static bool IsFailure(Exception e) => e is DeviceException;

    /// <summary>Such a failure as users are told of it.</summary>
    public BgeMetalException Failure(Exception e) => Failure(e, Name);

    private static BgeMetalException Failure(Exception e, string name) => new($"device '{name}'", e.Message, innerException: e);

    /// <summary>Elements from one activation row's start to the next one's. On the CPU a cache line of padding, because power-of-two strides put the rows
    /// of one matmul tile into the same cache sets; on CUDA as much as 16-byte rows need.</summary>
    public int RowStride(int columns) => Kind == DeviceKind.Cpu ? columns + 16 : (columns + 7) / 8 * 8;

    /// <summary>Bytes that may be in use: of this process's memory limit, or the GPU's free ones and the <paramref name="held"/> ones that are already taken.</summary>
    public long AvailableBytes(long held = 0) => _kernels switch
    {
        null => GC.GetGCMemoryInfo().TotalAvailableMemoryBytes,
        CudaDevice gpu => gpu.MemoryInfo().Free + held,
        _ => long.MaxValue,
    };

    /// <summary>Takes the time of every kernel from now on; on the CPU of those of the whole process.</summary>
    public void StartProfile()
    {
        _profile = new KernelProfile();
        if (_kernels is null) WorkerTeam.Profile = _profile;
        else _kernels.Profile = _profile;
    }

    /// <summary>Whether <see cref="StartProfile"/> was called.</summary>
    public bool IsProfiled => _profile is not null;

    /// <summary>What kernels have taken since <see cref="StartProfile"/>; waits for those that run. Empty without it.</summary>
    public IReadOnlyList<KernelTime> KernelTimes()
    {
        if (_profile is not null) _kernels?.Synchronize();
        return _profile?.Times ?? [];
    }

    /// <summary>Takes memory of this device; contents are undefined.</summary>
    /// <exception cref="DeviceException">The GPU has not enough: the message says how much was asked for and how much is free.</exception>
    public DeviceBlock Allocate(long sizeBytes) => _kernels is null ? new DeviceBlock(new NativeBuffer(sizeBytes)) : new DeviceBlock(_kernels.Allocate(sizeBytes));

    /// <summary>Copies host values to this device's memory; on CUDA enqueued, and the span may be reused at once.</summary>
    public void Write<T>(ReadOnlySpan<T> values, nint address) where T : unmanaged
    {
        if (_transfers is null) values.CopyTo(new Span<T>((void*)address, values.Length));
        else _transfers.Write(MemoryMarshal.AsBytes(values), address);
    }

    /// <summary>Copies from this device's memory; on CUDA waits for everything enqueued.</summary>
    public void Read<T>(nint address, Span<T> values) where T : unmanaged
    {
        if (_transfers is null) new ReadOnlySpan<T>((void*)address, values.Length).CopyTo(values);
        else _transfers.Read(address, MemoryMarshal.AsBytes(values));
    }

    /// <summary>Sets bytes to zero.</summary>
    public void Clear(nint address, long sizeBytes)
    {
        if (_kernels is null) NativeMemory.Clear((void*)address, (nuint)sizeBytes);
        else _kernels.Fill(address, 0, sizeBytes);
    }

    /// <summary>Moves bytes within this device's memory; <paramref name="target"/> may overlap the source from below.</summary>
    public void Copy(nint source, nint target, long sizeBytes)
    {
        if (source == target) return;
        if (_kernels is null)
        {
            Buffer.MemoryCopy((void*)source, (void*)target, sizeBytes, sizeBytes);
            return;
        }
        long piece = source > target && source - target < sizeBytes ? source - target : sizeBytes;
        for (long done = 0; done < sizeBytes; done += piece) _kernels.Copy(source + done, target + done, Math.Min(piece, sizeBytes - done));
    }

    /// <summary>Ends the threads and gives a GPU back. Harmless on a device of one thread.</summary>
    public void Dispose()
    {
        Team.Dispose();
        _closing.Cancel();
        // Its failure, if any, belongs to whoever launches the kernel; here it must only have stopped.
        AwaitPreparation();
        _transfers?.Dispose();
        _workspace?.Dispose();
        _kernels?.Dispose();
    }

    /// <inheritdoc/>
    public override string ToString() => Kind == DeviceKind.Cpu ? $"cpu ({Team.Threads} threads)" : $"{Name} ({Hardware})";
}
