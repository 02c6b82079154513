using System.Text.RegularExpressions;
using BgeMetal.Testing;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp;

namespace BgeMetal.Tests.Architecture;

/// <summary>The README tells the truth: its programs compile, its files exist.</summary>
public sealed partial class ReadmeTests
{
    private static string Readme => File.ReadAllText(Path.Combine(SharedFolder.RepositoryRoot, "README.md"));

    [Fact]
    public void Every_program_in_the_readme_compiles_against_the_library()
    {
        string[] programs = [.. Program().Matches(Readme).Select(match => match.Groups[1].Value)];
        Assert.NotEmpty(programs);
        const string Usings = "global using System; global using System.Linq; global using System.Collections.Generic; global using System.Threading.Tasks;";
        MetadataReference[] references = [.. ((string)AppContext.GetData("TRUSTED_PLATFORM_ASSEMBLIES")!).Split(Path.PathSeparator)
            .Select(path => MetadataReference.CreateFromFile(path))];
        foreach (string program in programs)
        {
            CSharpCompilation compilation = CSharpCompilation.Create("snippet",
                [CSharpSyntaxTree.ParseText(Usings), CSharpSyntaxTree.ParseText(program)], references, new CSharpCompilationOptions(OutputKind.ConsoleApplication));
            Assert.Empty(compilation.GetDiagnostics().Where(diagnostic => diagnostic.Severity == DiagnosticSeverity.Error).Select(error => $"{error}\n{program}"));
        }
    }

    [Fact]
    public void Every_file_that_the_readme_names_exists()
    {
        string[] files = [.. FileName().Matches(Readme).Select(match => match.Groups[1].Value)];
        Assert.NotEmpty(files);
        Assert.All(files, file => Assert.True(Path.Exists(Path.Combine(SharedFolder.RepositoryRoot, file)), file));
    }

    [GeneratedRegex(@"```csharp\n(.*?)```", RegexOptions.Singleline)]
    private static partial Regex Program();

    [GeneratedRegex(@"`((?:kernels|src|tests|benchmarks|docs|eng)/[\w./]*)`")]
    private static partial Regex FileName();
}
