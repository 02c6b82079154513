using System.Numerics;
using BgeMetal.Autograd;
using BgeMetal.Kernels;
using BgeMetal.Kernels.Cpu;
using BgeMetal.Kernels.Primitives;
using BgeMetal.Tensors;

namespace BgeMetal.Ops;

/// <summary>Gradients stored to or added to the slot of an operation's input.</summary>
internal static class GradientAdditionOp
{
    extension(Tape tape)
    {
        /// <summary>Stores or adds <paramref name="gradient"/> to x's slot, row by row.</summary>
        public void AddGradient(Tensor x, Tensor gradient)
        {
            GradientSlot slot = tape.Grad(x);
            if (tape.Device.IsCuda)
            {
                AddScaled(tape.Device, gradient, 1, slot.Accumulate, slot.Buffer);
                return;
            }
            for (int row = 0; row < x.Rows; row++)
            {
                Span<float> destination = slot.Buffer.RowSpan(row);
                ReadOnlySpan<float> source = gradient.RowSpan(row);
                if (slot.Accumulate) Add(source, destination);
                else source.CopyTo(destination);
            }
        }

        /// <summary>Stores or adds a b to x's slot: a [T, n] and the packed matrix b of n inputs and x's columns.</summary>
        public void AddProduct(Tensor x, Tensor a, nint panels)
        {
            GradientSlot slot = tape.Grad(x);
            if (!slot.Accumulate)
            {
                Multiply(tape, a, panels, slot.Buffer);
                return;
            }
            ArenaMark mark = tape.Arena.Mark();
            Tensor product = tape.Arena.Activation(x.Rows, x.Columns);
            Multiply(tape, a, panels, product);
            for (int row = 0; row < x.Rows; row++) Add(product.RowSpan(row), slot.Buffer.RowSpan(row));
            tape.Arena.Rewind(mark);
        }
    }

    /// <summary>On CUDA, y = scale x or y += scale x, each of the device's storage type or binary32.</summary>
    internal static void AddScaled(Device device, Tensor x, DeviceScalar scale, bool accumulate, Tensor y)
    {
        bool wideX = x.DType == DType.Float32, wideY = y.DType == DType.Float32;
        if (wideX && wideY) AddScaled<FP32, FP32>(device, x, scale, accumulate, y);
        else if (wideX) device.Choose(AddScaled<FP32, FP32>, AddScaled<FP32, BF16>, AddScaled<FP32, FP16>)(device, x, scale, accumulate, y);
        else if (wideY) device.Choose(AddScaled<FP32, FP32>, AddScaled<BF16, FP32>, AddScaled<FP16, FP32>)(device, x, scale, accumulate, y);
        else device.Choose(AddScaled<FP32, FP32>, AddScaled<BF16, BF16>, AddScaled<FP16, FP16>)(device, x, scale, accumulate, y);
    }

    private static void AddScaled<TFrom, TTo>(Device device, Tensor x, DeviceScalar scale, bool accumulate, Tensor y)
        where TFrom : unmanaged, IElement where TTo : unmanaged, IElement =>
        Kernels.Cuda.AddScaled.Run(device.Kernels, x.Matrix<TFrom>(), x.Rows, x.Columns, scale, accumulate, y.Matrix<TTo>());

    private static unsafe void Multiply(Tape tape, Tensor a, nint panels, Tensor y) =>
        Kernels.Cpu.Linear.Forward(tape.Device.Team, a.Floats, a.RowStride, a.Rows, a.Columns, (float*)panels, null, y.Columns, LinearEpilogue.None,
            null, 0, y.Floats, y.RowStride);

    /// <summary>destination += source, of one length.</summary>
    internal static void Add(ReadOnlySpan<float> source, Span<float> destination)
    {
        int i = 0;
        for (; i <= source.Length - Vector<float>.Count; i += Vector<float>.Count)
            (new Vector<float>(destination[i..]) + new Vector<float>(source[i..])).CopyTo(destination[i..]);
        for (; i < source.Length; i++) destination[i] += source[i];
    }
}
