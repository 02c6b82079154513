using BgeMetal.Kernels.Runtime;

namespace BgeMetal.Kernels.Tests.Cuda;

/// <summary>What <see cref="PtxChecks"/> reports and what it lets pass, on kernels of a few instructions: each mistake beside its remedy.</summary>
public sealed class PtxCheckTests : IDisposable
{
    private const string Copy = "cp.async.cg.shared.global [%a], [%g], 16, 16;\ncp.async.commit_group;\n", CopyWait = "cp.async.wait_group 0;\n";
    private const string WriteMine = "st.shared.u32 [%mine], %t;\n", ReadNext = "ld.shared.u32 %v, [%next];\n", BlockBarrier = "bar.sync 0;\n", WarpBarrier = "bar.warp.sync 0xffffffff;\n";
    private const string FirstOnly = "setp.ne.u32 %p, %t, 0;\n@%p bra $OVER;\n", Over = "$OVER:\n";

    private readonly PtxDevice _device = new(1, hasWarpGroups: true);

    public void Dispose() => _device.Dispose();

    [Fact]
    public void What_another_thread_wrote_is_read_behind_a_barrier()
    {
        Passes(WriteMine + BlockBarrier + ReadNext);
        Fails(WriteMine + ReadNext, "'st.shared.u32 [%mine], %t' of thread 1 writes shared byte 1044, which 'ld.shared.u32 %v, [%next]' of thread 0 reads with nothing between");
        Fails(WriteMine + ReadNext.Replace("next", "s", StringComparison.Ordinal), "'ld.shared.u32 %v, [%s]' of thread 1 reads shared byte 1040, which 'st.shared.u32 [%mine], %t' of thread 0 writes with nothing between");
    }

    [Fact]
    public void What_another_thread_still_reads_is_overwritten_behind_a_barrier()
    {
        Passes(WriteMine + BlockBarrier + ReadNext + BlockBarrier + WriteMine);
        Fails(WriteMine + BlockBarrier + ReadNext + WriteMine, "'st.shared.u32 [%mine], %t' of thread 1 writes shared byte 1044, which 'ld.shared.u32 %v, [%next]' of thread 0 reads with nothing between");
    }

    [Fact]
    public void Two_threads_do_not_write_one_place() =>
        Fails("st.shared.u32 [%s], %t;\n", "of thread 1 writes shared byte 1040, which 'st.shared.u32 [%s], %t' of thread 0 writes with nothing between");

    [Fact]
    public void Halves_of_a_word_are_two_places() => Passes("shr.u32 %v, %mine, 1;\nadd.u32 %v, %v, 520;\nst.shared.b16 [%v], %h;\n");

    [Fact]
    public void Within_a_warp_a_warp_barrier_is_enough_and_a_shuffle_is_not()
    {
        Passes(WriteMine + WarpBarrier + ReadNext, threads: 32);
        Fails(WriteMine + "shfl.sync.bfly.b32 %v, %t, 1, 31, 0xffffffff;\n" + ReadNext, "nothing between that orders them", threads: 32);
        Fails(WriteMine + WarpBarrier + ReadNext, "of thread 32 writes shared byte 1168, which 'ld.shared.u32 %v, [%next]' of thread 31 reads");
    }

    [Fact]
    public void Copies_are_read_behind_their_wait_and_by_others_behind_a_barrier_too()
    {
        const string readMine = "ld.shared.u32 %v, [%a];\n", readOther = "xor.b32 %w, %t, 1;\nshl.b32 %w, %w, 4;\nadd.u32 %w, %s, %w;\nld.shared.u32 %v, [%w];\n";
        Passes(Copy + CopyWait + readMine + BlockBarrier + readOther);
        Fails(Copy + readMine, "'ld.shared.u32 %v, [%a]' of thread 0 reads shared byte 1040, which 'cp.async.cg.shared.global [%a], [%g], 16, 16' of thread 0 is still filling");
        Fails(Copy + CopyWait + readOther, "nothing between that orders them");
        Fails(Copy + BlockBarrier + CopyWait + readOther, "of thread 1 is still filling");
    }

