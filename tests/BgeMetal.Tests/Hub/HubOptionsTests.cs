using BgeMetal.Hub;

namespace BgeMetal.Tests.Hub;

public sealed class HubOptionsTests : IDisposable
{
    private readonly string _home = Directory.CreateTempSubdirectory("bgemetal-").FullName;

    public void Dispose() => Directory.Delete(_home, recursive: true);

    [Fact]
    public void The_cache_is_where_the_environment_says()
    {
        Assert.Equal("/a/b", From(("HF_HUB_CACHE", "/a/b"), ("HF_HOME", _home)).CacheDirectory);
        Assert.Equal(Path.Combine(_home, "hub"), From(("HF_HOME", _home)).CacheDirectory);
        Assert.Equal(Path.Combine(_home, "huggingface", "hub"), From(("XDG_CACHE_HOME", _home)).CacheDirectory);
        Assert.EndsWith(Path.Combine(".cache", "huggingface", "hub"), From().CacheDirectory, StringComparison.Ordinal);
    }

    [Fact]
    public void The_token_comes_from_the_variable_else_from_the_file()
    {
        System.IO.File.WriteAllText(Path.Combine(_home, "token"), "hf_file\n");
        Assert.Equal("hf_variable", From(("HF_TOKEN", "hf_variable"), ("HF_HOME", _home)).Token);
        Assert.Equal("hf_file", From(("HF_HOME", _home)).Token);
        Assert.Null(From(("HF_HOME", _home), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")).Token);
    }

    [Theory]
    [InlineData("1", true)]
    [InlineData("true", true)]
    [InlineData("0", false)]
    [InlineData("", false)]
    public void Offline_is_a_switch(string value, bool expected) => Assert.Equal(expected, From(("HF_HUB_OFFLINE", value)).Offline);

    [Fact]
    public void Settings_that_cannot_work_are_refused_by_name()
    {
        Assert.Contains("HF_ENDPOINT", Assert.Throws<BgeMetalException>(() => From(("HF_ENDPOINT", "ftp://x"))).Message, StringComparison.Ordinal);
        Assert.Contains("HF_TOKEN", Assert.Throws<BgeMetalException>(() => From(("HF_TOKEN", "hf\u00e9"))).Message, StringComparison.Ordinal);
        Assert.Equal("https://mirror.example", From(("HF_ENDPOINT", "https://mirror.example/")).Endpoint);
    }

    private static HubOptions From(params (string Name, string Value)[] variables) => HubOptions.FromEnvironment(name =>
        variables.FirstOrDefault(v => v.Name == name).Value);
}
