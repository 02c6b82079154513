using System.CommandLine;
using BgeMetal.Cli.Output;
using BgeMetal.Cli.Parsing;
using BgeMetal.Data;
using BgeMetal.Retrieval;

namespace BgeMetal.Cli.Commands;

/// <summary><c>embed</c>: texts to vectors, streamed, in the order of the input.</summary>
internal static class EmbedCommand
{
    public static Command Create(Terminal terminal)
    {
        CliOption<string> input = InputOption.Input("Texts, or rows {\"input_ids\": [..]}");
        CliOption<string?> output = InputOption.Output("Vectors: NumPy float32 [N, D] where the name ends in .npy, else JSON lines {\"id\", \"embedding\"}; standard output by default");
        CliOption<string?> instruction = Opt.Text("--instruction", "TEXT", "Put before each text", "query-instruction-for-retrieval", "query-instruction", "passage-instruction-for-retrieval");
        CliOption<string> role = Opt.Choice("--as", "queries: put the model's own query instruction before each text", "passages", ["passages", "queries"]);
        CliOption<string> side = Opt.Choice("--side", "With --task: whether the texts are looked up or looked up in", "key", ["query", "key"]);
        TaskOptionSet tasks = new();
        CliOption<bool> skip = InputOption.SkipInvalid();
        CliOption<string?> stats = RunStatistics.Option();
        EmbedderOptionSet embedder = new();
        Command command = new("embed", "Turn texts into vectors") { input, output, instruction, role, side, skip };
        tasks.AddTo(command);
        embedder.AddTo(command);
        command.Add(stats);
        command.SetAction(parsed =>
        {
            using TextChunks chunks = TextChunks.Open([parsed.GetRequiredValue(input)], parsed.GetValue(skip));
            using EmbeddingSession session = embedder.Load(parsed, terminal);
            TaskInstruction? task = tasks.Read(parsed, terminal, session.Embedder, instruction);
            string? before = (parsed.GetValue(side) == "query" ? task?.Query : task?.Key) ?? parsed.GetValue(instruction) ?? (parsed.GetValue(role) == "queries" ? session.Embedder.QueryInstruction : null);
            if (parsed.GetValue(output) is { } path && path.EndsWith(".npy", StringComparison.OrdinalIgnoreCase)) WriteNumPy(session, chunks, before, path);
            else WriteJson(session, chunks, before, RowWriter.Open(terminal, parsed.GetValue(output)));
            chunks.ReportSkipped(terminal);
            session.Statistics().Report(terminal, "embedded", "texts", parsed.GetValue(stats));
            return ExitCode.Done;
        });
        return command;
    }

    private static void WriteNumPy(EmbeddingSession session, TextChunks chunks, string? instruction, string path)
    {
        using NpyWriter writer = NpyFile.Create(path, session.Embedder.Dimensions);
        session.EmbedAll(chunks, instruction, "embedding", (_, vectors) => writer.WriteRows(vectors));
        writer.Commit();
    }

    private static void WriteJson(EmbeddingSession session, TextChunks chunks, string? instruction, RowWriter target)
    {
        using RowWriter rows = target;
        using EmbeddingJsonWriter writer = new(rows.Stream);
        int dimensions = session.Embedder.Dimensions;
        session.EmbedAll(chunks, instruction, "embedding", (texts, vectors) =>
        {
            for (int i = 0; i < texts.Count; i++) writer.Write(texts[i].Id, vectors.AsSpan(i * dimensions, dimensions));
        });
        rows.Commit();
    }
}
