namespace BgeMetal.Kernels.Cpu;

/// <summary>Work that falls into independent parts. Implemented by structs, so that a run allocates nothing.</summary>
public interface ITeamJob
{
    /// <summary>
    /// Does one part. Parts run concurrently and in any order; what a part writes may not depend on <paramref name="worker"/>.
    /// </summary>
    /// <param name="part">0..parts-1.</param>
    /// <param name="worker">0..Threads-1: which of the run's threads this is, for scratch memory of one run.</param>
    void Execute(int part, int worker);
}
