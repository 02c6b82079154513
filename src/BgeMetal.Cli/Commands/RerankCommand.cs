using System.CommandLine;
using BgeMetal.Cli.Output;
using BgeMetal.Cli.Parsing;
using BgeMetal.Data;
using BgeMetal.Retrieval;

namespace BgeMetal.Cli.Commands;

/// <summary><c>rerank</c>: a cross-encoder's scores of query and passage pairs.</summary>
internal static class RerankCommand
{
    private const int PairsAtATime = 8192;

    public static Command Create(Terminal terminal)
    {
        CliOption<string> input = InputOption.Input("Rows {\"query\", \"passage\"}, {\"query\", \"passages\": [..]} or {\"input_ids\": [..]}");
        CliOption<string?> output = InputOption.Output("JSON lines {\"id\", \"scores\": [..]}; standard output by default");
        CliOption<int?> maxLength = Opt.MaybeInt("--max-length", "Tokens a pair is cut to, special tokens included; the model's limit, at most 512, by default", 3, 1 << 20,
            "max-len", "max-seq-length", "passage-max-len", "reranker-max-length");
        CliOption<bool> normalize = Opt.Flag("--normalize", "Scores between 0 and 1 (sigmoid) instead of logits");
        CliOption<int?> batchTokens = EmbedderOptionSet.BatchTokens();
        CliOption<bool> skip = InputOption.SkipInvalid();
        CliOption<string?> stats = RunStatistics.Option();
        ModelOption model = new();
        ComputeOptionSet compute = new();
        RerankInstructionOptionSet instructions = new();
        Command command = new("rerank", "Score pairs of query and passage with a cross-encoder");
        model.AddTo(command);
        foreach (Option option in (Option[])[input, output, maxLength, normalize, batchTokens, skip]) command.Add(option);
        instructions.AddTo(command);
        compute.AddTo(command);
        command.Add(stats);
        command.SetAction(parsed =>
        {
            InvalidLines? skipped = parsed.GetValue(skip) ? new InvalidLines() : null;
            using IEnumerator<List<RerankInput>> pieces = Pieces(RerankInputReader.Read(parsed.GetRequiredValue(input), skipped)).GetEnumerator();
            bool more = pieces.MoveNext(), taken = false;
            using RerankSession session = new(terminal, model.Resolve(parsed, terminal), new RerankerOptions
            {
                MaxLength = parsed.GetValue(maxLength),
                BatchTokens = parsed.GetValue(batchTokens),
                Normalize = parsed.GetValue(normalize),
                Compute = compute.Read(parsed, terminal),
            }, instructions.Read(parsed));
            using RowWriter writer = RowWriter.Open(terminal, parsed.GetValue(output));
            using (Progress progress = terminal.Watch("scoring", "pairs", null))
            {
                foreach ((List<RerankInput> rows, float[][] scores) in PiecesAhead.Run(Next, rows => session.Score(rows, progress), session.Reranker.Device.IsGpu ? 2 : 1))
                    Write(writer, rows, scores);
            }
            writer.Commit();
            TextChunks.ReportSkipped(terminal, skipped);
            session.Statistics().Report(terminal, "scored", "pairs", parsed.GetValue(stats));
            return ExitCode.Done;

            List<RerankInput>? Next()
            {
                terminal.Cancellation.ThrowIfCancellationRequested();
                // The first piece is there already, read before the model.
                if (taken) more = pieces.MoveNext();
                taken = true;
                return more ? pieces.Current : null;
            }
        });
        return command;
    }

    private static IEnumerable<List<RerankInput>> Pieces(IEnumerable<RerankInput> rows)
    {
        List<RerankInput> piece = [];
        int pairs = 0;
        foreach (RerankInput row in rows)
        {
            piece.Add(row);
            pairs += Math.Max(1, row.Passages.Count);
            if (pairs < PairsAtATime) continue;
            yield return piece;
            (piece, pairs) = ([], 0);
        }
        if (piece.Count > 0) yield return piece;
    }

    private static void Write(RowWriter writer, List<RerankInput> rows, float[][] scores)
    {
        for (int i = 0; i < rows.Count; i++)
        {
            (RerankInput row, float[] values) = (rows[i], scores[i]);
            if (Array.FindIndex(values, score => !float.IsFinite(score)) is int bad and >= 0)
                throw new BgeMetalException("cannot write the scores", $"score {bad} of the row is {values[bad]}, which JSON cannot say", row.Source, row.Line);
            writer.Write(json =>
            {
                json.WriteString("id"u8, row.Id);
                json.WriteStartArray("scores"u8);
                foreach (float score in values) json.WriteNumberValue(score);
                json.WriteEndArray();
            });
        }
    }
}
