using BgeMetal.Kernels;
using BgeMetal.Kernels.Cuda;
using BgeMetal.Kernels.Primitives;
using BgeMetal.Tensors;

namespace BgeMetal.Ops;

/// <summary>Tensors and devices as CUDA kernels take them.</summary>
internal static class CudaViews
{
    extension(Tensor tensor)
    {
        /// <summary>The tensor as a matrix in device memory; none where the tensor is absent.</summary>
        public DeviceMatrix<T> Matrix<T>() where T : unmanaged, IElement => tensor.IsAbsent ? default : new(new DevicePointer<T>(tensor.Address), tensor.RowStride);

        /// <summary>Of an operation's instantiations the one for this tensor's storage type: scores and losses may be binary32 on every device.</summary>
        public TOperation Choose<TOperation>(TOperation fp32, TOperation bf16, TOperation fp16) where TOperation : Delegate => tensor.DType switch
        {
            DType.BFloat16 => bf16,
            DType.Float16 => fp16,
            _ => fp32,
        };

        /// <summary>The first element's place in device memory; none where the tensor is absent.</summary>
        public DevicePointer<T> Pointer<T>() where T : unmanaged => new(tensor.Address);
    }

    extension(Device device)
    {
        /// <summary>Whether operations take the CUDA branch.</summary>
        public bool IsCuda => device.Kind == DeviceKind.Cuda;

        /// <summary>Memory for intermediate sums.</summary>
        public Workspace Workspace => new(new DevicePointer<FP32>(device.WorkspaceAddress), device.WorkspaceFloats);

        /// <summary>Of an operation's instantiations the one for the device's storage type: the only place where it is looked at.</summary>
        public TOperation Choose<TOperation>(TOperation fp32, TOperation bf16, TOperation fp16) where TOperation : Delegate => device.DType switch
        {
            DType.BFloat16 => bf16,
            DType.Float16 => fp16,
            _ => fp32,
        };
    }
}
