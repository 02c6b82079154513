using System.Text;

namespace BgeMetal.Kernels.Primitives;

/// <summary>
/// How wgmma is told where an operand lies: bits 0-13 address / 16, 16-29 leading offset / 16, 32-45 stride offset / 16, 62-63 swizzle. Rows of 128 or 64 bytes with
/// their 16-byte chunks swizzled; the stride offset is what lies between groups of eight rows, the leading offset, used only when depth runs across rows, lies between boxes as wide as a
/// row. PTX ISA, "Matrix descriptor format" and "Canonical layouts".
/// </summary>
internal static class WarpGroupDescriptor
{
    /// <summary>Appends text that makes a descriptor in the declared 64-bit register <paramref name="name"/>, with the declared 32-bit register t as room.</summary>
    /// <param name="text">The text.</param>
    /// <param name="name">The register.</param>
    /// <param name="address">The register of the shared address: a multiple of eight rows, plus the offset of a step along a row.</param>
    /// <param name="rowBytes">128 or 64.</param>
    /// <param name="leadingBytes">The leading offset, or 0 where it is not used.</param>
    public static void Append(StringBuilder text, string name, string address, int rowBytes, int leadingBytes)
    {
        long swizzle = rowBytes == 128 ? 1 : 2, groupBytes = 8 * rowBytes, leading = leadingBytes == 0 ? 1 : leadingBytes >> 4;
        text.Append($"\tshr.u32 t, {address}, 4;\n\tand.b32 t, t, 0x3fff;\n\tcvt.u64.u32 {name}, t;\n")
            .Append($"\tor.b64 {name}, {name}, {swizzle << 62 | groupBytes >> 4 << 32 | leading << 16};\n");
    }

    /// <summary>What to add to a descriptor for the next 16 of depth, in units of its address: 32 bytes along a row, or 16 rows.</summary>
    public static int Step(int rowBytes, bool depthContiguous) => (depthContiguous ? 32 : 16 * rowBytes) >> 4;
}
