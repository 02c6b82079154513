using System.Diagnostics;
using BgeMetal.Kernels.Cpu;

namespace BgeMetal.Kernels.Tests.Cpu;

[Collection(CpuKernels.Name)]
public sealed class WorkerTeamTests
{
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(5)]
    public void Every_part_runs_exactly_once_in_many_short_runs(int threads)
    {
        using WorkerTeam team = new(threads);
        int[] seen = new int[64];
        for (int run = 1; run <= 20_000; run++)
        {
            CountJob job = new() { Seen = seen };
            int parts = run % 65;
            team.Run(ref job, parts);
            if (run % 1000 == 0) Thread.Sleep(1);         // so that workers park now and then
        }
        for (int part = 0; part < 64; part++)
            Assert.Equal(Enumerable.Range(1, 20_000).Count(run => run % 65 > part), seen[part]);
    }

    [Fact]
    public void Workers_have_distinct_numbers_below_the_number_of_threads()
    {
        using WorkerTeam team = new(3);
        WorkerJob job = new() { Inside = new int[3] };
        team.Run(ref job, 300);
        Assert.Equal(300, job.Parts.Sum());
    }

    [Fact]
    public void An_exception_in_a_part_reaches_the_caller_and_the_team_lives_on()
    {
        using WorkerTeam team = new(2);
        FailingJob failing = new();
        for (int i = 0; i < 50; i++) Assert.Throws<InvalidDataException>(() => team.Run(ref failing, 10));
        int[] seen = new int[8];
        CountJob job = new() { Seen = seen };
        team.Run(ref job, 8);
        Assert.All(seen, count => Assert.Equal(1, count));
    }

    [Fact]
    public void A_run_inside_a_part_runs_inline()
    {
        using WorkerTeam team = new(2);
        NestedJob job = new() { Team = team, Seen = new int[4 * 8] };
        team.Run(ref job, 4);
        Assert.All(job.Seen, count => Assert.Equal(1, count));
    }

    [Fact]
    public async Task Threads_that_share_a_team_do_not_disturb_each_other()
    {
        using WorkerTeam team = new(2);
        await Task.WhenAll(Enumerable.Range(0, 4).Select(_ => Task.Run(() =>
        {
            for (int i = 0; i < 2000; i++)
            {
                int[] seen = new int[7];
                CountJob job = new() { Seen = seen };
                team.Run(ref job, 7);
                Assert.All(seen, count => Assert.Equal(1, count));
            }
        })));
    }

    [Fact]
    public void A_run_allocates_nothing()
    {
        using WorkerTeam team = new(3);
        int[] seen = new int[16];
        Assert.Equal(0, CpuKernels.ManagedBytes(() =>
        {
            CountJob job = new() { Seen = seen };
            team.Run(ref job, 16);
        }));
    }

    [Fact]
    public void What_a_job_changes_in_itself_is_seen_after_an_inline_run()
    {
        SumJob job = new();
        WorkerTeam.Single.Run(ref job, 4);
        Assert.Equal(0 + 1 + 2 + 3, job.Sum);
    }

    [Fact]
    public void A_disposed_team_refuses_and_the_single_team_cannot_be_disposed()
    {
        WorkerTeam team = new(2);
        team.Dispose();
        team.Dispose();
        CountJob job = new() { Seen = new int[2] };
        Assert.Throws<ObjectDisposedException>(() => team.Run(ref job, 2));
        WorkerTeam.Single.Dispose();
        WorkerTeam.Single.Run(ref job, 2);
        Assert.Throws<ArgumentOutOfRangeException>(() => new WorkerTeam(0));
    }

    [Fact]
    public void Native_buffers_are_aligned_counted_and_freed_once()
    {
        long before = NativeBuffer.AllocatedBytes;
        NativeBuffer buffer = new(3 << 20, clear: true);
        unsafe
        {
            Assert.Equal(0, (nint)buffer.Bytes % (2 << 20));
            Assert.Equal(0, buffer.Bytes[(3 << 20) - 1]);
            using NativeBuffer small = NativeBuffer.OfFloats(3);
            Assert.Equal(0, (nint)small.Floats % 64);
        }
        Assert.True(NativeBuffer.PeakBytes >= 3 << 20);
        buffer.Dispose();
        buffer.Dispose();
        Assert.Throws<ObjectDisposedException>(() => { unsafe { _ = buffer.Bytes; } });
        Assert.Throws<ArgumentOutOfRangeException>(() => new NativeBuffer(-1));
        Assert.True(NativeBuffer.AllocatedBytes - before < 3 << 20);
    }

    private struct CountJob : ITeamJob
    {
        public int[] Seen;

        public readonly void Execute(int part, int worker) => Interlocked.Increment(ref Seen[part]);
    }

    private struct SumJob : ITeamJob
    {
        public int Sum;

        public void Execute(int part, int worker) => Sum += part;
    }

    private struct WorkerJob : ITeamJob
    {
        public int[] Inside;
        public int[] Parts = new int[3];

        public WorkerJob() => Inside = [];

        public readonly void Execute(int part, int worker)
        {
            if (Interlocked.Increment(ref Inside[worker]) != 1) throw new UnreachableException("two threads share a worker number");
            Parts[worker]++;
            Thread.SpinWait(200);
            Interlocked.Decrement(ref Inside[worker]);
        }
    }

    private struct FailingJob : ITeamJob
    {
        public readonly void Execute(int part, int worker)
        {
            if (part % 3 == 1) throw new InvalidDataException("part");
        }
    }

    private struct NestedJob : ITeamJob
    {
        public WorkerTeam Team;
        public int[] Seen;

        public readonly void Execute(int part, int worker)
        {
            OffsetJob inner = new() { Seen = Seen, Offset = part * 8 };
            Team.Run(ref inner, 8);
        }
    }

    private struct OffsetJob : ITeamJob
    {
        public int[] Seen;
        public int Offset;

        public readonly void Execute(int part, int worker) => Interlocked.Increment(ref Seen[Offset + part]);
    }
}
