using System.CommandLine;
using BgeMetal.Cli.Output;
using BgeMetal.Cli.Parsing;
using BgeMetal.Data;
using BgeMetal.Text;

namespace BgeMetal.Cli.Commands;

/// <summary><c>tokenize</c>: texts and pairs to token ids, with each row's own settings.</summary>
internal static class TokenizeCommand
{
    public static Command Create(Terminal terminal)
    {
        CliOption<string> input = InputOption.Input("Texts, or rows {\"id\", \"text\", \"pair\", \"add_special_tokens\", \"max_length\", \"truncation\"}");
        CliOption<string?> output = InputOption.Output("JSON lines {\"id\", \"input_ids\", \"token_type_ids\"}; standard output by default");
        CliOption<int?> maxLength = Opt.MaybeInt("--max-length", "Tokens a row without its own limit is cut to; no limit by default", 1, int.MaxValue, "max-len", "max-seq-length");
        CliOption<bool> tokens = Opt.Flag("--tokens", "Also write the tokens as strings");
        CliOption<bool> skip = InputOption.SkipInvalid();
        ModelOption model = new();
        Command command = new("tokenize", "Turn texts into token ids");
        model.AddTo(command);
        foreach (Option option in (Option[])[input, output, maxLength, tokens, skip]) command.Add(option);
        command.SetAction(parsed =>
        {
            InvalidLines? skipped = parsed.GetValue(skip) ? new InvalidLines() : null;
            ModelTokenizer tokenizer = ModelTokenizer.Load(model.Resolve(parsed, terminal));
            using RowWriter writer = RowWriter.Open(terminal, parsed.GetValue(output));
            using (Progress progress = terminal.Watch("tokenizing", "texts", null))
            {
                foreach (TokenizeInput row in TokenizeInputReader.Read(parsed.GetRequiredValue(input), skipped))
                {
                    terminal.Cancellation.ThrowIfCancellationRequested();
                    Write(writer, row, Encode(tokenizer, row, parsed.GetValue(maxLength), parsed.GetValue(tokens)));
                    progress.Report(1);
                }
            }
            writer.Commit();
            TextChunks.ReportSkipped(terminal, skipped);
            return ExitCode.Done;
        });
        return command;
    }

    private static TokenizedText Encode(ModelTokenizer tokenizer, TokenizeInput row, int? maxLength, bool tokens)
    {
        TruncationStrategy truncation = row.Truncation switch
        {
            "only_first" => TruncationStrategy.OnlyFirst,
            "only_second" => TruncationStrategy.OnlySecond,
            "do_not_truncate" => TruncationStrategy.None,
            _ => TruncationStrategy.LongestFirst,
        };
        try
        {
            return tokens ? tokenizer.EncodeWithOffsets(row.Text, row.Pair, row.AddSpecialTokens, row.MaxLength ?? maxLength, truncation)
                : tokenizer.Encode(row.Text, row.Pair, row.AddSpecialTokens, row.MaxLength ?? maxLength, truncation);
        }
        catch (BgeMetalException e) when (e.File is null)
        {
            throw new BgeMetalException("cannot tokenize", e.Message, row.Source, row.Line, e);
        }
    }

    private static void Write(RowWriter writer, TokenizeInput row, TokenizedText encoded) => writer.Write(json =>
    {
        json.WriteString("id"u8, row.Id);
        json.WriteStartArray("input_ids"u8);
        foreach (int id in encoded.InputIds) json.WriteNumberValue(id);
        json.WriteEndArray();
        json.WriteStartArray("token_type_ids"u8);
        foreach (int type in encoded.TokenTypeIds) json.WriteNumberValue(type);
        json.WriteEndArray();
        if (encoded.Tokens is null) return;
        json.WriteStartArray("tokens"u8);
        foreach (string token in encoded.Tokens) json.WriteStringValue(token);
        json.WriteEndArray();
    });
}
