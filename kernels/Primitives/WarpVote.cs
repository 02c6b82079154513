using System.Numerics;
using ILGPU.Backends.PTX;
using ILGPU.IR.Intrinsics;
using IrValue = ILGPU.IR.Value;

namespace BgeMetal.Kernels.Primitives;

/// <summary>Questions that the 32 lanes of a warp answer together.</summary>
internal static class WarpVote
{
    /// <summary>A word whose bit l is set when lane l's <paramref name="predicate"/> is not 0. All lanes must call.</summary>
    [IntrinsicImplementation]
    public static int Ballot(int predicate)
    {
        ReadOnlySpan<long> mail = EmulatedWarp.Current.Exchange(predicate);
        int votes = 0;
        for (int i = 0; i < 32; i++) votes |= (mail[i] != 0 ? 1 : 0) << i;
        return votes;
    }

    /// <summary>The number of bits that are set.</summary>
    [IntrinsicImplementation]
    public static int CountBits(int word) => BitOperations.PopCount((uint)word);

    private static class Ptx
    {
        public static void Ballot(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            string predicate = call.Operand(0);
            call.Emit($"\t{{ .reg .pred p; setp.ne.s32 p, {predicate}, 0; vote.sync.ballot.b32 {call.Result()}, p, 0xffffffff; }}");
        }

        public static void CountBits(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            string word = call.Operand(0);
            call.Emit($"\tpopc.b32 {call.Result()}, {word};");
        }
    }
}
