using System.Diagnostics;
using System.Runtime.ExceptionServices;

namespace BgeMetal.Data.Training;

/// <summary>
/// Makes batches ahead of the step on threads of its own and hands them out in order. Each thread takes the next number, makes that batch whole and puts it in
/// its slot of a ring, at most <c>capacity</c> batches ahead of the consumer. What goes wrong in a batch is thrown when that batch is asked for, so the steps
/// before it still run. One consumer. Dispose stops the threads after the batches they are at and waits for them.
/// </summary>
/// <typeparam name="T">The batch.</typeparam>
internal sealed class BatchPrefetcher<T> : IDisposable where T : class
{
    private readonly Func<long, T> _build;
    private readonly long _end;
    private readonly (T? Batch, ExceptionDispatchInfo? Error)[] _ring;
    private readonly Thread[] _threads;
    private readonly object _lock = new();
    private long _nextToBuild;
    private long _nextToTake;
    private bool _stopped;

    /// <summary>Starts making batches <paramref name="first"/> .. <paramref name="end"/>-1.</summary>
    /// <param name="build">Makes a batch by its number; called from several threads at once.</param>
    /// <param name="first">The first batch: where a resumed run goes on.</param>
    /// <param name="end">One past the last batch.</param>
    /// <param name="capacity">The most batches made and not yet taken.</param>
    /// <param name="threads">Threads; 1 or 2 keep up with a CPU's step, more help a fast GPU.</param>
    public BatchPrefetcher(Func<long, T> build, long first, long end, int capacity = 8, int threads = 1)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(first);
        ArgumentOutOfRangeException.ThrowIfLessThan(capacity, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(threads, 1);
        _build = build;
        _nextToBuild = _nextToTake = first;
        _end = end;
        _ring = new (T?, ExceptionDispatchInfo?)[capacity];
        _threads = new Thread[Math.Min(threads, capacity)];
        for (int i = 0; i < _threads.Length; i++)
        {
            _threads[i] = new Thread(Work) { IsBackground = true, Name = $"batches {i}" };
            _threads[i].Start();
        }
    }

    /// <summary>How long <see cref="TryTake"/> has waited for batches that were not ready.</summary>
    public TimeSpan WaitTime { get; private set; }

    /// <summary>How often it had to wait.</summary>
    public long Waits { get; private set; }

    /// <summary>The next batch in order; false when all were taken.</summary>
    /// <exception cref="OperationCanceledException"><paramref name="cancellation"/> was signalled while waiting.</exception>
    /// <exception cref="BgeMetalException">Making this very batch failed. Asking again throws again.</exception>
    public bool TryTake(out T batch, CancellationToken cancellation = default)
    {
        cancellation.ThrowIfCancellationRequested();
        batch = null!;
        lock (_lock)
        {
            ObjectDisposedException.ThrowIf(_stopped, this);
            if (_nextToTake >= _end) return false;
            ref (T? Batch, ExceptionDispatchInfo? Error) slot = ref _ring[_nextToTake % _ring.Length];
            if (slot is (null, null)) Wait(ref slot, cancellation);
            slot.Error?.Throw();
            batch = slot.Batch!;
            slot = default;
            _nextToTake++;
            Monitor.PulseAll(_lock);
            return true;
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        lock (_lock)
        {
            _stopped = true;
            Monitor.PulseAll(_lock);
        }

        foreach (Thread thread in _threads) thread.Join();
    }

    private void Wait(ref (T? Batch, ExceptionDispatchInfo? Error) slot, CancellationToken cancellation)
    {
        long start = Stopwatch.GetTimestamp();
        using CancellationTokenRegistration wake = cancellation.UnsafeRegister(static prefetcher => ((BatchPrefetcher<T>)prefetcher!).Wake(), this);
        while (slot is (null, null))
        {
            cancellation.ThrowIfCancellationRequested();
            Monitor.Wait(_lock);
        }

        WaitTime += Stopwatch.GetElapsedTime(start);
        Waits++;
    }

    /// <summary>Takes the lock on another thread than the one that cancels, which may hold locks of its own.</summary>
    private void Wake() => ThreadPool.UnsafeQueueUserWorkItem(static prefetcher =>
    {
        lock (prefetcher._lock) Monitor.PulseAll(prefetcher._lock);
    }, this, preferLocal: false);

    private void Work()
    {
        while (TryClaim(out long number))
        {
            (T?, ExceptionDispatchInfo?) result;
            try
            {
                result = (_build(number), null);
            }
            catch (Exception e)
            {
                result = (null, ExceptionDispatchInfo.Capture(e));
            }

            lock (_lock)
            {
                _ring[number % _ring.Length] = result;
                Monitor.PulseAll(_lock);
            }
        }
    }

    private bool TryClaim(out long number)
    {
        lock (_lock)
        {
            while (!_stopped && _nextToBuild < _end && _nextToBuild >= _nextToTake + _ring.Length) Monitor.Wait(_lock);
            number = _nextToBuild;
            if (_stopped || _nextToBuild >= _end) return false;
            _nextToBuild++;
            return true;
        }
    }
}
