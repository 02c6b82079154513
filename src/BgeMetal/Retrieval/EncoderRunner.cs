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
/// the two is taken never shows in a result, because every kernel's rows are independent of batch and team.
/// </summary>
internal sealed class EncoderRunner : IDisposable
{
    private readonly Lock _gate = new();
    private readonly WorkerTeam _team;
    private readonly Device _teamDevice;
    private readonly Arena[] _arenas;
    private readonly PackedBatch[] _batches;
    private readonly SequenceModel _model;
    private readonly int _chunkTokens;
    private bool _disposed;

    /// <summary>A runner for <paramref name="model"/>; takes at most <paramref name="chunkTokens"/> tokens (or one text) through it at a time.</summary>
    public EncoderRunner(WorkerTeam team, PositionRule positions, int chunkTokens, SequenceModel model)
    {
        _team = team;
        _teamDevice = Device.Cpu(team);
        _arenas = [.. Enumerable.Range(0, team.Threads).Select(_ => new Arena(Device.SingleThread))];
        _batches = [.. Enumerable.Range(0, team.Threads).Select(_ => new PackedBatch(positions))];
        _model = model;
        _chunkTokens = chunkTokens;
    }

    /// <summary>Bytes of activations taken so far.</summary>
    public long ReservedBytes => _arenas.Sum(arena => arena.ReservedBytes);

    /// <summary>
    /// Runs every sequence; row i of <paramref name="destination"/> (rows of <paramref name="columns"/> floats) belongs to sequence i.
    /// Calls from several threads wait for each other.
    /// </summary>
    public void Run(IReadOnlyList<TokenSequence> sequences, Memory<float> destination, int columns, IProgress<long>? progress, CancellationToken cancellation)
    {
        if (sequences.Count == 0) return;
        ChunkPlan plan = ChunkPlan.Make(sequences, _chunkTokens, _team.Threads);
        lock (_gate)
        {
            ObjectDisposedException.ThrowIf(_disposed, typeof(Embedder));
            RunJob job = new(this, sequences, plan, destination, columns, progress, cancellation);
            if (plan.SplitInside)
            {
                _arenas[0].MoveTo(_teamDevice);
                try
                {
                    for (int chunk = 0; chunk < plan.Chunks; chunk++) job.Execute(chunk, 0);
                }
                finally
                {
                    _arenas[0].MoveTo(Device.SingleThread);
                }
            }
            else
            {
                _team.Run(ref job, plan.Chunks);
            }
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        lock (_gate)
        {
            if (_disposed) return;
            _disposed = true;
            foreach (Arena arena in _arenas) arena.Dispose();
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
        Span<float> destination = job.Destination.Span;
        for (int i = 0; i < members.Length; i++)
            rows.RowSpan(i)[..job.Columns].CopyTo(destination.Slice(members[i] * job.Columns, job.Columns));
    }

    private readonly struct RunJob(
        EncoderRunner runner, IReadOnlyList<TokenSequence> sequences, ChunkPlan plan, Memory<float> destination, int columns,
        IProgress<long>? progress, CancellationToken cancellation) : ITeamJob
    {
        public IReadOnlyList<TokenSequence> Sequences => sequences;

        public Memory<float> Destination => destination;

        public int Columns => columns;

        public void Execute(int part, int worker)
        {
            cancellation.ThrowIfCancellationRequested();
            ReadOnlySpan<int> members = plan.Members(part);
            runner.RunChunk(this, members, worker);
            progress?.Report(members.Length);
        }
    }
}
