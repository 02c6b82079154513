using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Runtime.ExceptionServices;

namespace BgeMetal.Kernels.Cpu;

/// <summary>
/// A fork-join team: the calling thread and Threads - 1 background threads share the parts of a job. Workers spin for about 50 microseconds after a run,
/// because the next matmul follows within a few, and then park. Parts are handed out one by one through a single word that holds the run's number and
/// the next part, so a worker that wakes up late finds nothing to do and is not waited for: a busy machine slows a run down but cannot stall it.
/// One run at a time has the team; a run started meanwhile, from another thread or from inside a part, runs inline on its own thread.
/// </summary>
public sealed unsafe class WorkerTeam : IDisposable
{
    private const int PartBits = 32;
    private const long PartMask = (1L << PartBits) - 1;
    private static readonly long s_spinTicks = Stopwatch.Frequency / 20_000;

    private readonly Thread[] _workers;
    private readonly object _gate = new();

    private long _ticket = PartMask;                      // run number << 32 | next part; the next part is PartMask while no run is open
    private int _completed;
    private int _busy;
    private int _parked;
    private volatile bool _stopping;
    private void* _job;
    private delegate*<void*, int, int, void> _execute;
    private int _parts;
    private ExceptionDispatchInfo? _failure;

    /// <summary>Starts the background threads.</summary>
    /// <param name="threads">All threads that work on a run, the caller included; at least 1.</param>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="threads"/> is not in 1..1024.</exception>
    public WorkerTeam(int threads)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(threads, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(threads, 1024);
        Threads = threads;
        _workers = new Thread[threads - 1];
        for (int i = 0; i < _workers.Length; i++)
        {
            int worker = i + 1;
            _workers[i] = new Thread(() => Serve(worker)) { IsBackground = true, Name = $"worker team {worker}" };
            _workers[i].Start();
        }
    }

    /// <summary>The team of the calling thread alone: every run is inline. It may be used by many threads at once, and disposing it does nothing.</summary>
    public static WorkerTeam Single { get; } = new(1);

    /// <summary>Threads that work on a run, the caller included.</summary>
    public int Threads { get; }

    /// <summary>
    /// Runs parts 0..parts-1 of <paramref name="job"/> and returns when all are done. The job is copied for the run and copied back afterwards.
    /// The first exception of a part is rethrown here; parts not yet begun are then left out. Allocates nothing.
    /// </summary>
    /// <typeparam name="TJob">The job.</typeparam>
    /// <param name="job">What to do.</param>
    /// <param name="parts">How many parts; 0 or less does nothing.</param>
    /// <exception cref="ObjectDisposedException">The team was disposed.</exception>
    public void Run<TJob>(ref TJob job, int parts) where TJob : struct, ITeamJob
    {
        if (Profile is { } profile && typeof(TJob).Assembly == typeof(WorkerTeam).Assembly)
        {
            long begun = Stopwatch.GetTimestamp();
            RunParts(ref job, parts);
            profile.Add(NameOf<TJob>.Value, Stopwatch.GetElapsedTime(begun).TotalMicroseconds);
        }
        else
        {
            RunParts(ref job, parts);
        }
    }

    /// <summary>Takes the time of every kernel's runs in this process from now on; null for none.</summary>
    public static KernelProfile? Profile { get; set; }

    private void RunParts<TJob>(ref TJob job, int parts) where TJob : struct, ITeamJob
    {
        ObjectDisposedException.ThrowIf(_stopping, this);
        if (parts <= 0) return;
        if (parts == 1 || Threads == 1 || Interlocked.CompareExchange(ref _busy, 1, 0) != 0)
        {
            for (int part = 0; part < parts; part++) job.Execute(part, 0);
            return;
        }
        TJob local = job;                                 // on this stack, so its address stays while the run lasts
        try
        {
            Fork(Unsafe.AsPointer(ref local), &Execute<TJob>, parts);
        }
        finally
        {
            Volatile.Write(ref _busy, 0);
        }
        job = local;
    }

    /// <summary>Stops the background threads; no run may be under way.</summary>
    public void Dispose()
    {
        if (Threads == 1) return;
        _stopping = true;
        lock (_gate) Monitor.PulseAll(_gate);
        foreach (Thread worker in _workers) worker.Join();
    }

    private static class NameOf<TJob>
    {
        public static readonly string Value = $"{typeof(TJob).DeclaringType?.Name}.{typeof(TJob).Name}".Split('`')[0];
    }

    private static void Execute<TJob>(void* job, int part, int worker) where TJob : struct, ITeamJob =>
        Unsafe.AsRef<TJob>(job).Execute(part, worker);

    private void Fork(void* job, delegate*<void*, int, int, void> execute, int parts)
    {
        long run = (Volatile.Read(ref _ticket) >> PartBits) + 1;
        Interlocked.Exchange(ref _ticket, (run << PartBits) | PartMask);     // closed: a late worker's exchange fails from here on
        _job = job;
        _execute = execute;
        _parts = parts;
        _failure = null;
        Volatile.Write(ref _completed, 0);
        Interlocked.Exchange(ref _ticket, run << PartBits);                  // open
        if (Volatile.Read(ref _parked) > 0)
            lock (_gate) Monitor.PulseAll(_gate);

        while (TryWork(0)) { }
        SpinWait spin = default;
        while (Volatile.Read(ref _completed) < parts) spin.SpinOnce(sleep1Threshold: -1);
        Interlocked.Exchange(ref _ticket, (run << PartBits) | PartMask);
        _failure?.Throw();
    }

    // Takes and does one part of the open run; false when there is none. The run's fields are read before the part is taken: if the exchange succeeds,
    // the run was still open and the fields are its own, and they stay until this part is counted as completed.
    private bool TryWork(int worker)
    {
        long ticket = Volatile.Read(ref _ticket);
        long part = ticket & PartMask;
        void* job = _job;
        delegate*<void*, int, int, void> execute = _execute;
        if (part >= Volatile.Read(ref _parts)) return false;
        if (Interlocked.CompareExchange(ref _ticket, ticket + 1, ticket) != ticket) return true;
        try
        {
            if (Volatile.Read(ref _failure) is null) execute(job, (int)part, worker);
        }
        catch (Exception e)
        {
            Interlocked.CompareExchange(ref _failure, ExceptionDispatchInfo.Capture(e), null);
        }
        finally
        {
            Interlocked.Increment(ref _completed);
        }
        return true;
    }

    private void Serve(int worker)
    {
        while (!_stopping)
        {
            long seen = Volatile.Read(ref _ticket);       // before looking for work, or a run opened in between would be slept through
            if (TryWork(worker)) continue;
            long deadline = Stopwatch.GetTimestamp() + s_spinTicks;
            while (Volatile.Read(ref _ticket) == seen && Stopwatch.GetTimestamp() < deadline) Thread.SpinWait(20);
            if (Volatile.Read(ref _ticket) == seen) Park(seen);
        }
    }

    private void Park(long seen)
    {
        lock (_gate)
        {
            Interlocked.Increment(ref _parked);
            if (Volatile.Read(ref _ticket) == seen && !_stopping) Monitor.Wait(_gate);
            Interlocked.Decrement(ref _parked);
        }
    }
}
