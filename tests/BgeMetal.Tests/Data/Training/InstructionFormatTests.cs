using BgeMetal.Data.Training;

namespace BgeMetal.Tests.Data.Training;

public sealed class InstructionFormatTests
{
    [Theory]
    [InlineData("{}{}", "IT")]
    [InlineData("Instruct: {}\\nQuery: {}", "Instruct: I\nQuery: T")]
    [InlineData("{1} <- {0}{1}!", "T <- IT!")]
    [InlineData("{{{}}} }}{}", "{I} }T")]
    public void Python_formats_are_applied(string format, string expected) => Assert.Equal(expected, InstructionFormat.Parse(format).Apply("I", "T"));

    [Theory]
    [InlineData("{}{}", "I")]
    [InlineData("Instruct: {}\\nQuery: {}", "Instruct: I\nQuery: ")]
    [InlineData("{1}", "")]
    public void What_stands_before_a_text_can_be_said_without_it(string format, string expected) => Assert.Equal(expected, InstructionFormat.Parse(format).Before("I"));

    [Theory]
    [InlineData("{}{}.")]
    [InlineData("{1}{0}")]
    [InlineData("{1}{0}{1}")]
    public void A_format_with_something_behind_the_text_has_no_such_beginning(string format) =>
        Assert.Contains("the text was expected at its end", Assert.Throws<BgeMetalException>(() => InstructionFormat.Parse(format).Before("I")).Message, StringComparison.Ordinal);

    [Fact]
    public void Braces_in_texts_are_left_alone() => Assert.Equal("{0}{}{1}", InstructionFormat.Parse("{}{}").Apply("{0}", "{}{1}"));

    [Theory]
    [InlineData("{}", "the text has no place")]
    [InlineData("no braces", "the text has no place")]
    [InlineData("{}{}{}", "{} names neither")]
    [InlineData("{0}{}", "{} names neither")]
    [InlineData("{}{1}", "{1} names neither")]
    [InlineData("{2}{1}", "{2} names neither")]
    [InlineData("{query}{1}", "{query} names neither")]
    [InlineData("{}{", "a { is not closed")]
    [InlineData("{}{}}", "a } closes nothing")]
    public void Formats_that_lose_the_text_are_refused(string format, string reason) =>
        Assert.Contains(reason, Assert.Throws<BgeMetalException>(() => InstructionFormat.Parse(format)).Message, StringComparison.Ordinal);
}
