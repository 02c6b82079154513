using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;
using ILGPU;

namespace BgeMetal.Kernels.Cuda;

/// <summary>
/// Matrix products on Hopper's tensor cores (wgmma, sm_90a), for products that fill the device. A block stays on its multiprocessor and takes one output
/// tile after the other. One thread has the copy engine fill a ring of shared-memory stages, running ahead into the next tile; two groups of four warps
/// multiply 64 rows each out of them and finish the tile. (128 x 256: the copying warps give most of their registers to those that multiply.) Nobody meets at a block barrier: a stage goes round by two mbarriers,
/// one that counts its bytes in and one that counts the multiplying warps out. A finished tile leaves through slabs of shared memory that belong to one warp, not
/// through the stages: those are being filled for the next tile, and the epilogue still sees whole rows in 16-byte pieces. What lies outside an operand is
/// read as zero: M and K are arbitrary, N is a multiple of 8; addresses and row strides of A and B must be multiples of 16 bytes, and so must what the epilogue
/// touches (<see cref="IEpilogue.Vectorized"/>). Sums are binary32 in a fixed order.
/// </summary>
internal static class WarpGroupGemm
{
    private const string Hopper = "sm_90a";

    [CudaKernel("Linear", KernelDirection.Forward, WarpGroupTile256.Threads, typeof(Nt), typeof(WarpGroupTile256), typeof(Accumulator128), typeof(LinearOutput<>),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile256.SharedBytes, MinBlocks = WarpGroupTile256.MinBlocks, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Linear", KernelDirection.Forward, WarpGroupTile128.Threads, typeof(Nt), typeof(WarpGroupTile128), typeof(Accumulator64), typeof(LinearOutput<>),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile128.SharedBytes, MinBlocks = WarpGroupTile128.MinBlocks, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Linear", KernelDirection.Forward, WarpGroupTile256.Threads, typeof(Nt), typeof(WarpGroupTile256), typeof(Accumulator128), typeof(GeluOutput<>),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile256.SharedBytes, MinBlocks = WarpGroupTile256.MinBlocks, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Linear", KernelDirection.Forward, WarpGroupTile128.Threads, typeof(Nt), typeof(WarpGroupTile128), typeof(Accumulator64), typeof(GeluOutput<>),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile128.SharedBytes, MinBlocks = WarpGroupTile128.MinBlocks, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Linear", KernelDirection.Forward, WarpGroupTile256.Threads, typeof(Nt), typeof(WarpGroupTile256), typeof(Accumulator128), typeof(TanhOutput<>),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile256.SharedBytes, MinBlocks = WarpGroupTile256.MinBlocks, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Linear", KernelDirection.Forward, WarpGroupTile128.Threads, typeof(Nt), typeof(WarpGroupTile128), typeof(Accumulator64), typeof(TanhOutput<>),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile128.SharedBytes, MinBlocks = WarpGroupTile128.MinBlocks, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Linear", KernelDirection.Forward, WarpGroupTile256.Threads, typeof(Nt), typeof(WarpGroupTile256), typeof(Accumulator128), typeof(Partial),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile256.SharedBytes, MinBlocks = WarpGroupTile256.MinBlocks, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Linear", KernelDirection.Forward, WarpGroupTile128.Threads, typeof(Nt), typeof(WarpGroupTile128), typeof(Accumulator64), typeof(Partial),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile128.SharedBytes, MinBlocks = WarpGroupTile128.MinBlocks, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Linear", KernelDirection.Backward, WarpGroupTile256.Threads, typeof(Nn), typeof(WarpGroupTile256), typeof(Accumulator128), typeof(GradientOutput<>),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile256.SharedBytes, MinBlocks = WarpGroupTile256.MinBlocks, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Linear", KernelDirection.Backward, WarpGroupTile128.Threads, typeof(Nn), typeof(WarpGroupTile128), typeof(Accumulator64), typeof(GradientOutput<>),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile128.SharedBytes, MinBlocks = WarpGroupTile128.MinBlocks, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Linear", KernelDirection.Backward, WarpGroupTile256.Threads, typeof(Nn), typeof(WarpGroupTile256), typeof(Accumulator128), typeof(GeluGradientOutput<>),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile256.SharedBytes, MinBlocks = WarpGroupTile256.MinBlocks, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Linear", KernelDirection.Backward, WarpGroupTile128.Threads, typeof(Nn), typeof(WarpGroupTile128), typeof(Accumulator64), typeof(GeluGradientOutput<>),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile128.SharedBytes, MinBlocks = WarpGroupTile128.MinBlocks, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Linear", KernelDirection.Backward, WarpGroupTile256.Threads, typeof(Nn), typeof(WarpGroupTile256), typeof(Accumulator128), typeof(Partial),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile256.SharedBytes, MinBlocks = WarpGroupTile256.MinBlocks, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Linear", KernelDirection.Backward, WarpGroupTile128.Threads, typeof(Nn), typeof(WarpGroupTile128), typeof(Accumulator64), typeof(Partial),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile128.SharedBytes, MinBlocks = WarpGroupTile128.MinBlocks, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Linear", KernelDirection.Backward, WarpGroupTile256.Threads, typeof(Tn), typeof(WarpGroupTile256), typeof(Accumulator128), typeof(WeightGradientOutput),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile256.SharedBytes, MinBlocks = WarpGroupTile256.MinBlocks, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Linear", KernelDirection.Backward, WarpGroupTile128.Threads, typeof(Tn), typeof(WarpGroupTile128), typeof(Accumulator64), typeof(WeightGradientOutput),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile128.SharedBytes, MinBlocks = WarpGroupTile128.MinBlocks, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Linear", KernelDirection.Backward, WarpGroupTile256.Threads, typeof(Tn), typeof(WarpGroupTile256), typeof(Accumulator128), typeof(Partial),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile256.SharedBytes, MinBlocks = WarpGroupTile256.MinBlocks, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Linear", KernelDirection.Backward, WarpGroupTile128.Threads, typeof(Tn), typeof(WarpGroupTile128), typeof(Accumulator64), typeof(Partial),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile128.SharedBytes, MinBlocks = WarpGroupTile128.MinBlocks, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("LinearCrossEntropy", KernelDirection.Backward, WarpGroupTile256.Threads, typeof(Nn), typeof(WarpGroupTile256), typeof(Accumulator128), typeof(SummedGradientOutput<>),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile256.SharedBytes, MinBlocks = WarpGroupTile256.MinBlocks, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("LinearCrossEntropy", KernelDirection.Backward, WarpGroupTile128.Threads, typeof(Nn), typeof(WarpGroupTile128), typeof(Accumulator64), typeof(SummedGradientOutput<>),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile128.SharedBytes, MinBlocks = WarpGroupTile128.MinBlocks, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("InfoNce", KernelDirection.Backward, WarpGroupTile256.Threads, typeof(Nt), typeof(WarpGroupTile256), typeof(Accumulator128), typeof(ContrastiveWeights<>),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile256.SharedBytes, MinBlocks = WarpGroupTile256.MinBlocks, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("InfoNce", KernelDirection.Backward, WarpGroupTile128.Threads, typeof(Nt), typeof(WarpGroupTile128), typeof(Accumulator64), typeof(ContrastiveWeights<>),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile128.SharedBytes, MinBlocks = WarpGroupTile128.MinBlocks, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("InfoNce", KernelDirection.Backward, WarpGroupTile256.Threads, typeof(Tn), typeof(WarpGroupTile256), typeof(Accumulator128), typeof(ScaledOutput<>),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile256.SharedBytes, MinBlocks = WarpGroupTile256.MinBlocks, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("InfoNce", KernelDirection.Backward, WarpGroupTile128.Threads, typeof(Tn), typeof(WarpGroupTile128), typeof(Accumulator64), typeof(ScaledOutput<>),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile128.SharedBytes, MinBlocks = WarpGroupTile128.MinBlocks, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Scores", KernelDirection.Forward, WarpGroupTile256.Threads, typeof(Nt), typeof(WarpGroupTile256), typeof(Accumulator128), typeof(ScaledOutput<FP32>),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile256.SharedBytes, MinBlocks = WarpGroupTile256.MinBlocks, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Scores", KernelDirection.Forward, WarpGroupTile128.Threads, typeof(Nt), typeof(WarpGroupTile128), typeof(Accumulator64), typeof(ScaledOutput<FP32>),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile128.SharedBytes, MinBlocks = WarpGroupTile128.MinBlocks, TensorCores = true, Architecture = Hopper)]
    public static void Multiply<T, TForm, TTile, TAcc, TEpilogue>(WarpGroupArguments<TEpilogue> arguments)
        where T : unmanaged, IElement where TForm : struct, IForm where TTile : struct, IWarpGroupTile
        where TAcc : unmanaged, IAccumulator where TEpilogue : unmanaged, IEpilogue
    {
        int shared = SharedBlock.OpenAligned(), slabs = shared + TTile.Stages * StageBytes<TTile>();
        int filled = slabs + IWarpGroupTile.Consumers * TTile.Slabs * AccumulatorRows.SlabBytes, drained = filled + TTile.Stages * TransferBarrier.SizeBytes;
        if (Group.IdxX == 0)
        {
            for (int stage = 0; stage < TTile.Stages; stage++)
            {
                TransferBarrier.Initialize(filled + stage * TransferBarrier.SizeBytes, 1);
                TransferBarrier.Initialize(drained + stage * TransferBarrier.SizeBytes, IWarpGroupTile.Consumers);
            }
            TransferBarrier.Publish();
        }
        Group.Barrier();
        if (Group.IdxX >= IWarpGroupTile.Consumers * 32)
        {
            if (TTile.ProducerRegisters > 0) RegisterShare.Shrink(TTile.ProducerRegisters);
            if (Group.IdxX == IWarpGroupTile.Consumers * 32) Copy<TForm, TTile, TEpilogue>(arguments, shared, filled, drained);
        }
        else
        {
            if (TTile.ConsumerRegisters > 0) RegisterShare.Grow(TTile.ConsumerRegisters);
            Consume<T, TForm, TTile, TAcc, TEpilogue>(arguments, shared, slabs, filled, drained);
        }
    }

    private static int StageBytes<TTile>() where TTile : struct, IWarpGroupTile => (IWarpGroupTile.BlockM + TTile.BlockN) * IWarpGroupTile.BlockK * 2;

    private static void Copy<TForm, TTile, TEpilogue>(WarpGroupArguments<TEpilogue> arguments, int shared, int filled, int drained)
        where TForm : struct, IForm where TTile : struct, IWarpGroupTile where TEpilogue : unmanaged
    {
        int stage = 0, parity = 1;
        for (int item = Grid.IdxX; item < arguments.Items; item += Grid.DimX)
        {
            WarpGroupWork work = WarpGroupWork.At<TTile, TEpilogue>(arguments, item);
            for (int depth = work.Depth; depth < work.DepthEnd; depth += IWarpGroupTile.BlockK)
            {
                int target = shared + stage * StageBytes<TTile>(), bytes = filled + stage * TransferBarrier.SizeBytes;
                TransferBarrier.Wait(drained + stage * TransferBarrier.SizeBytes, parity);
                TransferBarrier.Expect(bytes, StageBytes<TTile>());
                if (TForm.AkContiguous) TensorCopy.Load(arguments.A, 0, target, bytes, depth, work.Row);
                else
                    for (int box = 0; box < IWarpGroupTile.BlockM / 64; box++)
                        TensorCopy.Load(arguments.A, 0, target + box * IWarpGroupTile.BoxBytes, bytes, work.Row + box * 64, depth);
                target += IWarpGroupTile.BlockM * IWarpGroupTile.BlockK * 2;
                if (TForm.BkContiguous) TensorCopy.Load(arguments.B, 1, target, bytes, depth, work.Column);
                else
                    for (int box = 0; box < TTile.BlockN / 64; box++)
                        TensorCopy.Load(arguments.B, 1, target + box * IWarpGroupTile.BoxBytes, bytes, work.Column + box * 64, depth);
                if (++stage != TTile.Stages) continue;
                stage = 0;
                parity ^= 1;
            }
        }
    }

    private static void Consume<T, TForm, TTile, TAcc, TEpilogue>(WarpGroupArguments<TEpilogue> arguments, int shared, int slabs, int filled, int drained)
        where T : unmanaged, IElement where TForm : struct, IForm where TTile : struct, IWarpGroupTile
        where TAcc : unmanaged, IAccumulator where TEpilogue : unmanaged, IEpilogue
    {
        int lane = Group.IdxX & 31, warp = Group.IdxX >> 5, rows = (warp >> 2) * IWarpGroupTile.BoxBytes;
        int slab = slabs + warp * TTile.Slabs * AccumulatorRows.SlabBytes;
        int stage = 0, parity = 0;
        for (int item = Grid.IdxX; item < arguments.Items; item += Grid.DimX)
        {
            WarpGroupWork work = WarpGroupWork.At<TTile, TEpilogue>(arguments, item);
            TAcc sums = Accumulators.Zero<TAcc>();
            int unread = -1;
            for (int depth = work.Depth; depth < work.DepthEnd; depth += IWarpGroupTile.BlockK)
            {
                int a = shared + stage * StageBytes<TTile>(), barrier = stage * TransferBarrier.SizeBytes;
                TransferBarrier.Wait(filled + barrier, parity);
                sums = WarpGroupMma.Multiply<TAcc, T, TForm>(sums, a + rows, a + IWarpGroupTile.BlockM * IWarpGroupTile.BlockK * 2);
                // One product stays in flight while the stage of the one before it is handed back.
                WarpGroupMma.Wait(1);
                if (lane == 0 & unread >= 0) TransferBarrier.Arrive(drained + unread);
                unread = barrier;
                if (++stage != TTile.Stages) continue;
                stage = 0;
                parity ^= 1;
            }
            WarpGroupMma.Wait(0);
            if (lane == 0) TransferBarrier.Arrive(drained + unread);
            Finish<TTile, TAcc, TEpilogue>(arguments.Epilogue, sums, slab, work.Row + warp * 16, work.Column, work.Split, arguments.M, arguments.N);
        }
    }

    // This warp's 16 rows, 32 columns at a time. One by one where registers are scarce: the epilogue then finds those of the pieces before it free.
    private static void Finish<TTile, TAcc, TEpilogue>(TEpilogue epilogue, TAcc sums, int slab, int row0, int column0, int split, int rows, int columns)
        where TTile : struct, IWarpGroupTile where TAcc : unmanaged, IAccumulator where TEpilogue : unmanaged, IEpilogue
    {
        if (TTile.Slabs == 2)
            for (int piece = 0; piece < TTile.BlockN / AccumulatorRows.Columns; piece++)
                FinishPiece<TTile, TAcc, TEpilogue>(epilogue, sums, piece, slab, row0, column0, split, rows, columns);
        else
        {
            FinishPiece<TTile, TAcc, TEpilogue>(epilogue, sums, 0, slab, row0, column0, split, rows, columns);
            FinishPiece<TTile, TAcc, TEpilogue>(epilogue, sums, 1, slab, row0, column0, split, rows, columns);
            FinishPiece<TTile, TAcc, TEpilogue>(epilogue, sums, 2, slab, row0, column0, split, rows, columns);
            FinishPiece<TTile, TAcc, TEpilogue>(epilogue, sums, 3, slab, row0, column0, split, rows, columns);
        }
    }

    // With two slabs by turns, who stores again has met the others behind their last load from that slab.
    private static void FinishPiece<TTile, TAcc, TEpilogue>(TEpilogue epilogue, TAcc sums, int piece, int slab, int row0, int column0, int split, int rows, int columns)
        where TTile : struct, IWarpGroupTile where TAcc : unmanaged, IAccumulator where TEpilogue : unmanaged, IEpilogue
    {
        int lane = Group.IdxX & 31, row = row0 + (lane >> 2), column = column0 + piece * AccumulatorRows.Columns + (lane & 3) * 8;
        if (TTile.Slabs == 2) slab += (piece & 1) * AccumulatorRows.SlabBytes;
        else Warp.Barrier();
        AccumulatorRows.Store(sums, piece, slab + AccumulatorRows.StoreOffset(lane));
        Warp.Barrier();
        if (column >= columns) return;
        int address = slab + AccumulatorRows.LoadOffset(lane);
        for (int half = 0; half < 2; half++)
            if (row + half * 8 < rows) epilogue.Write8(AccumulatorRows.Load(address + half * 1024), row + half * 8, column, split);
    }
}
