namespace BgeMetal.Tests.Cli;

/// <summary>A temporary folder with a small model, for tests of commands.</summary>
public abstract class CommandFolder : IDisposable
{
    private readonly Lazy<string> _model, _reranker;

    protected CommandFolder()
    {
        _model = new(() => TinyModel.Write(In("model")));
        _reranker = new(() => TinyModel.Write(In("reranker"), classifier: true, seed: 2));
    }

    protected string Folder { get; } = Directory.CreateTempSubdirectory("bgemetal-").FullName;

    protected string Model => _model.Value;

    protected string Reranker => _reranker.Value;

    public void Dispose()
    {
        Directory.Delete(Folder, recursive: true);
        GC.SuppressFinalize(this);
    }

    protected string In(params string[] parts) => Path.Combine([Folder, .. parts]);

    protected string File(string name, string content)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(In(name))!);
        System.IO.File.WriteAllText(In(name), content);
        return In(name);
    }
}