    [Fact]
    public void Products_read_what_its_writers_have_fenced()
    {
        const string fence = "fence.proxy.async.shared::cta;\n";
        Passes(FillOperands + fence + BlockBarrier + Product(0), shared: 16384);
        Fails(FillOperands + BlockBarrier + Product(0), "'st.shared.b64 [%e+0], %g' of thread 0 writes with no fence.proxy.async behind it", shared: 16384);
        Fails(FillOperands + BlockBarrier + fence + Product(0), "with no fence.proxy.async behind it", shared: 16384);
        Fails(FillOperands + fence + Product(0), "'wgmma.mma_async", shared: 16384);
        Fails(BlockBarrier + Product(0), "which nobody wrote", shared: 16384);
    }

    [Fact]
    public void Operands_stay_until_their_product_was_waited_for()
    {
        const string fence = "fence.proxy.async.shared::cta;\n", overwrite = "st.shared.b64 [%e], %g;\n", wait = "wgmma.wait_group.sync.aligned 0;\n";
        Passes(FillOperands + fence + BlockBarrier + Product(0) + BlockBarrier + overwrite, shared: 16384);
        Fails(FillOperands + fence + BlockBarrier + Product(1) + BlockBarrier + overwrite + wait, "'st.shared.b64 [%e], %g' of thread", shared: 16384);
        Fails(FillOperands + fence + BlockBarrier + Product(1), "exits with a product under way", shared: 16384);
    }

    [Fact]
    public void All_warps_of_a_group_issue_their_products() =>
        Fails(FillOperands + "fence.proxy.async.shared::cta;\n" + BlockBarrier + "setp.gt.u32 %p, %t, 95;\n@%p bra $OVER;\n" + Product(0) + Over, "warp 3 issues 0 products, others of its group 1", shared: 16384);

    [Fact]
    public void Transfer_barriers_order_those_who_wait_behind_those_who_arrive()
    {
        const string barrier = FirstOnly + "mbarrier.init.shared.b64 [%far], 128;\n" + Over + BlockBarrier, arrive = "mbarrier.arrive.shared::cta.b64 _, [%far];\n";
        const string wait = "$AGAIN:\nmbarrier.try_wait.parity.shared::cta.b64 %p, [%far], 0;\n@!%p bra $AGAIN;\n";
        Passes(barrier + WriteMine + arrive + wait + ReadNext);
        Fails(barrier + arrive + WriteMine + wait + ReadNext, "nothing between that orders them");
        Fails(barrier.Replace(BlockBarrier, "", StringComparison.Ordinal) + arrive, "'mbarrier.init.shared.b64 [%w], 128' of thread 0 writes with nothing between");
    }

    [Fact]
    public void Memory_ends_where_it_ends()
    {
        Fails("st.shared.u32 [%mine+4096], %t;\n", "touches 4 bytes of shared memory at 5136, the block has 1040 to 5136");
        Fails("ld.shared.u32 %v, [%s+-16];\n", "touches 4 bytes of shared memory at 1024");
        Fails("ld.global.u32 %v, [%g+2048];\n", "'ld.global.u32 %v, [%g+2048]' of thread 0: 4 bytes at 0x", "are 2048 bytes from the start of an allocation of 2048");
        Fails("st.global.u32 [%g+2048], %v;\n", "are 2048 bytes from the start of an allocation of 2048");
        Fails("cp.async.cg.shared.global [%a], [%g+2048], 16, 16;\n", "from the start of an allocation of 2048");
    }

    [Fact]
    public void A_copy_of_nothing_may_come_from_anywhere() => Passes("cp.async.cg.shared.global [%a], [%g+4096], 16, 0;\n");

