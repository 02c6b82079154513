using System.Text;
using System.Text.Json;

namespace BgeMetal.Checkpoints;

/// <summary>
/// A model directory in the making. Files go to a hidden directory on the same file system as the target, each flushed to the disk;
/// <see cref="Commit"/> then renames them into place, and Dispose without it removes them. A target that exists is changed by Commit alone: what an
/// earlier model left and the new one lacks is deleted (other weights, pooling and tokenizer files would be loaded in place of the new ones).
/// </summary>
internal sealed class StagedDirectory : IDisposable
{
    /// <summary>The file that makes a directory a model: removed first, put in place last.</summary>
    internal const string LastFile = "config.json";

    private static readonly string[] ModelFiles =
    [
        WeightFiles.Safetensors, WeightFiles.SafetensorsIndex, WeightFiles.Torch, WeightFiles.TorchIndex, "modules.json", "1_Pooling/config.json",
        "sentence_bert_config.json", "sentence_roberta_config.json", "sentence_xlm-roberta_config.json", "config_sentence_transformers.json",
    ];

    private static readonly string[] TokenizerFiles =
        ["tokenizer.json", "tokenizer_config.json", "vocab.txt", "sentencepiece.bpe.model", "special_tokens_map.json", "added_tokens.json"];

    private readonly string _target;
    private readonly string _staging;
    private readonly bool _exists;
    private readonly List<string> _files = [], _folders = [];
    private bool _copied;

    private StagedDirectory(string target, string staging, bool exists)
    {
        _target = target;
        _staging = staging;
        _exists = exists;
    }

    /// <summary>Starts a directory; missing parents are made.</summary>
    /// <exception cref="BgeMetalException">The target is a file, or not empty and <paramref name="overwrite"/> is false.</exception>
    /// <exception cref="IOException">It cannot be written.</exception>
    internal static StagedDirectory Create(string directory, bool overwrite)
    {
        string target = Path.TrimEndingDirectorySeparator(Path.GetFullPath(directory));
        if (File.Exists(target)) throw new BgeMetalException("cannot save the model", "the path is a file, a directory was expected", directory);
        bool exists = Directory.Exists(target);
        if (exists && !overwrite && Directory.EnumerateFileSystemEntries(target).Any())
            throw new BgeMetalException("cannot save the model", "the directory is not empty", directory);
        string temporary = $".{Environment.ProcessId:x}-{Guid.NewGuid():n}.tmp";
        string staging = exists ? Path.Combine(target, temporary) : Path.Combine(Path.GetDirectoryName(target) ?? target, $".{Path.GetFileName(target)}{temporary}");
        Directory.CreateDirectory(staging);
        return new StagedDirectory(target, staging, exists);
    }

    /// <summary>Writes a file; <paramref name="name"/> may name one folder before it, with a slash.</summary>
    internal void Write(string name, Action<Stream> write)
    {
        string path = Path.Combine(_staging, name);
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        using FileStream stream = new(path, FileMode.CreateNew, FileAccess.Write, FileShare.None, 1 << 16);
        write(stream);
        stream.Flush(flushToDisk: true);
        _files.Add(name);
    }

    /// <summary>Writes a text file as UTF-8.</summary>
    internal void WriteText(string name, string text) => Write(name, stream => stream.Write(Encoding.UTF8.GetBytes(text)));

    /// <summary>Writes an indented JSON file.</summary>
    internal void WriteJson(string name, Action<Utf8JsonWriter> write) => Write(name, stream =>
    {
        using Utf8JsonWriter writer = new(stream, ModelConfigWriter.Options);
        write(writer);
        writer.Flush();
        stream.WriteByte((byte)'\n');
    });

    /// <summary>Makes an empty folder.</summary>
    internal void MakeFolder(string name)
    {
        Directory.CreateDirectory(Path.Combine(_staging, name));
        _folders.Add(name);
    }

    /// <summary>Copies a file under its own name.</summary>
    internal void Copy(string file)
    {
        using FileStream source = new(file, FileMode.Open, FileAccess.Read, FileShare.Read);
        Write(Path.GetFileName(file), source.CopyTo);
        _copied = true;
    }

    /// <summary>Puts everything in place. Call once, last.</summary>
    internal void Commit()
    {
        if (!_exists)
        {
            Directory.Move(_staging, _target);
            return;
        }
        File.Delete(Path.Combine(_target, LastFile));
        foreach (string stale in StaleFiles()) File.Delete(stale);
        foreach (string name in _folders) Directory.CreateDirectory(Path.Combine(_target, name));
        foreach (string name in _files.OrderBy(name => name == LastFile))
        {
            string path = Path.Combine(_target, name);
            Directory.CreateDirectory(Path.GetDirectoryName(path)!);
            File.Move(Path.Combine(_staging, name), path, overwrite: true);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (Directory.Exists(_staging)) Directory.Delete(_staging, recursive: true);
    }

    private IEnumerable<string> StaleFiles()
    {
        IEnumerable<string> candidates = ModelFiles.Concat(_copied ? TokenizerFiles : []).Select(name => Path.Combine(_target, name))
            .Concat(Directory.EnumerateFiles(_target, "model-*-of-*.safetensors")).Concat(Directory.EnumerateFiles(_target, "pytorch_model-*-of-*.bin"));
        HashSet<string> kept = [.. _files.Select(name => Path.Combine(_target, name))];
        return [.. candidates.Where(path => !kept.Contains(path) && File.Exists(path))];
    }
}
