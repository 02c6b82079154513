using System.Runtime.InteropServices;
using BgeMetal.Kernels.Cuda;
using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;

namespace BgeMetal.Kernels.Tests.Cuda;

/// <summary>The host's side of the GPU, on a driver that records what it is told.</summary>
[Collection("stub driver")]
public sealed class CudaDeviceTests(StubDriver stub)
{
    [Fact]
    public void A_missing_driver_is_named()
    {
        DeviceException error = Assert.Throws<DeviceException>(() => DriverApi.Load("libno-such-driver.so.1"));
        Assert.Equal("no CUDA driver: libno-such-driver.so.1 cannot be loaded on this machine", error.Message);
    }

    [Fact]
    public void An_old_driver_is_refused_with_both_versions()
    {
        stub.Reset(version: 11040);
        DeviceException error = Assert.Throws<DeviceException>(() => stub.Open());
        Assert.Equal("the CUDA driver is too old: it supports CUDA 11.4, at least 11.8 is needed", error.Message);
    }

    [Fact]
    public void A_driver_without_a_gpu_and_an_index_out_of_range_are_refused()
    {
        stub.Reset(devices: 0);
        Assert.Equal("the CUDA driver finds no GPU", Assert.Throws<DeviceException>(() => stub.Open()).Message);
        stub.Reset(devices: 2);
        Assert.Equal("there is no GPU 2: this machine has 2, numbered from 0", Assert.Throws<DeviceException>(() => stub.Open(2)).Message);
        Assert.Throws<DeviceException>(() => stub.Open(-1));
    }

    [Fact]
    public void An_old_gpu_is_refused_by_name()
    {
        stub.Reset(major: 7);
        Assert.Equal("GPU 1 (Stub 1) is too old: compute capability 7.0, at least 8.0 is needed",
            Assert.Throws<DeviceException>(() => stub.Open(1)).Message);
    }

    [Fact]
    public void Out_of_memory_says_what_was_asked_for_and_what_is_free()
    {
        stub.Reset(freeBytes: 5000);
        using CudaDevice device = stub.Open();
        using DeviceMemory first = device.Allocate(3000);
        DeviceException error = Assert.Throws<DeviceException>(() => device.Allocate(2001));
        Assert.Equal("out of device memory on Stub 0: 2001 bytes asked for, 2000 of 2000000 bytes free", error.Message);
        Assert.Equal(2, error.DriverResult);
    }

    [Fact]
    public void A_launch_passes_the_argument_struct_byte_for_byte()
    {
        stub.Reset();
        using CudaDevice device = stub.Open();
        SlabSumArguments arguments = new() { Partial = new(0x1122334455667788), Output = new(0x99), Stride = 7, Slabs = 3, Columns = 260 };
        byte[] passed = stub.ArgumentOf(Marshal.SizeOf<SlabSumArguments>(), () => device.Launch(ColumnSum.Finish, new GridSize(3, 2), arguments));
        Assert.Equal(MemoryMarshal.AsBytes(new ReadOnlySpan<SlabSumArguments>(in arguments)).ToArray(), passed);
        Assert.Equal(["function ColumnSum_Finish", "launch grid 3 2 1 block 128 1 1 shared 0 on 0x57"], stub.Log[^2..]);
    }

    [Fact]
    public void Large_shared_memory_is_asked_for_once_and_small_is_not()
    {
        stub.Reset();
        using CudaDevice device = stub.Open();
        for (int i = 0; i < 2; i++) device.Launch(ExactGemm.Multiply<FP32, Nt, Partial>, new GridSize(1), default(GemmArguments<Partial>));
        device.Launch(ColumnSum.Slabs<BF16>, new GridSize(1), default(ColumnSumArguments<BF16>));
        Assert.Equal([$"attribute 8 = {TileExact.SharedBytes}", "attribute 9 = 100"], stub.Log.Where(l => l.StartsWith("attribute", StringComparison.Ordinal)));
        Assert.Equal(2, stub.Log.Count(l => l.StartsWith("load", StringComparison.Ordinal)));
    }

    [Fact]
    public void Everything_is_enqueued_in_order_on_the_one_stream()
    {
        stub.Reset();
        using CudaDevice device = stub.Open();
        using DeviceMemory memory = device.Allocate(64);
        float[] values = [1, 2, 3], back = new float[3];
        device.Fill(memory.Address, 0, 64);
        device.Upload<float>(values, memory.Slice<float>(0, 3));
        device.Copy(memory.Address, memory.Address + 16, 12);
        device.Download(memory.Slice<float>(16, 3), back.AsSpan());
        Assert.Equal(values, back);
        Assert.Equal(["stream 1", "alloc 64", "fill 64 on 0x57", "upload 12 on 0x57", "wait on 0x57", "copy 12 on 0x57", "download 12 on 0x57", "wait on 0x57"], stub.Log);
    }

