using System.IO.Compression;
using System.Text.Json.Nodes;
using BgeMetal.Testing;
using BgeMetal.Text;

namespace BgeMetal.Tests.Text;

/// <summary>Tokenizers of the shared data, by the names of the fixtures ("FOLDER" or "FOLDER.VARIANT"), laid out in a temporary folder as a model has them.</summary>
internal static class SharedTokenizers
{
    private static readonly Dictionary<string, ModelTokenizer> s_loaded = [];
    private static readonly Lock s_gate = new();

    public static ModelTokenizer LoadOrSkip(string name)
    {
        lock (s_gate)
        {
            if (s_loaded.TryGetValue(name, out ModelTokenizer? loaded)) return loaded;
            using TemporaryFolder folder = new();
            string source = SharedFolder.DataOrSkip("tokenizers", name.Split('.')[0]);
            foreach (string file in Directory.GetFiles(source)) CopyUnpacked(file, folder.Path);
            if (name.Contains('.', StringComparison.Ordinal)) ApplyVariant(folder.Path, name.Split('.')[1]);
            return s_loaded[name] = ModelTokenizer.Load(folder.Path);
        }
    }

    public static ModelTokenizer LoadOnlyOrSkip(string name, params string[] files)
    {
        using TemporaryFolder folder = new();
        foreach (string file in files) CopyUnpacked(SharedFolder.DataOrSkip("tokenizers", name, file), folder.Path);
        return ModelTokenizer.Load(folder.Path);
    }

    private static void CopyUnpacked(string file, string folder)
    {
        if (!file.EndsWith(".gz", StringComparison.Ordinal))
        {
            System.IO.File.WriteAllBytes(Path.Combine(folder, Path.GetFileName(file)), System.IO.File.ReadAllBytes(file));
            return;
        }
        using GZipStream packed = new(System.IO.File.OpenRead(file), CompressionMode.Decompress);
        using FileStream target = System.IO.File.Create(Path.Combine(folder, Path.GetFileNameWithoutExtension(file)));
        packed.CopyTo(target);
    }

    private static void ApplyVariant(string folder, string variant)
    {
        string path = Path.Combine(folder, "tokenizer.json"), patch = Path.Combine(folder, $"variant-{variant}.json");
        JsonNode json = JsonNode.Parse(System.IO.File.ReadAllText(path))!;
        if (variant == "cased")
        {
            json["normalizer"]!["lowercase"] = false;
            string config = Path.Combine(folder, "tokenizer_config.json");
            JsonNode settings = JsonNode.Parse(System.IO.File.ReadAllText(config))!;
            settings["do_lower_case"] = false;
            System.IO.File.WriteAllText(config, settings.ToJsonString());
        }
        else
        {
            string map = json["normalizer"]!["precompiled_charsmap"]!.GetValue<string>();
            JsonObject changes = JsonNode.Parse(System.IO.File.ReadAllText(patch).Replace("<as in tokenizer.json>", map, StringComparison.Ordinal))!.AsObject();
            foreach ((string key, JsonNode? value) in changes) json[key] = value!.DeepClone();
        }
        System.IO.File.WriteAllText(path, json.ToJsonString());
    }
}

/// <summary>A folder that goes away with the test.</summary>
internal sealed class TemporaryFolder : IDisposable
{
    public string Path { get; } = Directory.CreateTempSubdirectory("bgemetal-").FullName;

    public string Write(string name, string text)
    {
        string path = System.IO.Path.Combine(Path, name);
        System.IO.File.WriteAllText(path, text);
        return path;
    }

    public string Write(string name, byte[] bytes)
    {
        string path = System.IO.Path.Combine(Path, name);
        System.IO.File.WriteAllBytes(path, bytes);
        return path;
    }

    public void Dispose() => Directory.Delete(Path, recursive: true);
}
