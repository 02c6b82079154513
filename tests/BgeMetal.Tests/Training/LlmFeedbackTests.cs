using System.Text.Json;
using BgeMetal.Training.Feedback;
using Microsoft.AspNetCore.Http;

namespace BgeMetal.Tests.Training;

/// <summary>Scores from a language model behind HTTP: what they are, and what happens when the server is slow, busy, broken or cuts texts.</summary>
public sealed class LlmFeedbackTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("bgemetal-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Theory]
    [InlineData(false, false, false)]
    [InlineData(true, false, false)]
    [InlineData(false, true, false)]
    [InlineData(false, false, true)]
    [InlineData(true, true, true)]
    public async Task A_score_is_the_mean_log_likelihood_of_the_answer_alone_however_tokens_are_shown(bool startToken, bool losesSpaces, bool garbles)
    {
        await using CompletionServer server = await CompletionServer.StartAsync();
        (server.ShowsStartToken, server.LosesSpaces, server.GarblesCharacters) = (startToken, losesSpaces, garbles);
        LlmFeedbackSummary summary = await RunAsync(server, Rows(5));
        Assert.Equal((5, 0, 15), (summary.Rows, summary.ResumedRows, summary.Candidates));
        int i = 0;
        foreach (JsonElement row in Output())
        {
            string answer = " " + row.GetProperty("answers")[0].GetString();
            string[] candidates = [.. row.GetProperty("pos").EnumerateArray().Concat(row.GetProperty("neg").EnumerateArray()).Select(text => text.GetString()!)];
            float[] scores = [.. row.GetProperty("teacher_scores").EnumerateArray().Select(score => score.GetSingle())];
            Assert.Equal(candidates.Length, scores.Length);
            for (int j = 0; j < scores.Length; j++)
                Assert.Equal(CompletionServer.Expected($"Knowledge: {candidates[j]}\n\nQuestion: {row.GetProperty("query").GetString()}\n\nAnswer:", answer), scores[j], 1e-5);
            Assert.Equal(i++, row.GetProperty("extra").GetProperty("kept").GetInt32());
        }
        Assert.Equal(5, i);
    }

    [Fact]
    public async Task No_more_requests_are_under_way_than_allowed_and_each_brings_at_most_a_batch()
    {
        await using CompletionServer server = await CompletionServer.StartAsync();
        server.Intercept = async (_, _) =>
        {
            await Task.Delay(20);
            return false;
        };
        await RunAsync(server, Rows(6), options => options with { Concurrency = 2, BatchSize = 2 });
        Assert.Equal(12, server.Requests);
        Assert.Equal(2, server.MostUnderWay);
    }

    [Theory]
    [InlineData(429)]
    [InlineData(500)]
    [InlineData(503)]
    [InlineData(-1)]
    [InlineData(-2)]
    public async Task A_server_that_is_busy_or_breaks_off_is_asked_again(int how)
    {
        await using CompletionServer server = await CompletionServer.StartAsync();
        server.Intercept = async (context, number) =>
        {
            if (number % 3 == 0) return false;
            if (how > 0) context.Response.StatusCode = how;
            else if (how == -1) context.Abort();
            else await context.Response.WriteAsync("{\"choices\": [{\"index\": 0, \"logprobs\"");
            if (how == 429) context.Response.Headers.RetryAfter = "0";
            return true;
        };
        LlmFeedbackSummary summary = await RunAsync(server, Rows(3), options => options with { Concurrency = 1 });
        Assert.Equal(3, summary.Rows);
        Assert.Equal(9, server.Requests);
        Assert.All(Output(), row => Assert.Equal(3, row.GetProperty("teacher_scores").GetArrayLength()));
    }

    [Fact]
    public async Task A_server_that_never_answers_ends_the_run_after_the_attempts_allowed()
    {
        await using CompletionServer server = await CompletionServer.StartAsync();
        server.Intercept = async (context, _) =>
        {
            await Task.Delay(Timeout.Infinite, context.RequestAborted).ContinueWith(_ => { }, TaskScheduler.Default);
            return true;
        };
        BgeMetalException error = await Assert.ThrowsAsync<BgeMetalException>(() =>
            RunAsync(server, Rows(1), options => options with { Timeout = TimeSpan.FromMilliseconds(100), Attempts = 2 }));
        Assert.Contains("gave up after 2 attempts", error.Message, StringComparison.Ordinal);
        Assert.Contains("rows.jsonl:1", error.Message, StringComparison.Ordinal);
        Assert.False(File.Exists(Path.Combine(_folder, "scored.jsonl")));
    }

    [Fact]
    public async Task A_refusal_ends_the_run_at_once_and_never_shows_the_key()
    {
        await using CompletionServer server = await CompletionServer.StartAsync();
        server.Intercept = async (context, _) =>
        {
            context.Response.StatusCode = 401;
            await context.Response.WriteAsync("bad key sk-secret");
            return true;
        };
        BgeMetalException error = await Assert.ThrowsAsync<BgeMetalException>(() => RunAsync(server, Rows(1), options => options with { ApiKey = "sk-secret" }));
        Assert.Equal(1, server.Requests);
        Assert.Equal("Bearer sk-secret", Assert.Single(server.Keys));
        Assert.Contains("401", error.Message, StringComparison.Ordinal);
        Assert.DoesNotContain("sk-secret", error.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_server_that_cuts_the_text_is_an_error_and_no_score()
    {
        await using CompletionServer server = await CompletionServer.StartAsync();
        server.Context = 5;
        BgeMetalException error = await Assert.ThrowsAsync<BgeMetalException>(() => RunAsync(server, Rows(1)));
        Assert.Contains("cut short", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_run_that_was_stopped_goes_on_behind_its_last_whole_row()
    {
        await using CompletionServer server = await CompletionServer.StartAsync();
        string rows = Rows(6);
        await RunAsync(server, rows);
        string whole = File.ReadAllText(Path.Combine(_folder, "scored.jsonl"));
        File.Delete(Path.Combine(_folder, "scored.jsonl"));
        server.Intercept = (context, number) =>
        {
            if (number <= 9) return Task.FromResult(false);
            context.Response.StatusCode = 400;
            return Task.FromResult(true);
        };
        await Assert.ThrowsAsync<BgeMetalException>(() => RunAsync(server, rows, options => options with { Concurrency = 1 }));
        string partial = Path.Combine(_folder, "scored.jsonl.partial");
        int kept = File.ReadAllLines(partial).Length;
        Assert.InRange(kept, 1, 3);
        File.AppendAllText(partial, "{\"query\": \"cut o");
        server.Intercept = static (_, _) => Task.FromResult(false);
        LlmFeedbackSummary summary = await RunAsync(server, rows);
        Assert.Equal((6, kept), (summary.Rows, (int)summary.ResumedRows));
        Assert.Equal(whole, File.ReadAllText(Path.Combine(_folder, "scored.jsonl")));
        Assert.False(File.Exists(partial));
    }

    [Fact]
    public async Task Rows_of_another_run_are_not_mixed_in()
    {
        await using CompletionServer server = await CompletionServer.StartAsync();
        server.Context = 5;
        string rows = Rows(2);
        await Assert.ThrowsAsync<BgeMetalException>(() => RunAsync(server, rows));
        BgeMetalException error = await Assert.ThrowsAsync<BgeMetalException>(() => RunAsync(server, rows, options => options with { Model = "another" }));
        Assert.Contains("another input, model or prompts", error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("{\"query\": \"q\", \"pos\": [\"p\"], \"task\": \"qa\"}", "no answer")]
    [InlineData("{\"query\": \"q\", \"answers\": [\"a\"], \"task\": \"qa\"}", "no candidate")]
    [InlineData("{\"query\": \"q\", \"answers\": [\"a\"], \"pos\": [\"p\"]}", "task")]
    [InlineData("{\"query\": \"q\", \"answers\": [\"a\"], \"pos\": [\"p\"], \"task\": \"poetry\"}", "poetry")]
    [InlineData("{\"query\": 1}", "query")]
    public async Task A_bad_row_is_named_with_its_line(string row, string word)
    {
        await using CompletionServer server = await CompletionServer.StartAsync();
        string path = Path.Combine(_folder, "rows.jsonl");
        File.WriteAllText(path, row + "\n");
        BgeMetalException error = await Assert.ThrowsAsync<BgeMetalException>(() => RunAsync(server, path));
        Assert.Contains(word, error.Message, StringComparison.Ordinal);
        Assert.Contains("rows.jsonl:1", error.Message, StringComparison.Ordinal);
        Assert.Equal(0, server.Requests);
    }

    private string Rows(int count)
    {
        string path = Path.Combine(_folder, "rows.jsonl");
        File.WriteAllLines(path, Enumerable.Range(0, count).Select(i => JsonSerializer.Serialize(new
        {
            query = $"what is {i}? 🐼 {{candidate}}",
            answers = new[] { $"it is number {i} 𝄞 indeed", "not this" },
            pos = new[] { $"{i} is a number {{query}}" },
            neg = new[] { "owls fly", "bread rises 🥖" },
            task = "qa",
            teacher_scores = new[] { 1 },
            extra = new { kept = i },
        })));
        return path;
    }

    private Task<LlmFeedbackSummary> RunAsync(CompletionServer server, string rows, Func<LlmFeedbackOptions, LlmFeedbackOptions>? change = null)
    {
        LlmFeedbackOptions options = new() { Endpoint = server.Endpoint, Model = "test", RetryDelay = TimeSpan.FromMilliseconds(1) };
        return LlmFeedback.RunAsync(rows, Path.Combine(_folder, "scored.jsonl"), change?.Invoke(options) ?? options, null, TestContext.Current.CancellationToken);
    }

    private List<JsonElement> Output() => [.. File.ReadLines(Path.Combine(_folder, "scored.jsonl")).Select(line => JsonDocument.Parse(line).RootElement.Clone())];
}
