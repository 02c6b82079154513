using System.Numerics.Tensors;
using BgeMetal.Tensors;

namespace BgeMetal.Benchmarks.Search;

/// <summary>Random unit vectors; each is a function of the seed and its number alone, so that nobody has to keep them all.</summary>
internal sealed class SyntheticVectors(int dimensions, long seed)
{
    /// <summary>Components of a vector.</summary>
    public int Dimensions => dimensions;

    /// <summary>Writes vector <paramref name="number"/>.</summary>
    public void Fill(long number, Span<float> vector)
    {
        CounterRandom random = new(seed, number);
        for (int i = 0; i < dimensions; i++)
            vector[i] = (float)((2 * random.Uniform()) - 1);
        TensorPrimitives.Divide(vector, TensorPrimitives.Norm(vector), vector);
    }

    /// <summary>Vectors <paramref name="first"/> .. <paramref name="first"/> + <paramref name="count"/> - 1, row-major.</summary>
    public float[] Rows(long first, int count)
    {
        float[] rows = GC.AllocateUninitializedArray<float>(checked(count * dimensions));
        Parallel.For(0, count, i => Fill(first + i, rows.AsSpan(i * dimensions, dimensions)));
        return rows;
    }
}
