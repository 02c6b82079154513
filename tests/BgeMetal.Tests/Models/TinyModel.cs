using BgeMetal.Text;
using BgeMetal.Training;

namespace BgeMetal.Tests.Models;

/// <summary>A small fresh model with a vocabulary of a few words and all letters, on disk for the time of a test class.</summary>
public sealed class TinyModel : IDisposable
{
    private static readonly string[] Words =
        ["the", "cat", "sat", "on", "mat", "quick", "brown", "fox", "river", "hills", "and", "over", "one", "two", "three", "##ing", "猫", "在", "子"];

    /// <summary>Writes the model.</summary>
    public TinyModel()
    {
        string root = System.IO.Directory.CreateTempSubdirectory("bgemetal-").FullName;
        string vocabulary = Path.Combine(root, "vocabulary");
        System.IO.Directory.CreateDirectory(vocabulary);
        IEnumerable<string> letters = Enumerable.Range('a', 26).Select(letter => ((char)letter).ToString());
        File.WriteAllText(Path.Combine(vocabulary, "vocab.txt"),
            string.Join('\n', [.. new[] { "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]" }, .. Words, .. letters, .. letters.Select(letter => "##" + letter)]) + "\n");
        Root = root;
        Directory = Path.Combine(root, "model");
        ModelInitializer.Create(Directory, ModelTokenizer.Load(vocabulary),
            new FreshModelOptions { Layers = 3, HiddenSize = 48, Heads = 2, IntermediateSize = 104, MaxPositions = 256 });
    }

    /// <summary>The model's folder.</summary>
    public string Directory { get; }

    /// <summary>A temporary folder that is deleted with the model.</summary>
    public string Root { get; }

    /// <inheritdoc/>
    public void Dispose() => System.IO.Directory.Delete(Root, recursive: true);
}
