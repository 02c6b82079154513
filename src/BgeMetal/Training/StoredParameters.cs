using BgeMetal.Checkpoints;
using BgeMetal.Tensors;

namespace BgeMetal.Training;

/// <summary>Parameters and moments on their way to files and back.</summary>
internal static unsafe class StoredParameters
{
    extension(TrainableParameters parameters)
    {
        /// <summary>A parameter's part of one of the flat buffers as a tensor of a file: where it lies on the CPU, a copy from a GPU.</summary>
        public NamedTensor Stored(string name, ParameterSpec spec, float* flat)
        {
            float* values = flat + parameters.StartOf(spec);
            return parameters.Device.Kind == DeviceKind.Cpu ? new NamedTensor(name, spec.Shape, values) : new NamedTensor(name, spec.Shape, parameters.ReadBack(values, spec));
        }

        /// <summary>Reads such a tensor back.</summary>
        public void Restore(SafetensorsFile file, string name, ParameterSpec spec, float* flat)
        {
            float[] values = new float[checked((int)spec.Count)];
            file.ReadFloats(name, values);
            parameters.Device.Write<float>(values, (nint)(flat + parameters.StartOf(spec)));
        }
    }
}
