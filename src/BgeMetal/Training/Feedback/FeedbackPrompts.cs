using System.Text;
using System.Text.Json;
using BgeMetal.Checkpoints;

namespace BgeMetal.Training.Feedback;

/// <summary>What a language model reads for one task.</summary>
/// <param name="Prompt">What stands before the answer, with <c>{candidate}</c> and <c>{query}</c>.</param>
/// <param name="Answer">The answer whose likelihood is measured, with <c>{answer}</c>.</param>
internal sealed record FeedbackPrompt(string Prompt, string Answer)
{
    /// <summary>The text before the answer.</summary>
    public string Before(string query, string candidate) => Fill(Prompt, query, candidate, "");

    /// <summary>The answer.</summary>
    public string After(string answer) => Fill(Answer, "", "", answer);

    /// <summary>Fills in one pass, so that braces in a text are left alone.</summary>
    private static string Fill(string template, string query, string candidate, string answer)
    {
        StringBuilder text = new();
        for (int i = 0; i < template.Length; i++)
        {
            ReadOnlySpan<char> rest = template.AsSpan(i);
            (string name, string value) = rest.StartsWith("{query}", StringComparison.Ordinal) ? ("{query}", query)
                : rest.StartsWith("{candidate}", StringComparison.Ordinal) ? ("{candidate}", candidate)
                : rest.StartsWith("{answer}", StringComparison.Ordinal) ? ("{answer}", answer) : (template[i..(i + 1)], template[i..(i + 1)]);
            text.Append(value);
            i += name.Length - 1;
        }
        return text.ToString();
    }
}

/// <summary>Prompts by task: <c>{"TASK": {"prompt": "..{candidate}..{query}..", "answer": "{answer}"}}</c>. Those built in are in feedback-prompts.json beside this file.</summary>
internal sealed class FeedbackPrompts
{
    private const string Failure = "cannot read the prompts";
    private readonly SortedDictionary<string, FeedbackPrompt> _tasks = new(StringComparer.Ordinal);

    /// <summary>The prompts built in, and those of <paramref name="path"/> over them where it is given.</summary>
    /// <exception cref="BgeMetalException">The file cannot be read, or a template has no place for the candidate, the query or the answer.</exception>
    public static FeedbackPrompts Load(string? path)
    {
        FeedbackPrompts prompts = new();
        using (Stream stream = typeof(FeedbackPrompts).Assembly.GetManifestResourceStream("feedback-prompts.json")!)
        using (MemoryStream bytes = new())
        {
            stream.CopyTo(bytes);
            prompts.Add(JsonFile.Parse(bytes.ToArray(), "feedback-prompts.json"));
        }
        if (path is null) return prompts;
        if (!File.Exists(path)) throw new BgeMetalException(Failure, "there is no such file", path);
        prompts.Add(JsonFile.ReadObject(path, Failure));
        return prompts;
    }

    /// <summary>A task's prompt.</summary>
    /// <exception cref="BgeMetalException">There is none.</exception>
    public FeedbackPrompt For(string task, string file, long line) => _tasks.TryGetValue(task, out FeedbackPrompt? prompt) ? prompt
        : throw new BgeMetalException("bad input", $"there is no prompt for the task '{task}', known are {string.Join(", ", _tasks.Keys)}; --prompts FILE gives others", file, line);

    private void Add(JsonFile json)
    {
        foreach (JsonProperty task in json.Root.EnumerateObject())
        {
            if (task.Value.ValueKind != JsonValueKind.Object) throw json.Wrong(task.Name, task.Value, "an object with \"prompt\" and \"answer\"");
            _tasks[task.Name] = new FeedbackPrompt(Text(json, task.Value, "prompt", "{candidate}", "{query}"), Text(json, task.Value, "answer", "{answer}"));
        }
    }

    private static string Text(JsonFile json, JsonElement task, string field, params string[] places)
    {
        if (!task.TryGetProperty(field, out JsonElement value)) throw json.Missing(field, $"a text with {string.Join(" and ", places)}");
        string? text = value.ValueKind == JsonValueKind.String ? JsonFile.TryText(value) : null;
        return text is not null && places.All(place => text.Contains(place, StringComparison.Ordinal)) ? text
            : throw json.Wrong(field, value, $"a text with {string.Join(" and ", places)}");
    }
}
