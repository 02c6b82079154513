using System.CommandLine;
using BgeMetal.Cli.Output;
using BgeMetal.Cli.Parsing;
using BgeMetal.Training.Feedback;

namespace BgeMetal.Cli.Commands;

/// <summary><c>score</c>: a teacher's scores for training rows, from a reranker or from a language model's completions endpoint.</summary>
internal static class ScoreCommand
{
    public static Command Create(Terminal terminal)
    {
        CliOption<string> input = InputOption.Input("Rows {\"query\", \"pos\", \"neg\"}; for --endpoint also \"answers\" or \"history\", \"task\"");
        CliOption<string> output = Opt.RequiredText("--output", "FILE", "The rows with teacher_scores; after a kill the same command goes on where it stopped", "output-file", "output-path");
        CliOption<string?> endpoint = Opt.Text("--endpoint", "URL", "An OpenAI-compatible completions endpoint with echo and logprobs, e.g. http://localhost:8000/v1");
        CliOption<string?> model = Opt.Text("--llm", "NAME", "The language model's name there");
        CliOption<string> key = Opt.TextOr("--api-key-env", "NAME", "OPENAI_API_KEY", "The environment variable that holds the key");
        CliOption<string?> task = Opt.Text("--task", "TASK", "The task of rows that name none");
        CliOption<string?> prompts = Opt.Text("--prompts", "FILE", "Prompts by task {\"TASK\": {\"prompt\": \"..{candidate}..{query}..\", \"answer\": \"{answer}\"}}, over those built in");
        CliOption<int> batch = Opt.Int("--batch-size", "Prompts of a request", 8, 1, 4096);
        CliOption<int> concurrency = Opt.Int("--concurrency", "Requests under way at a time", 4, 1, 1024);
        CliOption<int> attempts = Opt.Int("--attempts", "Attempts of a request before the run ends", 6, 1, 100);
        CliOption<double> delay = Opt.Number("--retry-delay", "Seconds before the second attempt, doubled from then on", 1, 0, 3600);
        CliOption<double> timeout = Opt.Number("--timeout", "Seconds a request may take", 300, 0.01, 86400);
        RerankerScoring reranker = new();
        Command command = new("score", "Write a teacher's scores into training rows: a reranker's, or the likelihood of the answer under a language model") { input, output, endpoint, model, key, task, prompts, batch, concurrency, attempts, delay, timeout };
        reranker.AddTo(command);
        command.SetAction(parsed =>
        {
            bool asksLlm = parsed.GetValue(endpoint) is not null;
            if (reranker.IsAskedFor(parsed) == asksLlm) throw new UsageException("one teacher is expected: give --reranker MODEL, or --endpoint URL with --llm NAME");
            if (!asksLlm) return reranker.Run(parsed, terminal, parsed.GetRequiredValue(input), parsed.GetRequiredValue(output));
            string? secret = Environment.GetEnvironmentVariable(parsed.GetValue(key)!);
            LlmFeedbackOptions options = new()
            {
                Endpoint = parsed.GetValue(endpoint)!,
                Model = parsed.GetValue(model) ?? throw new UsageException("--endpoint needs the language model's name: give --llm NAME"),
                ApiKey = string.IsNullOrEmpty(secret) ? null : secret,
                Task = parsed.GetValue(task),
                Prompts = parsed.GetValue(prompts),
                BatchSize = parsed.GetValue(batch),
                Concurrency = parsed.GetValue(concurrency),
                Attempts = parsed.GetValue(attempts),
                RetryDelay = TimeSpan.FromSeconds(parsed.GetValue(delay)),
                Timeout = TimeSpan.FromSeconds(parsed.GetValue(timeout)),
            };
            using Progress progress = terminal.Watch("scoring", "rows", null);
            LlmFeedbackSummary done = LlmFeedback.RunAsync(parsed.GetRequiredValue(input), parsed.GetRequiredValue(output), options, progress, terminal.Cancellation).GetAwaiter().GetResult();
            terminal.Say($"scored {Terminal.Count(done.Candidates)} candidates; {Terminal.Count(done.Rows)} rows are in {parsed.GetRequiredValue(output)}"
                + (done.ResumedRows > 0 ? $", {Terminal.Count(done.ResumedRows)} of them from an earlier run" : ""));
            return ExitCode.Done;
        });
        return command;
    }
}
