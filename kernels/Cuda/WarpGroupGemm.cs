using BgeMetal.Kernels.Primitives;
using BgeMetal.Kernels.Runtime;
using ILGPU;
using static BgeMetal.Kernels.Runtime.CudaKernelAttribute;

namespace BgeMetal.Kernels.Cuda;

/// <summary>
/// Matrix products on Hopper's tensor cores (wgmma, sm_90a), for products that fill the device. A block stays on its multiprocessor and takes one output
/// tile after the other. One thread has the copy engine fill a ring of shared-memory stages, running ahead into the next tile; two groups of four warps
/// multiply 64 rows each out of them and finish the tile. (128 x 256: the copying warps give most of their registers to those that multiply.) Nobody meets at a block barrier: a stage goes round by two mbarriers,
/// one that counts its bytes in and one that counts the multiplying warps out. In a cluster, blocks take tiles one below the other and so need the same B: each fetches a part of it for all,
/// which writes into every block's stage, so that a stage counts the multiplying warps of all blocks out. A finished tile leaves through slabs of shared memory that belong to one warp, not
/// through the stages: those are being filled for the next tile, and the epilogue still sees whole rows in 16-byte pieces. What lies outside an operand is
/// read as zero: M and K are arbitrary, N is a multiple of 8; addresses and row strides of A and B must be multiples of 16 bytes, and so must what the epilogue
/// touches (<see cref="IEpilogue.Vectorized"/>). Sums are binary32 in a fixed order.
/// </summary>
internal static class WarpGroupGemm
{
    [CudaKernel("Linear", KernelDirection.Forward, WarpGroupTile256.Threads, typeof(Nt), typeof(WarpGroupTile256), typeof(Accumulator128), typeof(LinearOutput<>),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile256.SharedBytes, MinBlocks = WarpGroupTile256.MinBlocks, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Linear", KernelDirection.Forward, WarpGroupTile128.Threads, typeof(Nt), typeof(WarpGroupTile128), typeof(Accumulator64), typeof(LinearOutput<>),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile128.SharedBytes, MinBlocks = WarpGroupTile128.MinBlocks, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Linear", KernelDirection.Forward, WarpGroupTile128.Threads, typeof(Nt), typeof(WarpGroupPair128), typeof(Accumulator64), typeof(LinearOutput<>),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile128.SharedBytes, MinBlocks = WarpGroupTile128.MinBlocks, ClusterBlocks = WarpGroupPair128.Blocks, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Linear", KernelDirection.Forward, WarpGroupTile256.Threads, typeof(Nt), typeof(WarpGroupTile256), typeof(Accumulator128), typeof(GeluOutput<>),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile256.SharedBytes, MinBlocks = WarpGroupTile256.MinBlocks, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Linear", KernelDirection.Forward, WarpGroupTile128.Threads, typeof(Nt), typeof(WarpGroupTile128), typeof(Accumulator64), typeof(GeluOutput<>),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile128.SharedBytes, MinBlocks = WarpGroupTile128.MinBlocks, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Linear", KernelDirection.Forward, WarpGroupTile128.Threads, typeof(Nt), typeof(WarpGroupPair128), typeof(Accumulator64), typeof(GeluOutput<>),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile128.SharedBytes, MinBlocks = WarpGroupTile128.MinBlocks, ClusterBlocks = WarpGroupPair128.Blocks, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Linear", KernelDirection.Forward, WarpGroupTile256.Threads, typeof(Nt), typeof(WarpGroupTile256), typeof(Accumulator128), typeof(TanhOutput<>),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile256.SharedBytes, MinBlocks = WarpGroupTile256.MinBlocks, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Linear", KernelDirection.Forward, WarpGroupTile128.Threads, typeof(Nt), typeof(WarpGroupTile128), typeof(Accumulator64), typeof(TanhOutput<>),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile128.SharedBytes, MinBlocks = WarpGroupTile128.MinBlocks, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Linear", KernelDirection.Forward, WarpGroupTile128.Threads, typeof(Nt), typeof(WarpGroupPair128), typeof(Accumulator64), typeof(TanhOutput<>),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile128.SharedBytes, MinBlocks = WarpGroupTile128.MinBlocks, ClusterBlocks = WarpGroupPair128.Blocks, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Linear", KernelDirection.Forward, WarpGroupTile256.Threads, typeof(Nt), typeof(WarpGroupTile256), typeof(Accumulator128), typeof(Partial),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile256.SharedBytes, MinBlocks = WarpGroupTile256.MinBlocks, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Linear", KernelDirection.Forward, WarpGroupTile128.Threads, typeof(Nt), typeof(WarpGroupTile128), typeof(Accumulator64), typeof(Partial),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile128.SharedBytes, MinBlocks = WarpGroupTile128.MinBlocks, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Linear", KernelDirection.Forward, WarpGroupTile128.Threads, typeof(Nt), typeof(WarpGroupPair128), typeof(Accumulator64), typeof(Partial),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile128.SharedBytes, MinBlocks = WarpGroupTile128.MinBlocks, ClusterBlocks = WarpGroupPair128.Blocks, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Linear", KernelDirection.Backward, WarpGroupTile256.Threads, typeof(Nn), typeof(WarpGroupTile256), typeof(Accumulator128), typeof(GradientOutput<>),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile256.SharedBytes, MinBlocks = WarpGroupTile256.MinBlocks, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Linear", KernelDirection.Backward, WarpGroupTile128.Threads, typeof(Nn), typeof(WarpGroupTile128), typeof(Accumulator64), typeof(GradientOutput<>),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile128.SharedBytes, MinBlocks = WarpGroupTile128.MinBlocks, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Linear", KernelDirection.Backward, WarpGroupTile128.Threads, typeof(Nn), typeof(WarpGroupPair128), typeof(Accumulator64), typeof(GradientOutput<>),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile128.SharedBytes, MinBlocks = WarpGroupTile128.MinBlocks, ClusterBlocks = WarpGroupPair128.Blocks, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Linear", KernelDirection.Backward, WarpGroupTile256.Threads, typeof(Nn), typeof(WarpGroupTile256), typeof(Accumulator128), typeof(GeluGradientOutput<>),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile256.SharedBytes, MinBlocks = WarpGroupTile256.MinBlocks, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Linear", KernelDirection.Backward, WarpGroupTile128.Threads, typeof(Nn), typeof(WarpGroupTile128), typeof(Accumulator64), typeof(GeluGradientOutput<>),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile128.SharedBytes, MinBlocks = WarpGroupTile128.MinBlocks, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Linear", KernelDirection.Backward, WarpGroupTile128.Threads, typeof(Nn), typeof(WarpGroupPair128), typeof(Accumulator64), typeof(GeluGradientOutput<>),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile128.SharedBytes, MinBlocks = WarpGroupTile128.MinBlocks, ClusterBlocks = WarpGroupPair128.Blocks, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Linear", KernelDirection.Backward, WarpGroupTile256.Threads, typeof(Nn), typeof(WarpGroupTile256), typeof(Accumulator128), typeof(Partial),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile256.SharedBytes, MinBlocks = WarpGroupTile256.MinBlocks, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Linear", KernelDirection.Backward, WarpGroupTile128.Threads, typeof(Nn), typeof(WarpGroupTile128), typeof(Accumulator64), typeof(Partial),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile128.SharedBytes, MinBlocks = WarpGroupTile128.MinBlocks, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Linear", KernelDirection.Backward, WarpGroupTile128.Threads, typeof(Nn), typeof(WarpGroupPair128), typeof(Accumulator64), typeof(Partial),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile128.SharedBytes, MinBlocks = WarpGroupTile128.MinBlocks, ClusterBlocks = WarpGroupPair128.Blocks, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Linear", KernelDirection.Backward, WarpGroupTile256.Threads, typeof(Tn), typeof(WarpGroupTile256), typeof(Accumulator128), typeof(WeightGradientOutput),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile256.SharedBytes, MinBlocks = WarpGroupTile256.MinBlocks, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Linear", KernelDirection.Backward, WarpGroupTile128.Threads, typeof(Tn), typeof(WarpGroupTile128), typeof(Accumulator64), typeof(WeightGradientOutput),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile128.SharedBytes, MinBlocks = WarpGroupTile128.MinBlocks, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Linear", KernelDirection.Backward, WarpGroupTile128.Threads, typeof(Tn), typeof(WarpGroupPair128), typeof(Accumulator64), typeof(WeightGradientOutput),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile128.SharedBytes, MinBlocks = WarpGroupTile128.MinBlocks, ClusterBlocks = WarpGroupPair128.Blocks, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Linear", KernelDirection.Backward, WarpGroupTile256.Threads, typeof(Tn), typeof(WarpGroupTile256), typeof(Accumulator128), typeof(Partial),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile256.SharedBytes, MinBlocks = WarpGroupTile256.MinBlocks, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Linear", KernelDirection.Backward, WarpGroupTile128.Threads, typeof(Tn), typeof(WarpGroupTile128), typeof(Accumulator64), typeof(Partial),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile128.SharedBytes, MinBlocks = WarpGroupTile128.MinBlocks, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Linear", KernelDirection.Backward, WarpGroupTile128.Threads, typeof(Tn), typeof(WarpGroupPair128), typeof(Accumulator64), typeof(Partial),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile128.SharedBytes, MinBlocks = WarpGroupTile128.MinBlocks, ClusterBlocks = WarpGroupPair128.Blocks, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("LinearCrossEntropy", KernelDirection.Backward, WarpGroupTile256.Threads, typeof(Nn), typeof(WarpGroupTile256), typeof(Accumulator128), typeof(SummedGradientOutput<>),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile256.SharedBytes, MinBlocks = WarpGroupTile256.MinBlocks, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("LinearCrossEntropy", KernelDirection.Backward, WarpGroupTile128.Threads, typeof(Nn), typeof(WarpGroupTile128), typeof(Accumulator64), typeof(SummedGradientOutput<>),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile128.SharedBytes, MinBlocks = WarpGroupTile128.MinBlocks, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("LinearCrossEntropy", KernelDirection.Backward, WarpGroupTile128.Threads, typeof(Nn), typeof(WarpGroupPair128), typeof(Accumulator64), typeof(SummedGradientOutput<>),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile128.SharedBytes, MinBlocks = WarpGroupTile128.MinBlocks, ClusterBlocks = WarpGroupPair128.Blocks, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("InfoNce", KernelDirection.Backward, WarpGroupTile256.Threads, typeof(Nt), typeof(WarpGroupTile256), typeof(Accumulator128), typeof(ContrastiveWeights<>),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile256.SharedBytes, MinBlocks = WarpGroupTile256.MinBlocks, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("InfoNce", KernelDirection.Backward, WarpGroupTile128.Threads, typeof(Nt), typeof(WarpGroupTile128), typeof(Accumulator64), typeof(ContrastiveWeights<>),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile128.SharedBytes, MinBlocks = WarpGroupTile128.MinBlocks, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("InfoNce", KernelDirection.Backward, WarpGroupTile128.Threads, typeof(Nt), typeof(WarpGroupPair128), typeof(Accumulator64), typeof(ContrastiveWeights<>),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile128.SharedBytes, MinBlocks = WarpGroupTile128.MinBlocks, ClusterBlocks = WarpGroupPair128.Blocks, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("InfoNce", KernelDirection.Backward, WarpGroupTile256.Threads, typeof(Tn), typeof(WarpGroupTile256), typeof(Accumulator128), typeof(ScaledOutput<>),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile256.SharedBytes, MinBlocks = WarpGroupTile256.MinBlocks, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("InfoNce", KernelDirection.Backward, WarpGroupTile128.Threads, typeof(Tn), typeof(WarpGroupTile128), typeof(Accumulator64), typeof(ScaledOutput<>),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile128.SharedBytes, MinBlocks = WarpGroupTile128.MinBlocks, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("InfoNce", KernelDirection.Backward, WarpGroupTile128.Threads, typeof(Tn), typeof(WarpGroupPair128), typeof(Accumulator64), typeof(ScaledOutput<>),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile128.SharedBytes, MinBlocks = WarpGroupTile128.MinBlocks, ClusterBlocks = WarpGroupPair128.Blocks, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Scores", KernelDirection.Forward, WarpGroupTile256.Threads, typeof(Nt), typeof(WarpGroupTile256), typeof(Accumulator128), typeof(ScaledOutput<FP32>),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile256.SharedBytes, MinBlocks = WarpGroupTile256.MinBlocks, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Scores", KernelDirection.Forward, WarpGroupTile128.Threads, typeof(Nt), typeof(WarpGroupTile128), typeof(Accumulator64), typeof(ScaledOutput<FP32>),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile128.SharedBytes, MinBlocks = WarpGroupTile128.MinBlocks, TensorCores = true, Architecture = Hopper)]
    [CudaKernel("Scores", KernelDirection.Forward, WarpGroupTile128.Threads, typeof(Nt), typeof(WarpGroupPair128), typeof(Accumulator64), typeof(ScaledOutput<FP32>),
        Elements = ElementTypes.Low, SharedBytes = WarpGroupTile128.SharedBytes, MinBlocks = WarpGroupTile128.MinBlocks, ClusterBlocks = WarpGroupPair128.Blocks, TensorCores = true, Architecture = Hopper)]
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
                TransferBarrier.Initialize(drained + stage * TransferBarrier.SizeBytes, IWarpGroupTile.Consumers * TTile.ClusterBlocks);
            }
            TransferBarrier.Publish();
        }
        if (TTile.ClusterBlocks == 1) Group.Barrier();
        else BlockCluster.Barrier();
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
        // Others of the cluster still hand stages back to this block.
        if (TTile.ClusterBlocks > 1) BlockCluster.Barrier();
    }

    private static int StageBytes<TTile>() where TTile : struct, IWarpGroupTile => (IWarpGroupTile.BlockM + TTile.BlockN) * IWarpGroupTile.BlockK * 2;

    private static int FirstItem<TTile>() where TTile : struct, IWarpGroupTile => TTile.ClusterBlocks == 1 ? Grid.IdxX : BlockCluster.Index();

    private static int ItemStep<TTile>() where TTile : struct, IWarpGroupTile => TTile.ClusterBlocks == 1 ? Grid.DimX : BlockCluster.Count();

    private static int Rank<TTile>() where TTile : struct, IWarpGroupTile => TTile.ClusterBlocks == 1 ? 0 : BlockCluster.Rank();

    private static void Copy<TForm, TTile, TEpilogue>(WarpGroupArguments<TEpilogue> arguments, int shared, int filled, int drained)
        where TForm : struct, IForm where TTile : struct, IWarpGroupTile where TEpilogue : unmanaged
    {
        int stage = 0, parity = 1, rank = Rank<TTile>(), step = ItemStep<TTile>();
        for (int item = FirstItem<TTile>(); item < arguments.Items; item += step)
        {
            WarpGroupWork work = WarpGroupWork.At<TTile, TEpilogue>(arguments, item, rank);
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
                if (TTile.ClusterBlocks > 1) CopyPart<TForm, TTile, TEpilogue>(arguments, rank, target, bytes, work.Column, depth);
                else if (TForm.BkContiguous) TensorCopy.Load(arguments.B, 1, target, bytes, depth, work.Column);
                else
                    for (int box = 0; box < TTile.BlockN / 64; box++)
                        TensorCopy.Load(arguments.B, 1, target + box * IWarpGroupTile.BoxBytes, bytes, work.Column + box * 64, depth);
                if (++stage != TTile.Stages) continue;
                stage = 0;
                parity ^= 1;
            }
        }
    }

    // This block's part of the cluster's one B, a multiple of 64 columns, to all its blocks.
    private static void CopyPart<TForm, TTile, TEpilogue>(WarpGroupArguments<TEpilogue> arguments, int rank, int target, int bytes, int column, int depth)
        where TForm : struct, IForm where TTile : struct, IWarpGroupTile where TEpilogue : unmanaged
    {
        target += rank * (TTile.BlockN / TTile.ClusterBlocks) * 128;
        column += rank * (TTile.BlockN / TTile.ClusterBlocks);
        if (TForm.BkContiguous) TensorCopy.LoadToAll(arguments.B, 1, target, bytes, depth, column, TTile.ClusterBlocks);
        else
            for (int box = 0; box < TTile.BlockN / TTile.ClusterBlocks / 64; box++)
                TensorCopy.LoadToAll(arguments.B, 1, target + box * IWarpGroupTile.BoxBytes, bytes, column + box * 64, depth, TTile.ClusterBlocks);
    }

    private static void Consume<T, TForm, TTile, TAcc, TEpilogue>(WarpGroupArguments<TEpilogue> arguments, int shared, int slabs, int filled, int drained)
        where T : unmanaged, IElement where TForm : struct, IForm where TTile : struct, IWarpGroupTile
        where TAcc : unmanaged, IAccumulator where TEpilogue : unmanaged, IEpilogue
    {
        int lane = Group.IdxX & 31, warp = Group.IdxX >> 5, rows = (warp >> 2) * IWarpGroupTile.BoxBytes;
        int slab = slabs + warp * TTile.Slabs * AccumulatorRows.SlabBytes;
        int stage = 0, parity = 0, rank = Rank<TTile>(), step = ItemStep<TTile>();
        for (int item = FirstItem<TTile>(); item < arguments.Items; item += step)
        {
            WarpGroupWork work = WarpGroupWork.At<TTile, TEpilogue>(arguments, item, rank);
            TAcc sums = Accumulators.Zero<TAcc>();
            int unread = -1;
            for (int depth = work.Depth; depth < work.DepthEnd; depth += IWarpGroupTile.BlockK)
            {
                int a = shared + stage * StageBytes<TTile>(), barrier = stage * TransferBarrier.SizeBytes;
                TransferBarrier.Wait(filled + barrier, parity);
                sums = WarpGroupMma.Multiply<TAcc, T, TForm>(sums, a + rows, a + IWarpGroupTile.BlockM * IWarpGroupTile.BlockK * 2);
                // One product stays in flight while the stage of the one before it is handed back.
                WarpGroupMma.Wait(1);
                if (HandsBack<TTile>(lane) & unread >= 0) HandBack<TTile>(drained + unread, lane);
                unread = barrier;
                if (++stage != TTile.Stages) continue;
                stage = 0;
                parity ^= 1;
            }
            WarpGroupMma.Wait(0);
            if (HandsBack<TTile>(lane)) HandBack<TTile>(drained + unread, lane);
            Finish<TTile, TAcc, TEpilogue>(arguments.Epilogue, sums, slab, work.Row + warp * 16, work.Column, work.Split, arguments.M, arguments.N);
        }
    }

    // To everybody who fills the stage: a lane for each.
    private static bool HandsBack<TTile>(int lane) where TTile : struct, IWarpGroupTile => TTile.ClusterBlocks == 1 ? lane == 0 : lane < TTile.ClusterBlocks;

    private static void HandBack<TTile>(int barrier, int lane) where TTile : struct, IWarpGroupTile
    {
        if (TTile.ClusterBlocks == 1) TransferBarrier.Arrive(barrier);
        else TransferBarrier.ArriveAt(barrier, lane);
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
