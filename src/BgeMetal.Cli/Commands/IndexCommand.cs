using System.CommandLine;
using BgeMetal.Cli.Output;
using BgeMetal.Cli.Parsing;
using BgeMetal.Retrieval;

namespace BgeMetal.Cli.Commands;

/// <summary><c>index</c>: embeds a corpus into an exact index file of vectors and texts.</summary>
internal static class IndexCommand
{
    public static Command Create(Terminal terminal)
    {
        CliOption<string[]> corpus = Opt.Texts("--corpus", "FILE", "Passages: .txt, .jsonl with \"text\" (and \"id\", or \"_id\" and \"title\"), .gz of either; - is standard input",
            "input", "candidate-pool", "passages");
        corpus.Required = true;
        CliOption<string> output = Opt.RequiredText("--output", "FILE", "The index to make", "output-file", "index");
        CliOption<string?> instruction = Opt.Text("--instruction", "TEXT", "Put before each passage", "passage-instruction-for-retrieval", "passage-instruction");
        CliOption<string?> queryInstruction = Opt.Text("--query-instruction", "TEXT", "Kept in the index and put before queries; the model's own by default", "query-instruction-for-retrieval");
        TaskOptionSet tasks = new();
        CliOption<bool> skip = InputOption.SkipInvalid();
        CliOption<string?> stats = RunStatistics.Option();
        EmbedderOptionSet embedder = new();
        Command command = new("index", "Embed a corpus into an exact index for search") { corpus, output, instruction, queryInstruction, skip };
        tasks.AddTo(command);
        embedder.AddTo(command);
        command.Add(stats);
        command.SetAction(parsed =>
        {
            using TextChunks chunks = TextChunks.Open(parsed.GetRequiredValue(corpus), parsed.GetValue(skip));
            using EmbeddingSession session = embedder.Load(parsed, terminal);
            string model = embedder.ModelName(parsed) is { } name && Directory.Exists(name) ? Path.GetFullPath(name) : embedder.ModelName(parsed);
            TaskInstruction? task = tasks.Read(parsed, terminal, session.Embedder, instruction);
            int dimensions = session.Embedder.Dimensions;
            using FlatIndexWriter writer = FlatIndex.Create(parsed.GetRequiredValue(output), dimensions, model,
                parsed.GetValue(queryInstruction) ?? task?.Query ?? session.Embedder.QueryInstruction);
            session.EmbedAll(chunks, task?.Key ?? parsed.GetValue(instruction), "indexing", (texts, vectors) =>
            {
                for (int i = 0; i < texts.Count; i++) writer.Add(texts[i].Id, texts[i].Text, vectors.AsSpan(i * dimensions, dimensions));
            });
            writer.Commit();
            chunks.ReportSkipped(terminal);
            session.Statistics().Report(terminal, "indexed", "passages", parsed.GetValue(stats));
            return ExitCode.Done;
        });
        return command;
    }
}
