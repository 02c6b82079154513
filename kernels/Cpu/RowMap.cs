using BgeMetal.Kernels.Simd;

namespace BgeMetal.Kernels.Cpu;

/// <summary>Elementwise functions of two matrices over the team.</summary>
internal static unsafe class RowMap
{
    private const int FloatsAPart = 16 << 10;

    /// <summary>z = f(x, y), all [rows, cols]; z may be x or y.</summary>
    /// <exception cref="ArgumentOutOfRangeException">A size is out of range.</exception>
    public static void Run<TFunction>(WorkerTeam team, float* x, int ldx, float* y, int ldy, int rows, int cols, float* z, int ldz)
        where TFunction : struct, ILanePair
    {
        ArgumentNullException.ThrowIfNull(team);
        ArgumentOutOfRangeException.ThrowIfNegative(rows);
        ArgumentOutOfRangeException.ThrowIfLessThan(cols, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(ldx, cols);
        ArgumentOutOfRangeException.ThrowIfLessThan(ldy, cols);
        ArgumentOutOfRangeException.ThrowIfLessThan(ldz, cols);
        MapJob<TFunction> job = new()
        {
            X = x,
            StrideX = ldx,
            Y = y,
            StrideY = ldy,
            Rows = rows,
            Columns = cols,
            Z = z,
            StrideZ = ldz,
            RowsAPart = Math.Max(1, FloatsAPart / cols),
        };
        team.Run(ref job, (rows + job.RowsAPart - 1) / job.RowsAPart);
    }

    /// <summary>One part is a range of rows.</summary>
    private struct MapJob<TFunction> : ITeamJob where TFunction : struct, ILanePair
    {
        public float* X;
        public nint StrideX;
        public float* Y;
        public nint StrideY;
        public int Rows;
        public int Columns;
        public float* Z;
        public nint StrideZ;
        public int RowsAPart;

        public readonly void Execute(int part, int worker)
        {
            int end = Math.Min(Rows, (part + 1) * RowsAPart);
            for (int row = part * RowsAPart; row < end; row++)
                LanePairs.Row<TFunction>(X + (row * StrideX), Y + (row * StrideY), Z + (row * StrideZ), Columns);
        }
    }
}
