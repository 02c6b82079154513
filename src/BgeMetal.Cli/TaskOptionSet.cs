using System.CommandLine;
using BgeMetal.Cli.Output;
using BgeMetal.Cli.Parsing;
using BgeMetal.Retrieval;

namespace BgeMetal.Cli;

/// <summary>The options that name a task whose instruction is put before texts.</summary>
internal sealed class TaskOptionSet
{
    private readonly CliOption<string?> _task = Opt.Text("--task", "TASK", "Put the task's instruction before texts: qa, icl, chat, lrlm, tool, convsearch, or one the model was trained with");
    private readonly CliOption<string?> _file = Opt.Text("--instructions", "FILE", "Instructions by task {\"TASK\": {\"query\": \"..\", \"key\": \"..\"}}, instead of the model's own");

    public void AddTo(Command command)
    {
        command.Add(_task);
        command.Add(_file);
    }

    /// <summary>Whether a task is named.</summary>
    public bool IsGiven(ParseResult parsed) => parsed.GetValue(_task) is not null || parsed.GetValue(_file) is not null;

    /// <summary>
    /// The task's instructions, or null where no task is named. A model that was trained with several tasks' instructions and gets none is worth a warning.
    /// </summary>
    public TaskInstruction? Read(ParseResult parsed, Terminal terminal, Embedder embedder, Option<string?> instruction)
    {
        string? task = parsed.GetValue(_task), file = parsed.GetValue(_file);
        if (task is not null && parsed.GetValue(instruction) is not null) throw InputOption.Contradiction(_task, instruction);
        if (task is null)
        {
            if (file is not null) throw new UsageException("--instructions FILE needs --task TASK");
            if (parsed.GetValue(instruction) is null && embedder.TaskInstructions.Tasks.Count > 0)
                terminal.Warn($"the model was trained with instructions for {string.Join(", ", embedder.TaskInstructions.Tasks)}: --task says which to use");
            return null;
        }
        return file is null ? embedder.InstructionFor(task) : TaskInstructions.Load(file).For(task);
    }
}
