using System.CommandLine;
using BgeMetal.Cli.Parsing;

namespace BgeMetal.Tests.Cli;

public sealed class ArgumentReaderTests
{
    private readonly List<string> _warnings = [];
    private readonly CliOption<string> _model = Opt.TextOr("--model", "MODEL", "none", "", "model-name-or-path");
    private readonly CliOption<bool> _fp16 = Opt.Flag("--fp16", "", "use-fp16");
    private readonly CliOption<bool?> _normalize = Opt.MaybeFlag("--normalize", "", "normlized", "normalize-embeddings");
    private readonly CliOption<int> _length = Opt.Int("--max-length", "", 512, 1, 8192, "query-max-len");
    private readonly CliOption<int[]> _cutoffs = Opt.Ints("--k", "", [10], 1, 1000, "k-values");
    private readonly CliOption<string[]> _files = Opt.Texts("--train-data", "FILE", "");
    private readonly CliOption<double> _rate = Opt.Number("--learning-rate", "", 1, -1, 1);
    private readonly Argument<string[]> _texts = new("TEXT") { Arity = ArgumentArity.ZeroOrMore };
    private readonly RootCommand _root = new("");

    public ArgumentReaderTests()
    {
        _root.Add(new Command("run", "") { _model, _fp16, _normalize, _length, _cutoffs, _files, _rate });
        _root.Add(new Command("say", "") { _model, _fp16, _texts });
    }

    [Theory]
    [InlineData("--model x", "x")]
    [InlineData("--model=x", "x")]
    [InlineData("--model_name_or_path x", "x")]
    [InlineData("--model-name-or-path=x=y", "x=y")]
    [InlineData("--model a --model b", "b")]
    [InlineData("--model=--odd", "--odd")]
    [InlineData("--model a:b", "a:b")]
    [InlineData("--model @file", "@file")]
    [InlineData("--model -", "-")]
    [InlineData("--model run", "run")]
    public void A_value_is_read_under_every_spelling(string line, string expected) => Assert.Equal(expected, Parse("run " + line).GetValue(_model));

    [Fact]
    public void An_empty_value_is_a_value()
    {
        Assert.Equal("", Parse(["run", "--model", ""]).GetValue(_model));
        Assert.Equal("", Parse(["run", "--model="]).GetValue(_model));
    }

    [Theory]
    [InlineData("", false)]
    [InlineData("--fp16", true)]
    [InlineData("--fp16 True", true)]
    [InlineData("--fp16 False", false)]
    [InlineData("--fp16=false", false)]
    [InlineData("--use_fp16 --model x", true)]
    [InlineData("--use_fp16 no", false)]
    [InlineData("--fp16 1", true)]
    public void A_switch_has_every_form(string line, bool expected) => Assert.Equal(expected, Parse("run " + line).GetValue(_fp16));

    [Theory]
    [InlineData("", null)]
    [InlineData("--normalize", true)]
    [InlineData("--normlized True", true)]
    [InlineData("--normalize_embeddings=False", false)]
    public void A_switch_may_be_left_open(string line, bool? expected) => Assert.Equal(expected, Parse("run " + line).GetValue(_normalize));

    [Theory]
    [InlineData("--k 1,5,10")]
    [InlineData("--k_values 1 5 10")]
    [InlineData("--k 1 --k 5,10")]
    public void Lists_take_commas_and_words(string line) => Assert.Equal([1, 5, 10], Parse("run " + line).GetValue(_cutoffs)!);

    [Fact]
    public void A_list_of_files_ends_at_the_next_option()
    {
        ParseResult parsed = Parse("run --train_data a b --fp16 --model m");
        Assert.Equal(["a", "b"], parsed.GetValue(_files)!);
        Assert.True(parsed.GetValue(_fp16));
    }

    [Theory]
    [InlineData("--learning_rate -0.5", -0.5)]
    [InlineData("--learning_rate 1e-5", 1e-5)]
    [InlineData("--learning_rate=.5", 0.5)]
    public void Numbers_are_read_as_python_writes_them(string line, double expected) => Assert.Equal(expected, Parse("run " + line).GetValue(_rate));

    [Fact]
    public void Numbers_do_not_depend_on_the_culture()
    {
        System.Globalization.CultureInfo before = System.Globalization.CultureInfo.CurrentCulture;
        try
        {
            System.Globalization.CultureInfo comma = (System.Globalization.CultureInfo)System.Globalization.CultureInfo.InvariantCulture.Clone();
            (comma.NumberFormat.NumberDecimalSeparator, comma.NumberFormat.NumberGroupSeparator) = (",", ".");
            System.Globalization.CultureInfo.CurrentCulture = comma;
            Assert.Equal(0.25, Parse("run --learning_rate 0.25").GetValue(_rate));
            Assert.Equal("1,234", BgeMetal.Cli.Output.Terminal.Count(1234));
            Assert.Equal("1.5", BgeMetal.Cli.Output.Terminal.Count(1.5));
        }
        finally
        {
            System.Globalization.CultureInfo.CurrentCulture = before;
        }
    }