    [Fact]
    public void Values_that_nobody_wrote_are_read_and_not_used()
    {
        const string store = "st.global.u32 [%g], %v;\n", uses = "of thread 0 uses a value that nobody wrote";
        Passes("ld.shared.u32 %v, [%mine];\n");
        Fails("ld.shared.u32 %v, [%mine];\n" + store, $"'st.global.u32 [%g], %v' {uses}");
        Fails("ld.shared.u32 %v, [%mine];\nadd.u32 %v, %v, 1;\nst.shared.u32 [%mine], %v;\nld.shared.u32 %w, [%mine];\nst.global.u32 [%g], %w;\n", $"'st.global.u32 [%g], %w' {uses}");
        Fails("ld.shared.u32 %v, [%mine];\nsetp.eq.u32 %p, %v, 0;\n@%p bra $OVER;\n" + Over, $"'@%p bra $OVER' {uses}");
        Fails("ld.shared.u32 %v, [%mine];\nld.shared.u32 %w, [%v];\n", $"'ld.shared.u32 %w, [%v]' {uses}");
        Fails("ld.shared.u32 %v, [%mine];\nshfl.sync.bfly.b32 %v, %v, 1, 31, 0xffffffff;\n" + store, uses);
        Fails("st.global.f32 [%g], %f9;\n", $"'st.global.f32 [%g], %f9' {uses}");
    }

    [Fact]
    public void What_is_masked_away_is_not_used()
    {
        const string halfWritten = "st.shared.b16 [%mine], %h;\nld.shared.u32 %v, [%mine];\n", store = "st.global.u32 [%g], %v;\n";
        Fails(halfWritten + store, "uses a value that nobody wrote");
        Passes(halfWritten + "and.b32 %v, %v, 65535;\n" + store);
        Passes(halfWritten + "shl.b32 %v, %v, 16;\n" + store);
        Fails(halfWritten + "shr.u32 %v, %v, 16;\n" + store, "uses a value that nobody wrote");
        Passes("ld.shared.u32 %v, [%mine];\nsetp.ne.u32 %p, %t, %t;\nselp.b32 %v, %v, %t, %p;\n" + store);
    }

    [Fact]
    public void Device_memory_is_written_before_it_is_read()
    {
        const string copied = "cp.async.cg.shared.global [%a], [%g], 16, 16;\ncp.async.commit_group;\ncp.async.wait_group 0;\nld.shared.u32 %v, [%a];\nst.global.u32 [%g], %v;\n";
        Passes(copied);
        Fails(copied, "'st.global.u32 [%g], %v' of thread 0 uses a value that nobody wrote", fill: 255);
        Fails("ld.global.u32 %v, [%g];\nst.global.u32 [%g], %v;\n", "uses a value that nobody wrote", fill: 255);
        Passes("st.global.u32 [%g], %t;\nld.global.u32 %v, [%g];\nst.global.u32 [%g], %v;\n", fill: 255);
    }

    [Fact]
    public void Blocks_of_a_grid_leave_each_other_s_memory_alone()
    {
        Passes("st.global.u32 [%g], %t;\n");
        Fails("st.global.u32 [%g], %t;\n", "of thread 0 writes device byte 0, which 'st.global.u32 [%g], %t' of block 0 of the grid writes", blocks: 2);
        Passes("ld.global.u32 %v, [%g];\n", blocks: 2);
    }

    [Fact]
    public void Threads_of_a_block_share_device_memory_behind_barriers()
    {
        const string write = "st.global.u32 [%g], %t;\n", readOther = "xor.b32 %w, %t, 1;\nmul.wide.u32 %e64, %w, 16;\nadd.s64 %g, %base, %e64;\nld.global.u32 %v, [%g];\n";
        Passes(write + BlockBarrier + readOther);
        Fails(write + readOther, "nothing between that orders them");
    }

    [Fact]
    public void A_block_barrier_needs_every_thread() => Fails(FirstOnly + BlockBarrier + Over, "threads wait for each other at 'bar.sync 0'");

