using BgeMetal.Tensors;

namespace BgeMetal.Ops;

/// <summary>The argument checks at the entry of an operation; kernels below trust what passes.</summary>
internal static class Check
{
    /// <summary>Throws with both shapes unless <paramref name="actual"/> is [rows, columns].</summary>
    public static void Shape(string operation, string argument, Tensor actual, int rows, int columns)
    {
        if (actual.Rows != rows || actual.Columns != columns) ThrowShape(operation, argument, actual, rows, columns);
    }

    /// <summary>Throws unless there is at least one row.</summary>
    public static void NotEmpty(string operation, Tensor x)
    {
        if (x.Rows == 0 || x.IsAbsent) throw new ArgumentException($"{operation}: the batch is empty");
    }

    private static void ThrowShape(string operation, string argument, Tensor actual, int rows, int columns) =>
        throw new ArgumentException($"{operation}: {argument} is {actual}, expected [{rows}, {columns}]");
}