    [Theory]
    [InlineData("--dataloader_num_workers 12 --fp16")]
    [InlineData("--dataloader-num-workers=12 --fp16")]
    [InlineData("--gradient_checkpointing --fp16")]
    [InlineData("--gradient_checkpointing True --fp16")]
    [InlineData("--deepspeed ds_stage0.json --fp16")]
    [InlineData("--fsdp full_shard auto_wrap --fp16")]
    [InlineData("--report_to none --report_to none --fp16")]
    [InlineData("--fp16 --report_to")]
    public void A_known_option_without_meaning_here_is_dropped_with_one_warning(string line)
    {
        ParseResult parsed = Parse("run " + line);
        Assert.True(parsed.GetValue(_fp16));
        Assert.Empty(parsed.Errors);
        string name = line.Split(' ', '=').First(word => word.StartsWith("--", StringComparison.Ordinal) && word != "--fp16");
        Assert.Equal($"{name} has no meaning here and is ignored", Assert.Single(_warnings));
    }

    [Theory]
    [InlineData("run --max-lenght 5", "unknown option '--max-lenght': did you mean '--max-length'?")]
    [InlineData("run --max_lenght=5", "unknown option '--max_lenght': did you mean '--max-length'?")]
    [InlineData("run --query_max_length 5", "did you mean '--query-max-len'?")]
    [InlineData("run --zzzzzzzzzzzz", "unknown option '--zzzzzzzzzzzz': nothing here has a similar name (see bgemetal run --help)")]
    [InlineData("run -m x", "unknown option '-m'")]
    [InlineData("runn", "unknown command 'runn': did you mean 'run'?")]
    [InlineData("run --model", "--model: a value is missing")]
    [InlineData("run --model --fp16", "--model: a value is missing")]
    [InlineData("run --train_data --fp16", "--train_data: a value is missing")]
    [InlineData("run --fp16=maybe", "--fp16: 'maybe' is neither true nor false")]
    [InlineData("run x", "unexpected argument 'x': bgemetal run takes options only")]
    public void Wrong_usage_is_explained(string line, string message) =>
        Assert.Contains(message, Assert.Throws<UsageException>(() => Parse(line)).Message, StringComparison.Ordinal);

    [Theory]
    [InlineData("run --max-length x", "--max-length: 'x' is not a whole number from 1 to 8192")]
    [InlineData("run --max-length 0", "--max-length: '0' is not a whole number from 1 to 8192")]
    [InlineData("run --max-length 99999999999999999999", "is not a whole number from 1 to 8192")]
    [InlineData("run --k 1,,2", "--k: '' is not a whole number")]
    [InlineData("run --learning-rate nan", "--learning-rate: 'nan' is not a number from -1 to 1")]
    [InlineData("run --learning-rate 0,5", "--learning-rate: '0,5' is not a number")]
    public void Wrong_values_are_explained(string line, string message) => Assert.Contains(message, Assert.Single(Parse(line).Errors).Message, StringComparison.Ordinal);

    [Fact]
    public void Texts_may_look_like_anything()
    {
        ParseResult parsed = Parse(["say", "- a bullet", "--model", "m", "-5 degrees", "@x", "[y]", "1", "--", "--fp16", "--"]);
        Assert.Equal(["- a bullet", "-5 degrees", "@x", "[y]", "1", "--fp16", "--"], parsed.GetValue(_texts)!);
        Assert.Equal("m", parsed.GetValue(_model));
        Assert.False(parsed.GetValue(_fp16));
    }

    [Theory]
    [InlineData("", "", 0)]
    [InlineData("abc", "abc", 0)]
    [InlineData("abc", "acb", 1)]
    [InlineData("abc", "ab", 1)]
    [InlineData("kitten", "sitting", 3)]
    public void The_nearest_name_is_found_by_edits_and_swaps(string a, string b, int expected) => Assert.Equal(expected, ArgumentReader.EditDistance(a, b));

    private ParseResult Parse(string line) => Parse(line.Split(' ', StringSplitOptions.RemoveEmptyEntries));

    private ParseResult Parse(string[] arguments) => _root.Parse([.. ArgumentReader.Read(_root, arguments, _warnings.Add)],
        new ParserConfiguration { EnablePosixBundling = false, ResponseFileTokenReplacer = null });
}
