using System.CommandLine;
using BgeMetal.Checkpoints;
using BgeMetal.Cli.Output;
using BgeMetal.Cli.Parsing;
using BgeMetal.Data;
using BgeMetal.Text;
using BgeMetal.Training;

namespace BgeMetal.Cli.Commands;

/// <summary><c>init</c>: a fresh model, its WordPiece vocabulary learnt from a corpus and its weights random.</summary>
internal static class InitCommand
{
    public static Command Create(Terminal terminal)
    {
        CliOption<string[]> corpus = Opt.Texts("--corpus", "FILE", "Texts to learn the vocabulary from (.txt, .jsonl, .gz of either; - is standard input)", "train-data", "input");
        corpus.Required = true;
        CliOption<string> output = Opt.RequiredText("--output", "DIR", "The model's folder", "output-dir");
        CliOption<int> vocabulary = Opt.Int("--vocab-size", "Most entries of the vocabulary", 30522, 6, 10_000_000);
        CliOption<int> layers = Opt.Int("--layers", "Transformer layers", 4, 1, 200, "num-hidden-layers");
        CliOption<int> hidden = Opt.Int("--hidden-size", "Width of a token's vector", 256, 8, 16_384);
        CliOption<int> heads = Opt.Int("--heads", "Attention heads", 4, 1, 1024, "num-attention-heads");
        CliOption<int> intermediate = Opt.Int("--intermediate-size", "Width of the feed-forward block; 0 for four times the hidden size", 0, 0, 65_536);
        CliOption<int> positions = Opt.Int("--max-positions", "Most tokens of a text", 512, 3, 1 << 20, "max-position-embeddings");
        CliOption<string> pooling = Opt.Choice("--pooling", "How token vectors become one", "mean", ["mean", "cls"], "sentence-pooling-method", "pooling-method");
        CliOption<string> initialization = Opt.Choice("--initialization", "How weights are drawn: as BERT's, or so that tokens attend to equal tokens (for rerankers and CLS vectors)", "bert",
            ["bert", "mimetic"]);
        CliOption<int> frequency = Opt.Int("--min-frequency", "Characters and pairs seen less often get no entry", 2, 1, int.MaxValue);
        CliOption<bool?> lowercase = Opt.MaybeFlag("--lowercase", "Lower-case texts and strip accents (the default)", "do-lower-case");
        CliOption<int> seed = Opt.Int("--seed", "Seed of the weights", 42, 0, int.MaxValue);
        CliOption<bool> overwrite = OutputFolder.Overwrite();
        CliOption<bool> skip = InputOption.SkipInvalid();
        Command command = new("init", "Make a fresh model: a vocabulary learnt from a corpus, random weights")
        {
            corpus, output, vocabulary, layers, hidden, heads, intermediate, positions, pooling, initialization, frequency, lowercase, seed, overwrite, skip,
        };
        command.SetAction(parsed =>
        {
            string directory = parsed.GetRequiredValue(output);
            OutputFolder.Check(directory, parsed.GetValue(overwrite));
            FreshModelOptions options = new()
            {
                Layers = parsed.GetValue(layers),
                HiddenSize = parsed.GetValue(hidden),
                Heads = parsed.GetValue(heads),
                IntermediateSize = parsed.GetValue(intermediate),
                MaxPositions = parsed.GetValue(positions),
                Pooling = parsed.GetValue(pooling) == "cls" ? PoolingMode.Cls : PoolingMode.Mean,
                Initialization = parsed.GetValue(initialization) == "mimetic" ? Initialization.Mimetic : Initialization.Bert,
                Seed = parsed.GetValue(seed),
            };
            WordPieceTrainer trainer = new(new WordPieceTrainerOptions
            {
                VocabularySize = parsed.GetValue(vocabulary),
                MinFrequency = parsed.GetValue(frequency),
                Lowercase = parsed.GetValue(lowercase) ?? true,
                ModelMaxLength = options.MaxPositions,
            });
            CountWords(terminal, trainer, parsed.GetRequiredValue(corpus), parsed.GetValue(skip));
            ModelConfig config = Write(terminal, trainer, directory, options, parsed.GetValue(overwrite));
            ModelInfo info = ModelInfo.Load(directory);
            terminal.Say($"made {directory}: {Terminal.Count(config.VocabSize)} vocabulary entries, {Terminal.Count(info.EncoderParameters)} parameters");
            return ExitCode.Done;
        });
        return command;
    }

    private static void CountWords(Terminal terminal, WordPieceTrainer trainer, string[] corpus, bool skipInvalid)
    {
        using TextChunks chunks = TextChunks.Open(corpus, skipInvalid);
        using Progress progress = terminal.Watch("reading", "texts", chunks.Total);
        while (chunks.Next() is { } texts)
        {
            terminal.Cancellation.ThrowIfCancellationRequested();
            foreach (TextInput text in texts)
                trainer.Add(text.Text ?? throw new BgeMetalException("cannot learn a vocabulary", "a text was expected, found token ids", text.Source, text.Line));
            progress.Report(texts.Count);
        }
        chunks.ReportSkipped(terminal);
        if (trainer.WordCount == 0) throw new BgeMetalException("cannot learn a vocabulary", "the corpus has no words", corpus[0]);
    }

    private static ModelConfig Write(Terminal terminal, WordPieceTrainer trainer, string directory, FreshModelOptions options, bool overwrite)
    {
        string temporary = Directory.CreateTempSubdirectory("bgemetal-").FullName;
        try
        {
            terminal.Say($"learning a vocabulary from {Terminal.Count(trainer.WordCount)} different words");
            trainer.Save(temporary, trainer.Train());
            terminal.Cancellation.ThrowIfCancellationRequested();
            return ModelInitializer.Create(directory, ModelTokenizer.Load(temporary), options, overwrite);
        }
        finally
        {
            Directory.Delete(temporary, recursive: true);
        }
    }
}
