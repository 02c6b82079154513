using System.Buffers.Binary;

namespace BgeMetal.Kernels.Tests.Cuda;

/// <summary>What the lanes of an interpreted warp do together: shuffles, votes, matrix loads and products.</summary>
internal static class PtxWarp
{
    /// <summary>Whether the lanes execute the instruction: all of them or none.</summary>
    /// <exception cref="InvalidOperationException">Some do, or the instruction names not all of them.</exception>
    public static bool IsWhole(PtxInstruction instruction, Span<PtxThread> lanes)
    {
        PtxOperand[] o = instruction.Operands;
        PtxOperand? mask = instruction.Flow switch { PtxFlow.Shuffle => o[4], PtxFlow.Vote => o[2], PtxFlow.WarpSync => o[0], _ => null };
        int passing = 0;
        foreach (PtxThread lane in lanes)
        {
            if (lane.Passes(instruction)) passing++;
            if (mask is not null && (uint)lane.Read(mask) != uint.MaxValue) throw new InvalidOperationException($"'{instruction.Text}' names not all lanes");
        }
        return passing == 0 || passing == 32 ? passing == 32 : throw new InvalidOperationException($"a warp is not whole at '{instruction.Text}'");
    }

    /// <summary>Executes an instruction of all lanes.</summary>
    public static void Execute(PtxInstruction instruction, Span<PtxThread> lanes)
    {
        PtxOperand[] o = instruction.Operands;
        switch (instruction.Flow)
        {
            case PtxFlow.Shuffle:
                (ulong Value, byte Undefined)[] values = new (ulong, byte)[32];
                for (int i = 0; i < 32; i++) values[i] = (lanes[i].Read(o[1]), lanes[i].Undefined(o[1]));
                for (int i = 0; i < 32; i++)
                {
                    (ulong value, byte undefined) = values[ShuffleSource(i, instruction.Operation[2], (int)o[2].Immediate, (int)o[3].Immediate)];
                    lanes[i].Set(o[0], value, undefined);
                }
                break;
            case PtxFlow.Vote:
                ulong votes = 0;
                byte unknown = 0;
                for (int i = 0; i < 32; i++)
                {
                    votes |= (lanes[i].Read(o[1]) & 1) << i;
                    unknown |= lanes[i].Undefined(o[1]);
                }
                for (int i = 0; i < 32; i++) lanes[i].Set(o[0], votes, unknown);
                break;
            case PtxFlow.WarpSync:
                lanes[0].Block.Checks?.Meet(lanes[0].Index, 32);
                break;
            case PtxFlow.WarpGroup:
                lanes[0].Block.TensorCores[lanes[0].Index / 32].Execute(instruction, lanes);
                break;
            case PtxFlow.LoadMatrix:
                LoadMatrices(o, instruction.Operation.Contains("trans"), lanes);
                break;
            default:
                Multiply(o, instruction.Operation.Contains("bf16"), lanes);
                break;
        }
    }

    // The third operand says in its second byte which bits of the lane stay as they are.
    private static int ShuffleSource(int lane, string mode, int operand, int clamp)
    {
        int kept = clamp >> 8 & 31;
        return mode switch
        {
            "bfly" => lane ^ operand,
            "idx" => (lane & kept) | (operand & ~kept),
            _ => throw new NotSupportedException(mode),
        };
    }

    // Lane 8 q + r supplies row r of matrix q; lane l receives row l / 4, columns 2 (l % 4) and the next, or the transpose's.
    private static void LoadMatrices(PtxOperand[] o, bool transposed, Span<PtxThread> lanes)
    {
        for (int q = 0; q < 4; q++)
        {
            ushort[,] matrix = new ushort[8, 8];
            ulong[] undefined = new ulong[8];
            for (int r = 0; r < 8; r++)
            {
                PtxThread lane = lanes[(8 * q) + r];
                undefined[r] = lane.Block.Checks?.MatrixRead(lane, (int)lane.Place(o[1])) ?? 0;
                for (int c = 0; c < 8; c++)
                    matrix[r, c] = BinaryPrimitives.ReadUInt16LittleEndian(lane.SharedBytes(o[1], 16)[(2 * c)..]);
            }
            for (int l = 0; l < 32; l++)
            {
                int row = l / 4, column = 2 * (l % 4);
                uint low = transposed ? matrix[column, row] : matrix[row, column], high = transposed ? matrix[column + 1, row] : matrix[row, column + 1];
                ulong mask = transposed ? (undefined[column] >> row & 1) | ((undefined[column + 1] >> row & 1) << 1) : undefined[row] >> column & 3;
                lanes[l].Set(o[0].Vector![q], low | (high << 16), (byte)mask);
            }
        }
    }

    // The fragments of mma.m16n8k16 as the PTX manual lays them out.
    private static void Multiply(PtxOperand[] o, bool bf16, Span<PtxThread> lanes)
    {
        float[,] a = new float[16, 16], b = new float[16, 8];
        Span<bool> rows = stackalloc bool[16], columns = stackalloc bool[8];
        for (int l = 0; l < 32; l++)
        {
            int group = l / 4, pair = 2 * (l % 4);
            for (int half = 0; half < 2; half++)
            {
                for (int i = 0; i < 4; i++)
                {
                    a[group + (i % 2 * 8), pair + (i / 2 * 8) + half] = Half(lanes[l].Read(o[1].Vector![i]), half, bf16);
                    rows[group + (i % 2 * 8)] |= lanes[l].Undefined(o[1].Vector![i]) != 0;
                }
                for (int i = 0; i < 2; i++)
                {
                    b[pair + (8 * i) + half, group] = Half(lanes[l].Read(o[2].Vector![i]), half, bf16);
                    columns[group] |= lanes[l].Undefined(o[2].Vector![i]) != 0;
                }
            }
        }
        for (int l = 0; l < 32; l++)
            for (int i = 0; i < 4; i++)
            {
                float sum = PtxArithmetic.Float(lanes[l].Read(o[3].Vector![i]));
                for (int k = 0; k < 16; k++) sum += a[(l / 4) + (i / 2 * 8), k] * b[k, (2 * (l % 4)) + (i % 2)];
                bool unknown = rows[(l / 4) + (i / 2 * 8)] || columns[(2 * (l % 4)) + (i % 2)] || lanes[l].Undefined(o[3].Vector![i]) != 0;
                lanes[l].Set(o[0].Vector![i], BitConverter.SingleToUInt32Bits(sum), unknown ? PtxUndefined.All : (byte)0);
            }
    }

    private static float Half(ulong word, int half, bool bf16)
    {
        uint bits = (uint)(word >> (16 * half)) & 0xffff;
        return bf16 ? BF16.FromBits(bits) : FP16.FromBits(bits);
    }
}
