using System.Text.Json;
using BgeMetal.Data;
using BgeMetal.Retrieval;
using BgeMetal.Testing;

namespace BgeMetal.Tests.Models;

/// <summary>Every reranker case of the fixtures folder, from each weight file it has: logits and probabilities.</summary>
public sealed class RerankerFixtureTests
{
    public static TheoryData<string, string> Cases() => FixtureModel.Cases("reranker");

    [Theory]
    [MemberData(nameof(Cases))]
    public void Scores_equal_the_reference(string name, string weights)
    {
        string folder = SharedFolder.FixtureOrSkip("reranker", name);
        Assert.SkipWhen(name.Length == 0, "the fixtures folder has no reranker case");
        using JsonDocument inputs = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(folder, "inputs.json")));
        TokenSequence[] pairs = FixtureBatch.Parse(inputs.RootElement.GetProperty("pairs"), inputs.RootElement.GetProperty("token_type_ids"));
        SafetensorsReference expected = new(Path.Combine(folder, "expected.safetensors"));
        using FixtureModel model = new(folder, weights);
        using Reranker raw = Reranker.Load(model.Directory);
        Tolerance.AssertClose(expected["logits"], raw.ScoreSequences(pairs).Scores, 1e-5, $"{name} logits");
        using Reranker probabilities = Reranker.Load(model.Directory, new RerankerOptions { Normalize = true });
        Tolerance.AssertClose(expected["probabilities"], probabilities.ScoreSequences(pairs).Scores, 1e-5, $"{name} probabilities");
    }
}
