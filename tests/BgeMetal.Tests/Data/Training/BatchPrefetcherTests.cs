using BgeMetal.Data.Training;

namespace BgeMetal.Tests.Data.Training;

public sealed class BatchPrefetcherTests
{
    private static string Name(long number) => $"batch {number}";

    [Theory]
    [InlineData(1, 1)]
    [InlineData(3, 2)]
    [InlineData(8, 5)]
    public void Batches_come_in_order_whatever_the_threads_do(int capacity, int threads)
    {
        using BatchPrefetcher<string> prefetcher = new(number =>
        {
            if (number % 7 == 0) Thread.Sleep(1);
            return Name(number);
        }, 5, 205, capacity, threads);
        for (long i = 5; i < 205; i++)
        {
            Assert.True(prefetcher.TryTake(out string batch, TestContext.Current.CancellationToken));
            Assert.Equal(Name(i), batch);
        }

        Assert.False(prefetcher.TryTake(out _, TestContext.Current.CancellationToken));
    }

    [Fact]
    public void It_never_runs_further_ahead_than_its_capacity()
    {
        long furthest = -1;
        using BatchPrefetcher<string> prefetcher = new(number =>
        {
            InterlockedMax(ref furthest, number);
            return Name(number);
        }, 0, 100, capacity: 4, threads: 3);
        for (int taken = 0; taken < 50; taken++)
        {
            Assert.InRange(Interlocked.Read(ref furthest), -1, taken + 3);
            Assert.True(prefetcher.TryTake(out _, TestContext.Current.CancellationToken));
        }
    }

    [Fact]
    public void An_error_surfaces_at_its_own_batch_again_and_again()
    {
        using BatchPrefetcher<string> prefetcher = new(number => number == 3 ? throw new BgeMetalException("bad input", "why", "f", 9) : Name(number), 0, 10, capacity: 8, threads: 2);
        for (int i = 0; i < 3; i++) Assert.True(prefetcher.TryTake(out _, TestContext.Current.CancellationToken));
        Assert.Equal("bad input: why (f:9)", Assert.Throws<BgeMetalException>(() => prefetcher.TryTake(out _)).Message);
        Assert.Throws<BgeMetalException>(() => prefetcher.TryTake(out _));
    }

    [Fact]
    public void Waiting_can_be_cancelled_and_is_measured()
    {
        using ManualResetEventSlim gate = new();
        using CancellationTokenSource cancel = new(TimeSpan.FromMilliseconds(50));
        using BatchPrefetcher<string> prefetcher = new(number =>
        {
            gate.Wait();
            return Name(number);
        }, 0, 2);
        Assert.Throws<OperationCanceledException>(() => prefetcher.TryTake(out _, cancel.Token));
        using Timer timer = new(_ => gate.Set(), null, 50, Timeout.Infinite);
        Assert.True(prefetcher.TryTake(out string batch, TestContext.Current.CancellationToken));
        Assert.Equal(Name(0), batch);
        Assert.True(prefetcher.WaitTime > TimeSpan.FromMilliseconds(20), $"{prefetcher.WaitTime}");
        Assert.Equal(1, prefetcher.Waits);
    }

    [Fact]
    public void Disposing_joins_the_threads_and_ends_taking()
    {
        int running = 0;
        BatchPrefetcher<string> prefetcher = new(number =>
        {
            Interlocked.Increment(ref running);
            Thread.Sleep(20);
            Interlocked.Decrement(ref running);
            return Name(number);
        }, 0, 1000, capacity: 3, threads: 3);
        Assert.True(prefetcher.TryTake(out _, TestContext.Current.CancellationToken));
        prefetcher.Dispose();
        Assert.Equal(0, Volatile.Read(ref running));
        Assert.Throws<ObjectDisposedException>(() => prefetcher.TryTake(out _));
        prefetcher.Dispose();
    }

    [Fact]
    public void A_batch_made_in_time_costs_no_wait()
    {
        using CountdownEvent made = new(4);
        using BatchPrefetcher<string> prefetcher = new(number =>
        {
            made.Signal();
            return Name(number);
        }, 0, 4, capacity: 4);
        made.Wait(TestContext.Current.CancellationToken);
        while (prefetcher.TryTake(out _, TestContext.Current.CancellationToken)) Thread.Sleep(10);
        Assert.InRange(prefetcher.Waits, 0, 1);
    }

    private static void InterlockedMax(ref long target, long value)
    {
        for (long seen = Interlocked.Read(ref target); seen < value;)
        {
            long was = Interlocked.CompareExchange(ref target, value, seen);
            if (was == seen) return;
            seen = was;
        }
    }
}
