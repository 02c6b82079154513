using BgeMetal.Autograd;
using BgeMetal.Data;
using BgeMetal.Retrieval;
using BgeMetal.Tensors;

namespace BgeMetal.Tests.Models;

/// <summary>Looks inside of a model for tests.</summary>
internal static class ModelProbe
{
    /// <summary>The last hidden state of the first token, by the full forward pass of every token.</summary>
    public static void FirstHiddenState(string directory, int[] ids, Span<float> destination)
    {
        using EncoderModel model = EncoderModel.Load(directory, new ComputeOptions { Threads = 1 }, _ => []);
        using Arena arena = new(Device.SingleThread);
        PackedBatch batch = new(model.Positions);
        batch.Add(new TokenSequence(ids));
        using Tape tape = Tape.Inference(arena);
        model.Encoder.Forward(tape, batch.Upload(arena)).RowSpan(0).CopyTo(destination);
    }
}
