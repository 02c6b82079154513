using System.Collections.Concurrent;
using System.Globalization;
using System.Net;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace BgeMetal.Tests.Hub;

/// <summary>
/// The hub's protocol on two local ports: one is the hub, the other the storage that large files are redirected to. Tests bend it by
/// <see cref="Intercept"/>, which sees every request first and says whether it answered.
/// </summary>
internal sealed class HubServer : IAsyncDisposable
{
    public const string Repository = "acme/tiny-model";
    public const string Commit = "0123456789abcdef0123456789abcdef01234567";
    private readonly WebApplication _application;

    private HubServer(WebApplication application) => _application = application;

    public sealed record Request(string Method, string Path, bool ToStorage, string? Authorization, string? Range);

    public Dictionary<string, byte[]> Files { get; } = new()
    {
        ["config.json"] = "{}"u8.ToArray(),
        ["vocab.txt"] = "[PAD]\n[UNK]\n"u8.ToArray(),
        ["1_Pooling/config.json"] = "{\"pooling_mode_cls_token\": true}"u8.ToArray(),
        ["model.safetensors"] = [.. Enumerable.Range(0, 300_000).Select(i => (byte)(i * 31 ^ i >> 8))],
        ["pytorch_model.bin"] = [1, 2, 3],
        ["README.md"] = [1],
    };

    public List<string> ExtraListedNames { get; } = [];

    public ConcurrentQueue<Request> Requests { get; } = new();

    public Func<HttpContext, Request, Task<bool>> Intercept { get; set; } = static (_, _) => Task.FromResult(false);

    public string Endpoint { get; private set; } = "";

    public string Storage { get; private set; } = "";

    public static async Task<HubServer> StartAsync()
    {
        WebApplicationBuilder builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.ConfigureKestrel(kestrel =>
        {
            kestrel.Listen(IPAddress.Loopback, 0);
            kestrel.Listen(IPAddress.Loopback, 0);
        });
        HubServer server = new(builder.Build());
        server._application.Run(server.AnswerAsync);
        await server._application.StartAsync();
        string[] addresses = [.. server._application.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses];
        (server.Endpoint, server.Storage) = (addresses[0], addresses[1]);
        return server;
    }

    public async ValueTask DisposeAsync() => await _application.DisposeAsync();

    public static bool IsLarge(string file) => file.EndsWith(".safetensors", StringComparison.Ordinal);

#pragma warning disable CA5350 // git names its objects by SHA-1
    public static string EntityTag(string file, byte[] content) => IsLarge(file) ? Convert.ToHexStringLower(SHA256.HashData(content))
        : Convert.ToHexStringLower(SHA1.HashData([.. Encoding.ASCII.GetBytes($"blob {content.Length}\0"), .. content]));
#pragma warning restore CA5350

    private async Task AnswerAsync(HttpContext context)
    {
        string path = context.Request.Path.Value!;
        Request request = new(context.Request.Method, path, context.Connection.LocalPort == new Uri(Storage).Port,
            (string?)context.Request.Headers.Authorization, (string?)context.Request.Headers.Range);
        Requests.Enqueue(request);
        if (await Intercept(context, request)) return;
        string resolve = $"/{Repository}/resolve/{Commit}/";
        if (request.ToStorage && Files.TryGetValue(path[1..], out byte[]? stored)) await SendAsync(context, stored);
        else if (!request.ToStorage && path == $"/api/models/{Repository}/revision/main") await ListAsync(context);
        else if (!request.ToStorage && path.StartsWith(resolve, StringComparison.Ordinal) && Files.TryGetValue(path[resolve.Length..], out byte[]? content))
            await ResolveAsync(context, path[resolve.Length..], content);
        else context.Response.StatusCode = 404;
    }

    private async Task ListAsync(HttpContext context)
    {
        context.Response.ContentType = "application/json";
        await context.Response.WriteAsync(JsonSerializer.Serialize(new { sha = Commit, siblings = Files.Keys.Concat(ExtraListedNames).Select(f => new { rfilename = f }) }));
    }

    private async Task ResolveAsync(HttpContext context, string file, byte[] content)
    {
        context.Response.Headers["X-Repo-Commit"] = Commit;
        if (IsLarge(file))
        {
            context.Response.Headers["X-Linked-Etag"] = $"\"{EntityTag(file, content)}\"";
            context.Response.Headers["X-Linked-Size"] = content.Length.ToString(CultureInfo.InvariantCulture);
            context.Response.Redirect($"{Storage}/{file}");
            return;
        }
        context.Response.Headers.ETag = $"\"{EntityTag(file, content)}\"";
        await SendAsync(context, content);
    }

    private static async Task SendAsync(HttpContext context, byte[] content)
    {
        int start = 0;
        if (context.Request.Headers.Range.ToString() is { Length: > 0 } range)
        {
            start = int.Parse(range["bytes=".Length..^1], CultureInfo.InvariantCulture);
            context.Response.StatusCode = 206;
            context.Response.Headers.ContentRange = $"bytes {start}-{content.Length - 1}/{content.Length}";
        }
        context.Response.ContentLength = content.Length - start;
        if (context.Request.Method != "HEAD") await context.Response.Body.WriteAsync(content.AsMemory(start));
    }
}
