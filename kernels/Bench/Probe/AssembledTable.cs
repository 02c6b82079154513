using System.Globalization;

namespace BgeMetal.Kernels.Bench;

/// <summary>Registers by kernel and architecture from a table as the tests keep it: kernel, architecture, threads, registers, ..; lines that begin with # are notes.</summary>
public sealed class AssembledTable
{
    private readonly Dictionary<(string Kernel, string Architecture), int> _registers = [];

    /// <summary>An empty table.</summary>
    public AssembledTable()
    {
    }

    /// <summary>Reads a table.</summary>
    /// <exception cref="FormatException">A line is not as expected; the message has its number.</exception>
    public AssembledTable(IEnumerable<string> lines)
    {
        ArgumentNullException.ThrowIfNull(lines);
        foreach ((int index, string line) in lines.Index())
        {
            if (line.Length == 0 || line[0] == '#' || line.StartsWith("kernel,", StringComparison.Ordinal)) continue;
            string[] cells = line.Split(',');
            if (cells.Length < 4 || !int.TryParse(cells[3], NumberStyles.None, CultureInfo.InvariantCulture, out int registers))
                throw new FormatException($"line {index + 1}: '{line}' is not kernel,architecture,threads,registers,..");
            _registers[(cells[0], cells[1])] = registers;
        }
    }

    /// <summary>The registers of a thread, or null.</summary>
    public int? Registers(string kernel, string architecture) => _registers.TryGetValue((kernel, architecture), out int value) ? value : null;
}
