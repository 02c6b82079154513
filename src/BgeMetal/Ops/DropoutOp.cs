using BgeMetal.Autograd;
using BgeMetal.Kernels;
using BgeMetal.Kernels.Primitives;
using BgeMetal.Tensors;

namespace BgeMetal.Ops;

/// <summary>Inverted dropout (Srivastava et al. 2014): elements are zeroed with a probability and the rest scaled up, in training only.</summary>
internal static class DropoutOp
{
    extension(Tape tape)
    {
        /// <summary>x [T, D] with elements dropped; x itself on an inference tape or with probability 0. The mask is drawn again in the backward pass.</summary>
        /// <param name="x">The input.</param>
        /// <param name="probability">That an element is zeroed.</param>
        /// <param name="firstRow">Row 0's number in the whole batch of which this is a part.</param>
        public unsafe Tensor Dropout(Tensor x, float probability, int firstRow = 0)
        {
            if (!tape.IsRecording || probability == 0) return x;
            if (tape.Device.IsCuda) return OnCuda(tape, x, probability, firstRow);
            ulong seed = tape.NextSeed();
            Tensor y = tape.Arena.Activation(x.Rows, x.Columns);
            Kernels.Cpu.Dropout.Forward(tape.Device.Team, x.Floats, x.RowStride, x.Rows, x.Columns, probability, seed, y.Floats, y.RowStride, firstRow);
            tape.Record("Dropout", y, dy =>
            {
                Kernels.Cpu.Dropout.Forward(tape.Device.Team, dy.Floats, dy.RowStride, dy.Rows, dy.Columns, probability, seed, dy.Floats, dy.RowStride, firstRow);
                tape.AddGradient(x, dy);
            });
            return y;
        }
    }

    /// <summary>The mask of the next dropout on CUDA, bit for bit the CPU's; none on an inference tape or with probability 0.</summary>
    internal static DropoutMask NextMask(Tape tape, float probability, int firstRow) =>
        tape.IsRecording && probability > 0 ? new DropoutMask(probability, tape.NextSeedOnDevice().Pointer<int>(), stream: 0, firstRow) : default;

    private static Tensor OnCuda(Tape tape, Tensor x, float probability, int firstRow)
    {
        Tensor y = tape.Arena.Activation(x.Rows, x.Columns);
        DropoutMask mask = NextMask(tape, probability, firstRow);
        tape.Device.Choose(Apply<FP32>, Apply<BF16>, Apply<FP16>)(tape.Device, x, mask, y);
        tape.Record("Dropout", y, dy =>
        {
            tape.Device.Choose(Apply<FP32>, Apply<BF16>, Apply<FP16>)(tape.Device, dy, mask, dy);
            tape.AddGradient(x, dy);
        });
        return y;
    }

    private static void Apply<T>(Device device, Tensor x, DropoutMask mask, Tensor y) where T : unmanaged, IElement =>
        Kernels.Cuda.Dropout.Apply(device.Kernels, x.Matrix<T>(), x.Rows, x.Columns, mask, y.Matrix<T>());
}