    [Fact]
    public void A_graph_is_captured_prepared_and_replayed_in_that_order()
    {
        stub.Reset();
        using CudaDevice device = stub.Open();
        device.Prepare([KernelRegistry.Of(((Action<SlabSumArguments>)ColumnSum.Finish).Method)]);
        int before = stub.Log.Length;
        using (DeviceGraph graph = device.Capture(() => device.Launch(ColumnSum.Finish, new GridSize(1), default(SlabSumArguments))))
        {
            graph.Replay();
            graph.Replay();
        }
        Assert.Equal(["begin capture on 0x57", "launch grid 1 1 1 block 128 1 1 shared 0 on 0x57", "end capture on 0x57", "instantiate 0x61", "graph gone",
            "replay 0x62 on 0x57", "replay 0x62 on 0x57", "executable gone"], stub.Log[before..]);
    }

    [Fact]
    public void A_capture_that_fails_is_ended()
    {
        stub.Reset();
        using CudaDevice device = stub.Open();
        Assert.Throws<InvalidOperationException>(() => device.Capture(() => throw new InvalidOperationException("inside")));
        Assert.Equal(["end capture on 0x57", "graph gone"], stub.Log[^2..]);
        device.Synchronize();
    }

    [Fact]
    public void Nothing_is_allocated_loaded_or_waited_for_inside_a_capture_and_launches_have_no_time_there()
    {
        stub.Reset();
        using CudaDevice device = stub.Open();
        using DeviceMark mark = device.CreateMark();
        foreach (Action refused in (Action[])[() => device.Allocate(8), () => device.AllocatePinned(8), device.Synchronize, mark.Wait,
            () => device.Launch(ColumnSum.Finish, new GridSize(1), default(SlabSumArguments))])
            Assert.Equal(900, Assert.Throws<DeviceException>(() => device.Capture(refused)).DriverResult);
        device.Synchronize();
        device.Profile = new KernelProfile();
        Assert.Throws<InvalidOperationException>(() => device.Capture(() => { }));
    }

    [Fact]
    public void A_mark_is_waited_for_alone_and_under_a_profile_with_the_whole_stream()
    {
        stub.Reset();
        using CudaDevice device = stub.Open();
        DeviceMark mark = device.CreateMark();
        mark.Record();
        mark.Wait();
        device.Profile = new KernelProfile();
        device.Launch(ColumnSum.Finish, new GridSize(1), default(SlabSumArguments));
        mark.Wait();
        Assert.Equal(1500, Assert.Single(device.Profile.Times).Microseconds);
        mark.Dispose();
        Assert.Throws<ObjectDisposedException>(mark.Record);
        Assert.Equal(["mark on 0x57", "wait for mark", "wait on 0x57"], stub.Log.Where(l => l.Contains("wait", StringComparison.Ordinal) || l == "mark on 0x57").Where((_, i) => i is 0 or 1 or 4));
    }

    [Fact]
    public void A_refused_launch_and_a_refused_text_say_why()
    {
        stub.Reset();
        using CudaDevice device = stub.Open();
        DeviceException launch = Assert.Throws<DeviceException>(() => device.Launch(ColumnSum.Finish, new GridSize(2_000_000), default(SlabSumArguments)));
        Assert.StartsWith("cannot launch ColumnSum.Finish on GridSize { X = 2000000", launch.Message, StringComparison.Ordinal);
        Assert.EndsWith("CUDA_ERROR_INVALID_VALUE (as the stub says)", launch.Message, StringComparison.Ordinal);
        stub.Reset(loadResult: 218);
        DeviceException load = Assert.Throws<DeviceException>(() => device.Launch(ColumnSum.Slabs<FP32>, new GridSize(1), default(ColumnSumArguments<FP32>)));
        Assert.Equal("cannot load ColumnSum.Slabs.FP32: CUDA_ERROR_INVALID_PTX (as the stub says) ptxas: line 7 is wrong", load.Message);
    }

    [Fact]
    public void An_empty_grid_launches_nothing_and_slices_are_checked()
    {
        stub.Reset();
        using CudaDevice device = stub.Open();
        device.Launch(ColumnSum.Finish, new GridSize(0), default(SlabSumArguments));
        Assert.DoesNotContain(stub.Log, l => l.StartsWith("launch", StringComparison.Ordinal));
        using DeviceMemory memory = device.Allocate(64);
        Assert.Equal(memory.Address + 32, memory.Slice<FP32>(32, 8).Address);
        Assert.Throws<ArgumentOutOfRangeException>(() => memory.Slice<FP32>(32, 9));
        Assert.Throws<ArgumentOutOfRangeException>(() => memory.Slice<FP32>(-4, 1));
    }

