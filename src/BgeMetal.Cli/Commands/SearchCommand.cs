using System.CommandLine;
using System.Globalization;
using System.Text;
using BgeMetal.Cli.Output;
using BgeMetal.Cli.Parsing;
using BgeMetal.Data;
using BgeMetal.Retrieval;
using Spectre.Console;

namespace BgeMetal.Cli.Commands;

/// <summary><c>search</c>: the best passages of an index for queries.</summary>
internal static class SearchCommand
{
    public static Command Create(Terminal terminal)
    {
        CliOption<string> index = Opt.RequiredText("--index", "FILE", "An index made by bgemetal index");
        CliOption<string?> query = Opt.Text("--query", "TEXT", "One query");
        CliOption<string?> queries = Opt.Text("--queries", "FILE", "Queries (.txt, .jsonl, .gz of either; - is standard input)", "input", "input-file");
        CliOption<int> topK = Opt.Int("--top-k", "Hits for each query", 10, 1, 1 << 20, "k", "search-top-k");
        CliOption<string?> model = Opt.Text("--model", "MODEL", "The model's folder or hub id; the one the index was made with by default", "model-name-or-path", "embedder-name-or-path", "encoder");
        CliOption<string> revision = ModelOption.Revision();
        CliOption<string?> cache = ModelOption.CacheDirectory();
        CliOption<string?> instruction = Opt.Text("--instruction", "TEXT", "Put before each query; the index's own by default, \"\" for none", "query-instruction-for-retrieval", "query-instruction");
        CliOption<string?> output = InputOption.Output("JSON lines {\"id\", \"query\", \"hits\": [{\"id\", \"score\", \"text\"}]}; standard output by default, as a list for reading on a terminal");
        CliOption<string> format = Opt.Choice("--format", "prompt: the passages as a block of text to put before a question to a language model; hits otherwise", "hits", ["hits", "prompt"]);
        TaskOptionSet tasks = new();
        CliOption<bool> skip = InputOption.SkipInvalid();
        CliOption<string?> stats = RunStatistics.Option();
        EmbedderOptionSet embedder = new();
        Command command = new("search", "Find the best passages of an index") { index, query, queries, topK, instruction, output, format, model, revision, cache, skip };
        tasks.AddTo(command);
        embedder.AddTo(command, model: false);
        command.Add(stats);
        command.SetAction(parsed =>
        {
            if (parsed.GetValue(query) is null == parsed.GetValue(queries) is null)
                throw parsed.GetValue(query) is null ? new UsageException("search: --query TEXT or --queries FILE is missing") : InputOption.Contradiction(query, queries);
            using FlatIndex vectors = FlatIndex.Open(parsed.GetRequiredValue(index), embedder.Compute(parsed, terminal).Threads);
            string name = parsed.GetValue(model) ?? (vectors.Model.Length > 0 ? vectors.Model
                : throw new BgeMetalException("cannot search", "the index does not say which model it was made with; give --model", parsed.GetRequiredValue(index)));
            using TextChunks chunks = parsed.GetValue(query) is { } text ? TextChunks.Of([new TextInput { Text = text, Source = "--query" }])
                : TextChunks.Open([parsed.GetValue(queries)!], parsed.GetValue(skip));
            using EmbeddingSession session = embedder.Load(parsed, terminal, ModelOption.Resolve(name, parsed.GetValue(revision)!, parsed.GetValue(cache), terminal));
            if (session.Embedder.Dimensions != vectors.Dimension)
                throw new BgeMetalException("cannot search", $"the model's vectors have {session.Embedder.Dimensions} components, the index's {vectors.Dimension}", parsed.GetRequiredValue(index));
            session.Search(vectors, parsed.GetValue(topK));
            TaskInstruction? task = parsed.GetValue(instruction) is null && vectors.QueryInstruction.Length > 0 && !tasks.IsGiven(parsed) ? null
                : tasks.Read(parsed, terminal, session.Embedder, instruction);
            using IHitWriter writer = parsed.GetValue(format) == "prompt" ? new PromptHits(RowWriter.Open(terminal, parsed.GetValue(output)))
                : parsed.GetValue(output) is null && terminal.ResultsAreSeen ? new ReadableHits(terminal) : new JsonHits(RowWriter.Open(terminal, parsed.GetValue(output)));
            terminal.StreamsResults = parsed.GetValue(output) is null;
            session.EmbedAll(chunks, task?.Query ?? parsed.GetValue(instruction) ?? vectors.QueryInstruction, "searching", (texts, embedded) =>
            {
                SearchHit[][] hits = vectors.SearchBatch(embedded, parsed.GetValue(topK), terminal.Cancellation);
                for (int i = 0; i < texts.Count; i++) writer.Write(texts[i], hits[i]);
            });
            writer.Commit();
            chunks.ReportSkipped(terminal);
            session.Statistics().Report(terminal, "embedded", "texts", parsed.GetValue(stats));
            return ExitCode.Done;
        });
        return command;
    }

