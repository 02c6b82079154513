using System.CommandLine;
using System.Globalization;
using BgeMetal.Cli.Output;
using BgeMetal.Cli.Parsing;
using BgeMetal.Data;

namespace BgeMetal.Cli.Commands;

/// <summary><c>similarity</c>: the cosine of one text with others, given as arguments or as a file.</summary>
internal static class SimilarityCommand
{
    public static Command Create(Terminal terminal)
    {
        Argument<string[]> texts = new("TEXT") { Arity = ArgumentArity.OneOrMore, Description = "A text and those it is compared with" };
        CliOption<string?> file = Opt.Text("--input", "FILE", "More texts to compare the first one with (.txt, .jsonl, .gz; - is standard input)", "input-file");
        CliOption<string?> instruction = Opt.Text("--instruction", "TEXT", "Put before the first text", "query-instruction-for-retrieval", "query-instruction");
        EmbedderOptionSet embedder = new();
        Command command = new("similarity", "Cosine of a text with others: one number for two texts, else a line for each: the cosine, a tab, the text") { texts };
        embedder.AddTo(command);
        command.Add(file);
        command.Add(instruction);
        command.SetAction(parsed =>
        {
            string[] given = parsed.GetRequiredValue(texts);
            string? path = parsed.GetValue(file);
            if (given.Length < 2 && path is null) throw new UsageException("similarity: a second text (or --input FILE) is missing");
            using TextChunks chunks = path is null ? TextChunks.Of([]) : TextChunks.Open([path], skipInvalid: false);
            using EmbeddingSession session = embedder.Load(parsed, terminal);
            float[] first = session.Embed(Inputs(given[..1]), parsed.GetValue(instruction), null);
            terminal.StreamsResults = true;
            bool bare = given.Length == 2 && path is null;
            if (given.Length > 1) Write(terminal, session, first, Inputs(given[1..]), session.Embed(Inputs(given[1..]), null, null), bare);
            session.EmbedAll(chunks, null, "comparing", (others, vectors) => Write(terminal, session, first, others, vectors, bare: false));
            return ExitCode.Done;
        });
        return command;
    }

    private static TextInput[] Inputs(string[] texts) => [.. texts.Select(text => new TextInput { Text = text, Source = "the command line" })];

    private static void Write(Terminal terminal, EmbeddingSession session, float[] first, IReadOnlyList<TextInput> others, float[] vectors, bool bare)
    {
        int dimensions = session.Embedder.Dimensions;
        for (int i = 0; i < others.Count; i++)
        {
            double cosine = Cosine(first, vectors.AsSpan(i * dimensions, dimensions));
            string number = cosine.ToString("0.000000", CultureInfo.InvariantCulture);
            terminal.Out.WriteLine(bare ? number : $"{number}\t{(others[i].Text ?? others[i].Id ?? "").ReplaceLineEndings(" ")}");
        }
    }

    // Also right without normalisation; a zero vector is similar to nothing.
    private static double Cosine(ReadOnlySpan<float> a, ReadOnlySpan<float> b)
    {
        double dot = 0, aa = 0, bb = 0;
        for (int i = 0; i < a.Length; i++) (dot, aa, bb) = (dot + ((double)a[i] * b[i]), aa + ((double)a[i] * a[i]), bb + ((double)b[i] * b[i]));
        return aa > 0 && bb > 0 ? dot / Math.Sqrt(aa * bb) : 0;
    }
}
