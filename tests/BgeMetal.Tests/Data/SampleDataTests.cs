using System.Text.Json;
using BgeMetal.Data;
using BgeMetal.Retrieval;

namespace BgeMetal.Tests.Data;

/// <summary>The sample data that the command line carries, as it lies beside the program after a build.</summary>
public sealed class SampleDataTests
{
    private static readonly string s_folder = Path.Combine(AppContext.BaseDirectory, "Samples");

    private static RetrievalDataset Load(string split) => RetrievalDataset.Load(s_folder, split);

    private static IEnumerable<JsonElement> Rows(string name) => File.ReadLines(Path.Combine(s_folder, name)).Select(l => JsonElement.Parse(l));

    [Theory]
    [InlineData("train")]
    [InlineData("test")]
    public void Every_judgement_names_a_query_and_a_passage_that_are_there(string split)
    {
        RetrievalDataset set = Load(split);
        Assert.Empty(set.Warnings);
        Assert.True(set.Queries.Count >= 100, $"{set.Queries.Count} queries");
        Assert.All(set.Queries, q => Assert.InRange(set.Judgements.Of(q.Id).Count(j => j.Value == 1), 1, 2));
        Assert.Contains(set.Queries, q => set.Judgements.Of(q.Id).Count == 2);
    }

    [Fact]
    public void There_are_enough_passages_of_both_languages_and_no_two_are_equal()
    {
        IReadOnlyList<RetrievalPassage> corpus = Load("test").Corpus;
        Assert.True(corpus.Count(p => p.Id.StartsWith("en-", StringComparison.Ordinal)) >= 240);
        Assert.True(corpus.Count(p => p.Id.StartsWith("zh-", StringComparison.Ordinal)) >= 160);
        Assert.Equal(corpus.Count, corpus.Select(p => p.FullText).Distinct().Count());
        Assert.All(corpus, p => Assert.InRange(p.FullText.Length, 20, 400));
        Assert.Equal(corpus.Select(p => p.FullText), TextInputReader.Read(Path.Combine(s_folder, "pretrain.jsonl")).Select(r => r.Text));
    }

    [Fact]
    public void Training_and_test_queries_and_their_passages_are_apart_and_make_up_all_queries()
    {
        RetrievalDataset train = Load("train"), test = Load("test");
        Assert.Empty(train.Queries.Select(q => q.Text).Intersect(test.Queries.Select(q => q.Text)));
        Assert.Empty(train.Queries.SelectMany(q => train.Judgements.Of(q.Id).Keys).Intersect(test.Queries.SelectMany(q => test.Judgements.Of(q.Id).Keys)));
        Assert.Equal(TextInputReader.Read(Path.Combine(s_folder, "queries.jsonl")).Count(), train.Queries.Count + test.Queries.Count);
    }

    [Fact]
    public void The_training_file_holds_the_training_queries_with_their_passages_and_wrong_negatives()
    {
        RetrievalDataset train = Load("train");
        Dictionary<string, string> texts = train.Corpus.ToDictionary(p => p.Id, p => p.FullText);
        JsonElement[] rows = [.. Rows("finetune.jsonl")];
        Assert.Equal(train.Queries.Select(q => q.Text), rows.Select(r => r.GetProperty("query").GetString()));
        foreach ((JsonElement row, RetrievalQuery query) in rows.Zip(train.Queries))
        {
            string[] positives = [.. row.GetProperty("pos").EnumerateArray().Select(t => t.GetString()!)], negatives = [.. row.GetProperty("neg").EnumerateArray().Select(t => t.GetString()!)];
            Assert.Equal(train.Judgements.Of(query.Id).Keys.Select(id => texts[id]), positives);
            Assert.True(negatives.Length >= 4);
            Assert.Empty(negatives.Intersect(positives));
            Assert.All(negatives, n => Assert.Contains(n, texts.Values));
        }
    }
}