    /// <summary>A form of the hits.</summary>
    private interface IHitWriter : IDisposable
    {
        void Write(TextInput query, SearchHit[] hits);

        void Commit();
    }

    private sealed class JsonHits(RowWriter rows) : IHitWriter
    {
        public void Write(TextInput query, SearchHit[] hits) => rows.Write(json =>
        {
            json.WriteString("id"u8, query.Id);
            json.WriteString("query"u8, query.Text);
            json.WriteStartArray("hits"u8);
            foreach (SearchHit hit in hits)
            {
                json.WriteStartObject();
                json.WriteString("id"u8, hit.Id);
                json.WriteNumber("score"u8, hit.Score);
                json.WriteString("text"u8, hit.Text);
                json.WriteEndObject();
            }
            json.WriteEndArray();
        });

        public void Commit() => rows.Commit();

        public void Dispose() => rows.Dispose();
    }

    /// <summary>One block of text a query: numbered passages, the best first, then the question; blocks are separated by a line of dashes.</summary>
    private sealed class PromptHits(RowWriter rows) : IHitWriter
    {
        private bool _started;

        public void Write(TextInput query, SearchHit[] hits)
        {
            StringBuilder block = new(_started ? "---\n" : "");
            _started = true;
            block.Append("Answer the question with the help of these passages.\n\n");
            for (int i = 0; i < hits.Length; i++) block.Append(CultureInfo.InvariantCulture, $"[{i + 1}] {hits[i].Text.Trim()}\n\n");
            block.Append(CultureInfo.InvariantCulture, $"Question: {query.Text}\nAnswer:\n");
            rows.Stream.Write(Encoding.UTF8.GetBytes(block.ToString()));
        }

        public void Commit() => rows.Commit();

        public void Dispose() => rows.Dispose();
    }

    private sealed class ReadableHits(Terminal terminal) : IHitWriter
    {
        private const int ShownCharacters = 300;
        private readonly IAnsiConsole _canvas = terminal.Canvas(results: true);

        public void Write(TextInput query, SearchHit[] hits)
        {
            _canvas.MarkupLineInterpolated($"[bold]{query.Text ?? query.Id ?? "(tokens)"}[/]");
            for (int i = 0; i < hits.Length; i++)
            {
                string text = hits[i].Text.ReplaceLineEndings(" ");
                if (text.Length > ShownCharacters) text = text[..ShownCharacters] + "...";
                _canvas.MarkupLineInterpolated(CultureInfo.InvariantCulture, $"{i + 1,3}. [green]{hits[i].Score:0.0000}[/] [grey]{hits[i].Id}[/] {text}");
            }
            terminal.Out.Flush();
        }

        public void Commit() => terminal.FlushResults();

        public void Dispose()
        {
        }
    }
}
