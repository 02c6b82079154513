using BgeMetal.Benchmarks.Onnx;

namespace BgeMetal.Benchmarks.Models;

/// <summary>A temporary folder with one set of weights in both engines' formats: a checkpoint, and an ONNX model for each form asked for. Deleted on dispose; a killed run leaves it.</summary>
internal sealed class ModelFolder : IDisposable
{
    /// <summary>Writes the files.</summary>
    public ModelFolder(EncoderWeights weights, IEnumerable<OnnxForm> forms)
    {
        Path = Directory.CreateTempSubdirectory("bgemetal-bench-").FullName;
        weights.Save(Path);
        foreach (OnnxForm form in forms.Distinct())
            BertGraph.Save(weights, form, clsOnly: true, OnnxModel(form));
    }

    /// <summary>The checkpoint folder.</summary>
    public string Path { get; }

    /// <summary>The peer's model file of that form; its output is the CLS rows.</summary>
    public string OnnxModel(OnnxForm form) => System.IO.Path.Combine(Path, form + ".onnx");

    /// <inheritdoc/>
    public void Dispose() => Directory.Delete(Path, recursive: true);
}