    [Fact]
    public void Warp_instructions_need_the_whole_warp()
    {
        Fails(FirstOnly + WarpBarrier + Over, "a warp is not whole at 'bar.warp.sync");
        Fails("setp.ne.u32 %p, %t, 0;\n@%p shfl.sync.bfly.b32 %v, %t, 1, 31, 0xffffffff;\n", "a warp is not whole at '@%p shfl.sync");
        Fails("shfl.sync.bfly.b32 %v, %t, 1, 31, 0xffff;\n", "names not all lanes");
    }

    private static string FillOperands => string.Concat(Enumerable.Range(0, 9).Select(i => $"st.shared.b64 [%e+{i * 1024}], %g;\n"));

    // 64 rows of the first operand from byte 0, eight of the second from byte 8192 on: rows of 128 bytes, swizzled.
    private static string Product(int pending) => $"""
        shr.u32 %v, %s1024, 4;
        cvt.u64.u32 %da, %v;
        or.b64 %da, %da, {(1L << 62) | (64L << 32) | (1L << 16)};
        add.s64 %db, %da, 512;
        setp.eq.u32 %p, 0, 0;
        wgmma.fence.sync.aligned;
        wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {"{%f0,%f1,%f2,%f3}"}, %da, %db, %p, 1, 1, 0, 0;
        wgmma.commit_group.sync.aligned;
        wgmma.wait_group.sync.aligned {pending};

        """;

    private void Passes(string body, int threads = 128, int shared = 4096, int blocks = 1, byte fill = 0) => Run(body, threads, shared, blocks, fill);

    private void Fails(string body, string says, string saysToo = "", int threads = 128, int shared = 4096, int blocks = 1, byte fill = 0)
    {
        string message = Assert.Throws<InvalidOperationException>(() => Run(body, threads, shared, blocks, fill)).Message;
        Assert.Contains(says, message, StringComparison.Ordinal);
        Assert.Contains(saysToo, message, StringComparison.Ordinal);
    }

    // %t thread, %s shared memory, %mine and %next a word of this thread's and of the next one's, %a and %g 16 bytes of its own in shared and device memory, %e 8 bytes from a multiple of 1024 on.
    private void Run(string body, int threads, int shared, int blocks, byte fill)
    {
        using DeviceMemory memory = _device.Allocate(2048);
        _device.Fill(memory.Address, fill, 2048);
        string align = body.Contains("wgmma", StringComparison.Ordinal) ? ".align 1024" : ".align 16";
        string text = $$"""
            .extern .shared {{align}} .b8 memory[];
            .visible .entry Test(.param .align 8 .b8 arguments[8])
            {
            .reg .b32 %t, %n, %s, %s1024, %mine, %next, %a, %e, %v, %w; .reg .b64 %g, %base, %e64, %da, %db; .reg .b16 %h; .reg .pred %p; .reg .f32 %f<10>;
            mov.u32 %t, %tid.x;
            mov.u32 %s, __dyn_shared_alloca;
            mov.u32 %s1024, %s;
            mov.b16 %h, 0;
            mov.f32 %f0, 0f00000000; mov.f32 %f1, 0f00000000; mov.f32 %f2, 0f00000000; mov.f32 %f3, 0f00000000;
            shl.b32 %n, %t, 2;
            add.u32 %mine, %s, %n;
            add.u32 %n, %t, 1;
            and.b32 %n, %n, {{threads - 1}};
            shl.b32 %n, %n, 2;
            add.u32 %next, %s, %n;
            shl.b32 %n, %t, 4;
            add.u32 %a, %s, %n;
            add.u32 %w, %s, 4088;
            shl.b32 %n, %t, 3;
            add.u32 %e, %s, %n;
            ld.param.u64 %base, [arguments];
            mul.wide.u32 %e64, %t, 16;
            add.s64 %g, %base, %e64;
            mov.u32 %v, 0;
            {{body.Replace("%far", "%w", StringComparison.Ordinal)}}
            ret;
            }
            """;
        _device.Run(PtxProgram.Parse(text), "Test", threads, shared, new GridSize(blocks), BitConverter.GetBytes(memory.Address));
    }
}
