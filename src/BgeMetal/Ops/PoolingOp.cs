using BgeMetal.Autograd;
using BgeMetal.Kernels;
using BgeMetal.Kernels.Cpu;
using BgeMetal.Tensors;

namespace BgeMetal.Ops;

/// <summary>One row a sequence out of one row a token.</summary>
internal static class PoolingOp
{
    extension(Tape tape)
    {
        /// <summary>Each sequence's first row: x [T, D] -> [B, D].</summary>
        public unsafe Tensor ClsPooling(Tensor x, Tensor cuSeqlens)
        {
            Check.NotEmpty("ClsPooling", x);
            Tensor y = tape.Arena.Activation(cuSeqlens.Columns - 1, x.Columns);
            if (tape.Device.IsCuda)
                tape.Device.Choose(Cls<FP32>, Cls<BF16>, Cls<FP16>)(tape.Device, x, cuSeqlens, y);
            else
                Pooling.Cls(tape.Device.Team, x.Floats, x.RowStride, cuSeqlens.Ints, y.Rows, x.Columns, y.Floats, y.RowStride);
            if (tape.IsRecording)
            {
                tape.Record("ClsPooling", y, dy =>
                {
                    if (tape.Device.IsCuda)
                    {
                        StoreOrAdd(tape, x, dx => tape.Device.Choose(ClsBackward<FP32>, ClsBackward<BF16>, ClsBackward<FP16>)(tape.Device, dy, cuSeqlens, dx));
                        return;
                    }
                    Tensor dx = tape.GradToAddTo(x);
                    PoolingBackward.Cls(tape.Device.Team, dy.Floats, dy.RowStride, cuSeqlens.Ints, dy.Rows, dy.Columns, dx.Floats, dx.RowStride);
                });
            }
            return y;
        }

        /// <summary>The mean over each sequence's rows: x [T, D] -> [B, D].</summary>
        public unsafe Tensor MeanPooling(Tensor x, Tensor cuSeqlens)
        {
            Check.NotEmpty("MeanPooling", x);
            Tensor y = tape.Arena.Activation(cuSeqlens.Columns - 1, x.Columns);
            if (tape.Device.IsCuda)
                tape.Device.Choose(Mean<FP32>, Mean<BF16>, Mean<FP16>)(tape.Device, x, cuSeqlens, y);
            else
                Pooling.Mean(tape.Device.Team, x.Floats, x.RowStride, cuSeqlens.Ints, y.Rows, x.Columns, y.Floats, y.RowStride);
            if (tape.IsRecording)
            {
                tape.Record("MeanPooling", y, dy =>
                {
                    if (tape.Device.IsCuda)
                    {
                        StoreOrAdd(tape, x, dx => tape.Device.Choose(MeanBackward<FP32>, MeanBackward<BF16>, MeanBackward<FP16>)(tape.Device, dy, cuSeqlens, dx));
                        return;
                    }
                    Tensor dx = tape.GradToAddTo(x);
                    PoolingBackward.Mean(tape.Device.Team, dy.Floats, dy.RowStride, cuSeqlens.Ints, dy.Rows, dy.Columns, dx.Floats, dx.RowStride);
                });
            }
            return y;
        }
    }

    private static void Cls<T>(Device device, Tensor x, Tensor cuSeqlens, Tensor y) where T : unmanaged, IElement =>
        Kernels.Cuda.Pooling.Cls(device.Kernels, x.Matrix<T>(), cuSeqlens.Pointer<int>(), y.Rows, x.Columns, y.Matrix<T>());

    private static void Mean<T>(Device device, Tensor x, Tensor cuSeqlens, Tensor y) where T : unmanaged, IElement =>
        Kernels.Cuda.Pooling.Mean(device.Kernels, x.Matrix<T>(), cuSeqlens.Pointer<int>(), y.Rows, x.Columns, y.Matrix<T>());

    private static void ClsBackward<T>(Device device, Tensor dy, Tensor cuSeqlens, Tensor dx) where T : unmanaged, IElement =>
        Kernels.Cuda.Pooling.ClsBackward(device.Kernels, dy.Matrix<T>(), cuSeqlens.Pointer<int>(), dy.Rows, dy.Columns, dx.Matrix<T>());

    private static void MeanBackward<T>(Device device, Tensor dy, Tensor cuSeqlens, Tensor dx) where T : unmanaged, IElement =>
        Kernels.Cuda.Pooling.MeanBackward(device.Kernels, dy.Matrix<T>(), cuSeqlens.Pointer<int>(), dy.Rows, dy.Columns, dx.Matrix<T>());

    /// <summary>The kernels store: what is there already is added afterwards.</summary>
    private static void StoreOrAdd(Tape tape, Tensor x, Action<Tensor> store)
    {
        GradientSlot slot = tape.Grad(x);
        if (!slot.Accumulate)
        {
            store(slot.Buffer);
            return;
        }
        ArenaMark mark = tape.Arena.Mark();
        Tensor gradient = tape.Arena.Activation(x.Rows, x.Columns);
        store(gradient);
        GradientAdditionOp.AddScaled(tape.Device, gradient, 1, accumulate: true, slot.Buffer);
        tape.Arena.Rewind(mark);
    }
}
