using System.Text.Json;
using BgeMetal.Checkpoints;

namespace BgeMetal.Retrieval;

/// <summary>What one task puts before its texts.</summary>
/// <param name="Query">Put before what is looked up.</param>
/// <param name="Key">Put before what is looked up in.</param>
public sealed record TaskInstruction(string Query, string Key);

/// <summary>
/// Instructions by task, as LLM-Embedder uses them (Zhang et al. 2023): the same text is embedded differently for question answering, dialogue memory or tool
/// retrieval. The six published pairs are in task-instructions.json beside this file.
/// </summary>
public sealed class TaskInstructions
{
    private const string QuerySuffix = ".query", KeySuffix = ".key", Failure = "cannot read the instructions";
    private readonly SortedDictionary<string, TaskInstruction> _tasks;

    private TaskInstructions(SortedDictionary<string, TaskInstruction> tasks) => _tasks = tasks;

    /// <summary>No instructions.</summary>
    public static TaskInstructions None { get; } = new(new(StringComparer.Ordinal));

    /// <summary>Those published with BAAI/llm-embedder: qa, icl, chat, lrlm, tool, convsearch.</summary>
    public static TaskInstructions Published { get; } = ReadPublished();

    /// <summary>The tasks, in ordinal order.</summary>
    public IReadOnlyCollection<string> Tasks => _tasks.Keys;

    /// <summary>Reads <c>{"TASK": {"query": "..", "key": ".."}, ..}</c>; an absent side is empty.</summary>
    /// <exception cref="BgeMetalException">The file cannot be read or is not of that form.</exception>
    public static TaskInstructions Load(string path)
    {
        if (!File.Exists(path)) throw new BgeMetalException(Failure, "there is no such file", path);
        return Read(JsonFile.ReadObject(path, Failure));
    }

    /// <summary>A task's instructions.</summary>
    /// <exception cref="BgeMetalException">There is no such task.</exception>
    public TaskInstruction For(string task) => _tasks.TryGetValue(task, out TaskInstruction? found) ? found
        : throw new BgeMetalException("option --task", $"there are no instructions for '{task}', known are {string.Join(", ", _tasks.Keys)}; --instructions FILE gives others");

    /// <summary>Whether there are instructions for a task.</summary>
    public bool Has(string task) => _tasks.ContainsKey(task);

    /// <summary>These and <paramref name="others"/>, which win.</summary>
    public TaskInstructions With(TaskInstructions others)
    {
        ArgumentNullException.ThrowIfNull(others);
        SortedDictionary<string, TaskInstruction> all = new(_tasks, StringComparer.Ordinal);
        foreach ((string task, TaskInstruction instruction) in others._tasks) all[task] = instruction;
        return new TaskInstructions(all);
    }

    /// <summary>Those of some tasks only.</summary>
    internal TaskInstructions Of(IEnumerable<string> tasks)
    {
        SortedDictionary<string, TaskInstruction> some = new(StringComparer.Ordinal);
        foreach (string task in tasks) some[task] = For(task);
        return new TaskInstructions(some);
    }

    /// <summary>As prompts of config_sentence_transformers.json: <c>TASK.query</c> and <c>TASK.key</c>, which sentence-transformers takes as prompt names.</summary>
    internal Dictionary<string, string> ToPrompts()
    {
        Dictionary<string, string> prompts = [];
        foreach ((string task, TaskInstruction instruction) in _tasks) (prompts[task + QuerySuffix], prompts[task + KeySuffix]) = (instruction.Query, instruction.Key);
        return prompts;
    }

    /// <summary>The tasks among a model's prompts.</summary>
    internal static TaskInstructions FromPrompts(IReadOnlyDictionary<string, string> prompts)
    {
        SortedDictionary<string, TaskInstruction> tasks = new(StringComparer.Ordinal);
        foreach ((string name, string text) in prompts)
            if (name.EndsWith(QuerySuffix, StringComparison.Ordinal) && prompts.TryGetValue(name[..^QuerySuffix.Length] + KeySuffix, out string? key))
                tasks[name[..^QuerySuffix.Length]] = new TaskInstruction(text, key);
        return new TaskInstructions(tasks);
    }

    private static TaskInstructions ReadPublished()
    {
        using Stream stream = typeof(TaskInstructions).Assembly.GetManifestResourceStream("task-instructions.json")!;
        using MemoryStream bytes = new();
        stream.CopyTo(bytes);
        return Read(JsonFile.Parse(bytes.ToArray(), "task-instructions.json"));
    }

    private static TaskInstructions Read(JsonFile json)
    {
        SortedDictionary<string, TaskInstruction> tasks = new(StringComparer.Ordinal);
        foreach (JsonProperty task in json.Root.EnumerateObject())
        {
            if (task.Value.ValueKind != JsonValueKind.Object) throw json.Wrong(task.Name, task.Value, "an object with \"query\" and \"key\"");
            tasks[task.Name] = new TaskInstruction(Side(json, task.Value, "query"), Side(json, task.Value, "key"));
        }
        return new TaskInstructions(tasks);
    }

    private static string Side(JsonFile json, JsonElement task, string side)
    {
        if (!task.TryGetProperty(side, out JsonElement value)) return "";
        return value.ValueKind == JsonValueKind.String && JsonFile.TryText(value) is { } text ? text : throw json.Wrong(side, value, "a text");
    }
}
