using System.Text.RegularExpressions;
using BgeMetal.Testing;

namespace BgeMetal.Tests.Architecture;

/// <summary>Who may know whom (docs/ARCHITECTURE.md): every source file is read for the rooms it names.</summary>
public sealed partial class RoomTests
{
    /// <summary>Each room with the rooms it may use besides itself. A folder that is not listed here fails the test.</summary>
    private static readonly Dictionary<string, string[]> Allowed = new(StringComparer.Ordinal)
    {
        ["Kernels.Simd"] = [],
        ["Kernels.Cpu"] = ["Kernels.Simd"],
        ["Kernels.Runtime"] = ["Kernels.Primitives"],
        ["Kernels.Primitives"] = ["Kernels.Runtime"],
        ["Kernels.Cuda"] = ["Kernels.Primitives", "Kernels.Runtime"],
        ["Kernels.Reports"] = ["Kernels.Runtime"],
        // What is timed is called here on both backends, so this room sees both.
        ["Kernels.Bench"] = ["Kernels.Cpu", "Kernels.Cuda", "Kernels.Primitives", "Kernels.Runtime", "Kernels.Simd"],
        ["Files"] = [],
        ["Reports"] = ["Files", "Kernels.Bench"],
        ["Hub"] = ["Files"],
        ["Tensors"] = ["Kernels.Cpu", "Kernels.Runtime"],
        ["Autograd"] = ["Tensors"],
        ["Ops"] = ["Autograd", "Tensors", "Kernels.Cpu", "Kernels.Cuda", "Kernels.Primitives", "Kernels.Runtime"],
        ["Nn"] = ["Ops", "Autograd", "Tensors", "Kernels.Cpu"],
        ["Checkpoints"] = ["Tensors", "Files"],
        ["Text"] = ["Files"],
        ["Data"] = ["Tensors", "Text", "Files"],
        ["Retrieval"] = ["Checkpoints", "Data", "Text", "Nn", "Ops", "Autograd", "Tensors", "Files", "Kernels.Cpu"],
        ["Training"] = ["Retrieval", "Checkpoints", "Data", "Text", "Nn", "Ops", "Autograd", "Tensors", "Files"],
    };

    [Fact]
    public void Every_room_knows_only_the_rooms_below_it()
    {
        List<string> offences = [];
        foreach ((string room, string file) in SourceFiles())
        {
            if (!Allowed.TryGetValue(room, out string[]? below))
            {
                offences.Add($"{file}: room {room} is not in the table");
                continue;
            }
            foreach (Match match in RoomName().Matches(File.ReadAllText(file)))
            {
                string other = match.Groups[1].Value;
                if (other != room && Allowed.ContainsKey(other) && !below.Contains(other)) offences.Add($"{Path.GetFileName(file)}: {room} uses {other}");
            }
        }
        Assert.Empty(offences);
    }

    [Fact]
    public void Source_files_stay_small()
    {
        IEnumerable<string> long_ = SourceFiles()
            .Where(source => File.ReadLines(source.File).Count() > (source.Room.StartsWith("Kernels.", StringComparison.Ordinal) ? 500 : 300))
            .Select(source => source.File);
        Assert.Empty(long_);
    }

    [Fact]
    public void The_command_line_sees_no_internals()
    {
        string project = File.ReadAllText(Path.Combine(SharedFolder.RepositoryRoot, "src", "BgeMetal", "BgeMetal.csproj"));
        Assert.DoesNotContain("InternalsVisibleTo Include=\"bgemetal\"", project, StringComparison.OrdinalIgnoreCase);
        Assert.DoesNotContain("InternalsVisibleTo Include=\"BgeMetal.Cli\"", project, StringComparison.OrdinalIgnoreCase);
    }

    private static IEnumerable<(string Room, string File)> SourceFiles()
    {
        string root = SharedFolder.RepositoryRoot;
        return Rooms(Path.Combine(root, "kernels"), "Kernels.").Concat(Rooms(Path.Combine(root, "src", "BgeMetal"), ""));
    }

    private static IEnumerable<(string Room, string File)> Rooms(string folder, string prefix) =>
        from room in Directory.GetDirectories(folder)
        let name = Path.GetFileName(room)
        where name is not ("bin" or "obj")
        from file in Directory.GetFiles(room, "*.cs", SearchOption.AllDirectories)
        select (prefix + name, file);

    [GeneratedRegex(@"(?<![\w.])(?:BgeMetal\.(?=[A-Z])|(?=Kernels\.))((?:Kernels\.)?[A-Z]\w+)(?=[.;])")]
    private static partial Regex RoomName();
}