    [Fact]
    public void A_launch_allocates_nothing_once_its_kernel_is_loaded()
    {
        stub.Reset();
        using CudaDevice device = stub.Open();
        DeviceMatrix<BF16> x = new(new(0x10000), 64), w = new(new(0x20000), 64), y = new(new(0x30000), 64);
        for (int i = 0; i < 3; i++) Enqueue();
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 100; i++) Enqueue();
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);

        void Enqueue()
        {
            Linear.Forward(device, new(64, 64, 64), x, w, default, LinearActivation.None, default, default, y, default);
            LayerNorm.Forward(device, y, 64, 64, new(0x40000), new(0x50000), 1e-12f, y, default, default);
        }
    }

    [Fact]
    public void A_split_product_of_any_number_of_rows_is_launched_within_the_grids_limits()
    {
        stub.Reset();
        using CudaDevice device = stub.Open();
        const int Rows = 300_000, Columns = 300;
        GemmPlan plan = new(device, TensorCores: false, LargeTile: true, Splits: 2, SplitDepth: 64, A: 0x1000, B: 0x2000, StrideA: 128, StrideB: 128, Rows, Columns, K: 128, new(0x3000));
        plan.Run<FP32, Nt, WeightGradientOutput>(new(new(new(0x4000), Columns)));
        Assert.Equal(["launch grid 3 2344 2 block 256", "launch grid 75000 2 1 block 128"],
            stub.Log.Where(line => line.StartsWith("launch", StringComparison.Ordinal)).Select(line => line[..(line.IndexOf("block", StringComparison.Ordinal) + 9)]));
    }

    [Fact]
    public void A_mark_may_outlive_its_device()
    {
        stub.Reset();
        CudaDevice device = stub.Open();
        DeviceMark mark = device.CreateMark();
        mark.Wait();
        device.Dispose();
        int lines = stub.Log.Length;
        mark.Dispose();
        Assert.Equal(lines, stub.Log.Length);
    }

    [Fact]
    public void A_timer_may_outlive_its_device()
    {
        stub.Reset();
        CudaDevice device = stub.Open();
        DeviceTimer timer = new(device);
        device.Dispose();
        timer.Dispose();
    }

    [Fact]
    public void Any_thread_enters_the_context_before_its_first_call()
    {
        stub.Reset();
        using CudaDevice device = stub.Open();
        Exception? failure = null;
        foreach (Action<CudaDevice> call in (Action<CudaDevice>[])[d => d.Allocate(8).Dispose(), d => d.AllocatePinned(8).Dispose(), d => d.Synchronize(), d => d.CreateMark().Dispose(),
            d => d.MemoryInfo(), d => new DeviceTimer(d).Dispose(), d => d.Launch(ColumnSum.Finish, new GridSize(1), default(SlabSumArguments)), d => d.Capture(() => { }).Dispose()])
        {
            Thread other = new(() => failure ??= Record.Exception(() => call(device)));
            other.Start();
            other.Join();
        }
        Assert.Null(failure);
    }

    [Fact]
    public unsafe void The_driver_refuses_what_a_gpu_would()
    {
        stub.Reset();
        using CudaDevice device = stub.Open();
        DriverApi api = device.Api;
        nint function = 0, mark = 0, module = 0x81;
        long address = 0;
        byte name = 0, bytes = 0;
        void* parameter = &bytes;
        int answer = -1;
        Thread stranger = new(() =>
        {
            long nothing = 0;
            answer = api.cuMemAlloc(&nothing, 8);
        });
        stranger.Start();
        stranger.Join();
        Assert.Equal(201, answer);
        Assert.Equal(400, api.cuMemsetD8Async(address, 0, 0, 0));
        Assert.Equal(0, api.cuModuleGetFunction(&function, module, &name));
        Assert.Equal(1, api.cuLaunchKernel(function, 1, 1, 1, 32, 1, 1, (48 * 1024) + 1, device.Stream, &parameter, null));
        Assert.Equal(1, api.cuLaunchKernel(function, 1, 65536, 1, 32, 1, 1, 0, device.Stream, &parameter, null));
        Assert.Equal(0, api.cuFuncSetAttribute(function, 8, 100_000));
        Assert.Equal(0, api.cuLaunchKernel(function, 1, 1, 1, 32, 1, 1, 100_000, device.Stream, &parameter, null));
        Assert.Equal(0, api.cuEventCreate(&mark, 2));
        float time = 0;
        Assert.Equal(400, api.cuEventElapsedTime(&time, mark, mark));
        Assert.Equal(0, api.cuStreamBeginCapture(device.Stream, 2));
        Assert.Equal(906, api.cuMemsetD8Async(address, 0, 0, 0));
        nint graph = 0;
        Assert.Equal(0, api.cuStreamEndCapture(device.Stream, &graph));
    }

    [Fact]
    public void Timers_pinned_memory_and_disposal_reach_the_driver()
    {
        stub.Reset();
        CudaDevice device = stub.Open();
        using (DeviceTimer timer = new(device))
        {
            timer.Start();
            timer.Stop();
            Assert.Equal(1500, timer.ElapsedUs());
        }
        using (PinnedMemory pinned = device.AllocatePinned(12)) Assert.Equal(3, pinned.Span<float>().Length);
        DeviceMemory left = device.Allocate(8);
        device.Dispose();
        left.Dispose();
        Assert.Equal(["stream 1", "mark on 0x57", "mark on 0x57", "pin 12", "unpin", "alloc 8", "wait on 0x57", "stream gone", "release"], stub.Log);
    }
}
