using System.Collections.Concurrent;
using System.Net;
using System.Text.Json;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace BgeMetal.Tests.Training;

/// <summary>
/// The completions protocol on a local port. Its language model cuts texts into pieces of four code points, and the log-probability of a piece is a function of
/// the piece and of the whole text's length, so that a test can say what each score must be. Tests bend it by <see cref="Intercept"/>.
/// </summary>
internal sealed class CompletionServer : IAsyncDisposable
{
    private readonly WebApplication _application;
    private int _requests, _under, _mostUnder;

    private CompletionServer(WebApplication application) => _application = application;

    public string Endpoint { get; private set; } = "";

    public int Requests => _requests;

    public int MostUnderWay => _mostUnder;

    public ConcurrentQueue<string?> Keys { get; } = new();

    public Func<HttpContext, int, Task<bool>> Intercept { get; set; } = static (_, _) => Task.FromResult(false);

    public bool ShowsStartToken { get; set; }

    public bool LosesSpaces { get; set; }

    public bool GarblesCharacters { get; set; }

    public int Context { get; set; } = int.MaxValue;

    public static async Task<CompletionServer> StartAsync()
    {
        WebApplicationBuilder builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.ConfigureKestrel(kestrel => kestrel.Listen(IPAddress.Loopback, 0));
        CompletionServer server = new(builder.Build());
        server._application.Run(server.AnswerAsync);
        await server._application.StartAsync();
        server.Endpoint = server._application.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.First() + "/v1";
        return server;
    }

    public async ValueTask DisposeAsync() => await _application.DisposeAsync();

    /// <summary>What the score of an answer after a prompt must be.</summary>
    public static double Expected(string before, string answer)
    {
        List<string> pieces = Pieces(before + answer);
        int start = before.EnumerateRunes().Count(), at = 0, count = 0;
        double sum = 0;
        foreach (string piece in pieces)
        {
            at += piece.EnumerateRunes().Count();
            if (at <= start) continue;
            sum += LogProbability(piece, (before + answer).Length);
            count++;
        }
        return sum / count;
    }

    private static double LogProbability(string piece, int length) => -0.1 - piece.Sum(c => c % 7) * 0.25 - length % 5 * 0.5;

    private static List<string> Pieces(string text)
    {
        List<string> pieces = [];
        int count = 0;
        foreach (System.Text.Rune rune in text.EnumerateRunes())
        {
            if (count++ % 4 == 0) pieces.Add("");
            pieces[^1] += rune.ToString();
        }
        return pieces;
    }

    private async Task AnswerAsync(HttpContext context)
    {
        int number = Interlocked.Increment(ref _requests), under = Interlocked.Increment(ref _under);
        InterlockedMax(ref _mostUnder, under);
        try
        {
            Keys.Enqueue((string?)context.Request.Headers.Authorization);
            if (await Intercept(context, number)) return;
            using JsonDocument request = await JsonDocument.ParseAsync(context.Request.Body, cancellationToken: context.RequestAborted);
            if (context.Request.Path != "/v1/completions" || !request.RootElement.GetProperty("echo").GetBoolean())
            {
                context.Response.StatusCode = 404;
                return;
            }
            string[] prompts = [.. request.RootElement.GetProperty("prompt").EnumerateArray().Select(prompt => prompt.GetString()!)];
            await context.Response.WriteAsJsonAsync(new { choices = prompts.Select((prompt, i) => Choice(prompt, i)).Reverse() });
        }
        finally
        {
            Interlocked.Decrement(ref _under);
        }
    }

    private Dictionary<string, object?> Choice(string prompt, int index)
    {
        List<string> tokens = Pieces(prompt);
        List<double?> values = [.. tokens.Select(piece => (double?)LogProbability(piece, prompt.Length))];
        if (LosesSpaces) tokens = tokens.ConvertAll(token => token.TrimStart(' '));
        if (GarblesCharacters) tokens = tokens.ConvertAll(token => string.Concat(token.EnumerateRunes().Select(rune => rune.Value > 0xFFFF ? "\uFFFD" : rune.ToString())));
        if (tokens.Count > Context) (tokens, values) = (tokens[..Context], values[..Context]);
        if (ShowsStartToken)
        {
            tokens.Insert(0, "<s>");
            values.Insert(0, null);
        }
        else
        {
            values[0] = null;
        }
        tokens.Add(" more");
        values.Add(-9);
        Dictionary<string, object?> logprobs = new() { ["tokens"] = tokens, ["token_logprobs"] = values };
        return new() { ["index"] = index, ["text"] = prompt, ["logprobs"] = logprobs };
    }

    private static void InterlockedMax(ref int target, int value)
    {
        int seen = target;
        while (value > seen)
        {
            int before = Interlocked.CompareExchange(ref target, value, seen);
            if (before == seen) return;
            seen = before;
        }
    }
}
