using BgeMetal.Autograd;
using BgeMetal.Kernels.Cpu;
using BgeMetal.Tensors;

namespace BgeMetal.Ops;

/// <summary>y = f(x W^T + b), the activation fused into the matmul's epilogue.</summary>
internal static class LinearOp
{
    extension(Tape tape)
    {
        /// <summary>
        /// x [T, in] -> [T, out]; several layers side by side give their columns side by side (<see cref="LinearWeight.Part"/>).
        /// 2 T in out FLOP; reads the weight once an L2-sized block of rows.
        /// </summary>
        public unsafe Tensor Linear(Tensor x, LinearWeight weight, LinearEpilogue epilogue = LinearEpilogue.None)
        {
            Check.NotEmpty("Linear", x);
            Check.Shape("Linear", "x", x, x.Rows, weight.InFeatures);
            if (epilogue == LinearEpilogue.Residual) throw new ArgumentException("Linear: a residual goes through AddLayerNorm", nameof(epilogue));
            Tensor y = tape.Arena.Activation(x.Rows, weight.OutColumns);
            Kernels.Cpu.Linear.Forward(tape.Device.Team, x.Floats, x.RowStride, x.Rows, x.Columns, weight.Panels, weight.Bias.Floats, weight.OutColumns,
                epilogue, null, 0, y.Floats, y.RowStride);
            return y;
        }
    }
}
