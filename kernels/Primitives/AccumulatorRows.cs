using System.Text;
using ILGPU.Backends.PTX;
using ILGPU.IR.Intrinsics;
using IrValue = ILGPU.IR.Value;

namespace BgeMetal.Kernels.Primitives;

/// <summary>
/// How a warp turns the accumulators of <see cref="WarpGroupMma"/>, two columns here and two there, into rows of which a lane has eight columns: 16 rows x 32 columns
/// at a time pass through a slab of shared memory that only this warp uses. A row is 128 bytes; its 16-byte chunk c lies at
/// c ^ 2 (row % 4) ^ (row % 2), so that neither the pairs that are stored nor the eight columns that are loaded share a bank.
/// </summary>
internal static unsafe class AccumulatorRows
{
    /// <summary>Columns of a slab.</summary>
    public const int Columns = 32;

    /// <summary>Bytes of a slab; its address must be a multiple of 128.</summary>
    public const int SlabBytes = 16 * 128;

    /// <summary>What is added to the slab's address for <see cref="Store"/>.</summary>
    public static int StoreOffset(int lane)
    {
        int row = lane >> 2, pair = lane & 3;
        return row * 128 + (((row & 3) << 5) ^ ((row & 1) << 4) ^ (pair << 3));
    }

    /// <summary>What is added to the slab's address for <see cref="Load"/> of row lane / 4, columns 8 (lane % 4) and on; the row 8 further down lies 1024 bytes behind it.</summary>
    public static int LoadOffset(int lane)
    {
        int row = lane >> 2, part = lane & 3;
        return row * 128 + (((row & 3) << 5) ^ ((row & 1) << 4) ^ (part << 5));
    }

    /// <summary>Stores the columns 32 <paramref name="piece"/> .. 32 piece + 31 of this warp's 16 rows; <paramref name="address"/> includes <see cref="StoreOffset"/>.</summary>
    [IntrinsicImplementation]
    public static void Store<TAcc>(TAcc accumulator, int piece, int address) where TAcc : unmanaged, IAccumulator
    {
        Span<float> sums = Accumulators.Fields(ref accumulator).Slice(16 * piece, 16);
        for (int i = 0; i < 16; i++)
            *(float*)SharedBlock.Pointer((address ^ (i / 4 << 5)) + (i / 2 % 2 * 1024) + (i % 2 * 4), 4) = sums[i];
    }

    /// <summary>Eight columns of a row; <paramref name="address"/> includes <see cref="LoadOffset"/>.</summary>
    [IntrinsicImplementation]
    public static Float8 Load(int address)
    {
        Float8 result = default;
        for (int i = 0; i < 8; i++) (&result.A)[i] = *(float*)SharedBlock.Pointer((address ^ (i / 4 << 4)) + (i % 4 * 4), 4);
        return result;
    }

    private static class Ptx
    {
        public static void Store(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            string[] sums = call.Operands(0);
            string piece = call.Operand(1), address = call.Operand(2), suffix = call.UniqueSuffix;
            StringBuilder text = new("\t.reg .pred p;\n\t.reg .b32 t;\n");
            for (int i = 0; i < sums.Length; i += 16)
            {
                text.Append($"\tsetp.ne.s32 p, {piece}, {i / 16};\n\t@p bra {Skip(i)}{suffix};\n");
                for (int j = 0; j < 16; j += 4)
                    text.Append($"\txor.b32 t, {address}, {j / 4 << 5};\n")
                        .Append($"\tst.shared.v2.f32 [t], {{{sums[i + j]},{sums[i + j + 1]}}};\n")
                        .Append($"\tst.shared.v2.f32 [t+1024], {{{sums[i + j + 2]},{sums[i + j + 3]}}};\n");
                text.Append($"{Skip(i)}{suffix}:\n");
            }
            call.Emit(text);
        }

        public static void Load(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            string address = call.Operand(0);
            string[] r = call.Results();
            call.Emit(new StringBuilder("\t.reg .b32 t;\n")
                .Append($"\txor.b32 t, {address}, 16;\n")
                .Append($"\tld.shared.v4.f32 {{{string.Join(',', r[..4])}}}, [{address}];\n")
                .Append($"\tld.shared.v4.f32 {{{string.Join(',', r[4..])}}}, [t];\n"));
        }

        private static string Skip(int first) => "SKIP" + (char)('A' + first / 16);
    }
}
