using BgeMetal.Autograd;
using BgeMetal.Kernels.Cpu;
using BgeMetal.Tensors;

namespace BgeMetal.Ops;

/// <summary>Layer normalisation over a row (Ba, Kiros and Hinton 2016, equation 4; biased variance), alone and after a residual addition.</summary>
internal static class LayerNormOp
{
    extension(Tape tape)
    {
        /// <summary>LayerNorm(x + residual) [T, D]. Statistics in fp32.</summary>
        public unsafe Tensor AddLayerNorm(Tensor x, Tensor residual, Tensor gamma, Tensor beta, float epsilon)
        {
            Check.NotEmpty("AddLayerNorm", x);
            Check.Shape("AddLayerNorm", "residual", residual, x.Rows, x.Columns);
            Check.Shape("AddLayerNorm", "gamma", gamma, 1, x.Columns);
            Check.Shape("AddLayerNorm", "beta", beta, 1, x.Columns);
            Tensor y = tape.Arena.Activation(x.Rows, x.Columns);
            LayerNorm.AddForward(tape.Device.Team, x.Floats, x.RowStride, residual.Floats, residual.RowStride, x.Rows, x.Columns,
                gamma.Floats, beta.Floats, epsilon, null, 0, y.Floats, y.RowStride, null, null);
            return y;
        }
    }
}
