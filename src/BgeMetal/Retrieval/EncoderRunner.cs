using System.Buffers;
using BgeMetal.Autograd;
using BgeMetal.Data;
using BgeMetal.Kernels.Cpu;
using BgeMetal.Tensors;

namespace BgeMetal.Retrieval;

/// <summary>A forward pass of a packed batch to one row a sequence [B, columns].</summary>
internal delegate Tensor SequenceModel(Tape tape, PackedTensors batch);

/// <summary>
/// Takes token sequences through a model on all threads. Many texts: sorted by length and cut into chunks of whole texts, each thread takes whole
/// chunks through all layers alone, with its own arena and no barrier. Few tokens: one batch, and the team splits inside each operation. Which of
/// the two is taken never shows in a result, because every kernel's rows are independent of batch and team. On CUDA chunks follow each other on the
/// device's one stream (<see cref="GpuRunner"/>).
/// </summary>
internal sealed class EncoderRunner : IDisposable
{
    private readonly Device _device;
    private readonly Arena[] _arenas;
    private readonly PackedBatch[] _batches;
    private readonly SequenceModel _model;
    private readonly int _chunkTokens;

    /// <summary>Tokens of a chunk where nobody says: what keeps a core's cache warm, or what fills a GPU.</summary>
    private const int CpuChunkTokens = 384, GpuChunkTokens = 16384;

    private readonly GpuRunner? _gpu;
    private bool _disposed;

    /// <summary>
    /// A runner for <paramref name="model"/> over these parameters; takes at most <paramref name="chunkTokens"/> tokens (or one text) through it at a time, a number for the device where it is null.
    /// </summary>
    public EncoderRunner(Device device, ParameterStore parameters, PositionRule positions, int? chunkTokens, SequenceModel model)
    {
        _device = device;
        Workers = device.Kind == DeviceKind.Cpu ? device.Team.Threads : 1;
        _arenas = [.. Enumerable.Range(0, Workers).Select(_ => new Arena(device.Kind == DeviceKind.Cpu ? Device.SingleThread : device))];
        _batches = [.. Enumerable.Range(0, Workers).Select(_ => new PackedBatch(positions))];
        _model = model;
        if (device.Kind == DeviceKind.Cuda) _gpu = new GpuRunner(device, _arenas[0], parameters, positions, model);
        _chunkTokens = chunkTokens ?? (device.Kind == DeviceKind.Cpu ? CpuChunkTokens : GpuChunkTokens);
    }

    /// <summary>Chunks that are computed at a time.</summary>
    private int Workers { get; }

    /// <summary>The GPU's part; null on the CPU.</summary>
    internal GpuRunner? Gpu => _gpu;

    /// <summary>Bytes of activations taken so far.</summary>
    public long ReservedBytes => _arenas.Sum(arena => arena.ReservedBytes);

    /// <summary>
    /// Runs every sequence; row i of <paramref name="destination"/> (rows of <paramref name="columns"/> floats) belongs to sequence i.
    /// Calls from several threads wait for each other.
    /// </summary>
    public void Run(IReadOnlyList<TokenSequence> sequences, Memory<float> destination, int columns, IProgress<long>? progress, CancellationToken cancellation)
    {
        if (sequences.Count == 0) return;
        ChunkPlan plan = ChunkPlan.Make(sequences, _chunkTokens, Workers);
        lock (_device.Gate)
        {
            ObjectDisposedException.ThrowIf(_disposed, typeof(Embedder));
            RunJob job = new(this, sequences, plan, destination, columns, progress, cancellation);
            if (_gpu is not null) RunOnGpu(job, plan.Chunks);
            else if (plan.SplitInside) RunSplit(job, plan.Chunks);
            else _device.Team.Run(ref job, plan.Chunks);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        lock (_device.Gate)
        {
            if (_disposed) return;
            _disposed = true;
            _gpu?.Dispose();
            foreach (Arena arena in _arenas) arena.Dispose();
        }
    }

    private void RunOnGpu(RunJob job, int chunks)
    {
        try
        {
            _gpu!.Run(chunks, job.SequencesOf, job.Columns, job.Deliver, job.Cancellation);
        }
        catch (Exception e) when (Device.IsFailure(e))
        {
            throw _device.Failure(e);
        }
    }

    private static void RunInTurn(RunJob job, int chunks)
    {
        for (int chunk = 0; chunk < chunks; chunk++) job.Execute(chunk, 0);
    }

    private void RunSplit(RunJob job, int chunks)
    {
        _arenas[0].MoveTo(_device);
        try
        {
            RunInTurn(job, chunks);
        }
        finally
        {
            _arenas[0].MoveTo(Device.SingleThread);
        }
    }

    private void RunChunk(RunJob job, ReadOnlySpan<int> members, int worker)
    {
        PackedBatch batch = _batches[worker];
        batch.Clear();
        foreach (int member in members) batch.Add(job.Sequences[member]);
        Arena arena = _arenas[worker];
        using Tape tape = Tape.Inference(arena);
        Tensor rows = _model(tape, batch.Upload(arena));
        float[] values = ArrayPool<float>.Shared.Rent(members.Length * job.Columns);
        rows.ColumnRange(0, job.Columns).CopyTo(values);
        Span<float> destination = job.Destination.Span;
        for (int i = 0; i < members.Length; i++)
            values.AsSpan(i * job.Columns, job.Columns).CopyTo(destination.Slice(members[i] * job.Columns, job.Columns));
        ArrayPool<float>.Shared.Return(values);
    }

    private readonly struct RunJob(
        EncoderRunner runner, IReadOnlyList<TokenSequence> sequences, ChunkPlan plan, Memory<float> destination, int columns,
        IProgress<long>? progress, CancellationToken cancellation) : ITeamJob
    {
        public IReadOnlyList<TokenSequence> Sequences => sequences;

        public Memory<float> Destination => destination;

        public int Columns => columns;

        public CancellationToken Cancellation => cancellation;

        public void Execute(int part, int worker)
        {
            cancellation.ThrowIfCancellationRequested();
            ReadOnlySpan<int> members = plan.Members(part);
            runner.RunChunk(this, members, worker);
            progress?.Report(members.Length);
        }

        public IEnumerable<TokenSequence> SequencesOf(int chunk)
        {
            for (int i = 0, count = plan.Members(chunk).Length; i < count; i++) yield return sequences[plan.Members(chunk)[i]];
        }

        public void Deliver(int chunk, DevicePass pass)
        {
            ReadOnlySpan<int> members = plan.Members(chunk);
            for (int i = 0; i < members.Length; i++) pass.CopyRow(i, destination.Span.Slice(members[i] * columns, columns));
            progress?.Report(members.Length);
        }
    }
}
