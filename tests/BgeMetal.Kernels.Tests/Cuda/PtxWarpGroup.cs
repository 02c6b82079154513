using System.Buffers.Binary;

namespace BgeMetal.Kernels.Tests.Cuda;

/// <summary>
/// One warp's quarter of its group's wgmma products. A product reads shared memory and writes its accumulators when its group of products is waited for and not
/// before: what overwrites an operand too early shows. Operands are found as the PTX manual's canonical layouts with 128-byte swizzle describe them.
/// </summary>
internal sealed class PtxWarpGroup(PtxBlock block, int warp)
{
    private readonly Queue<List<(ulong A, ulong B, PtxInstruction Instruction)>> _groups = [];
    private List<(ulong A, ulong B, PtxInstruction Instruction)> _open = [];

    public static int Swizzle(int address) => address ^ ((address >> 7 & 7) << 4);

    public void Execute(PtxInstruction instruction, Span<PtxThread> lanes)
    {
        PtxOperand[] o = instruction.Operands;
        switch (instruction.Operation[1])
        {
            case "fence":
                foreach (PtxThread lane in lanes) lane.FenceAccumulators();
                break;
            case "mma_async":
                foreach (PtxThread lane in lanes)
                {
                    if (lane.Read(o[1]) != lanes[0].Read(o[1]) || lane.Read(o[2]) != lanes[0].Read(o[2])) throw new InvalidOperationException("lanes name different operands");
                    if (lane.Read(o[3]) == 0 || o[4].Immediate != 1 || o[5].Immediate != 1) throw new NotSupportedException(instruction.Text);
                    lane.BeginAccumulation(o[0].Vector!);
                }
                _open.Add((lanes[0].Read(o[1]), lanes[0].Read(o[2]), instruction));
                break;
            case "commit_group":
                _groups.Enqueue(_open);
                _open = [];
                break;
            case "wait_group":
                while (_groups.Count > (int)o[0].Immediate)
                    foreach ((ulong a, ulong b, PtxInstruction product) in _groups.Dequeue()) Multiply(a, b, product, lanes);
                break;
            default:
                throw new NotSupportedException(instruction.Text);
        }
    }

    private void Multiply(ulong descriptorA, ulong descriptorB, PtxInstruction instruction, Span<PtxThread> lanes)
    {
        const int depth = 16;
        PtxOperand[] registers = instruction.Operands[0].Vector!;
        bool bf16 = instruction.Type == "bf16";
        int columns = registers.Length * 2;
        if (instruction.Operation[4] != $"m64n{columns}k16") throw new NotSupportedException(instruction.Text);
        float[] a = Operand(descriptorA, instruction.Operands[6].Immediate != 0, warp % 4 * 16, 16, bf16), b = Operand(descriptorB, instruction.Operands[7].Immediate != 0, 0, columns, bf16);
        for (int l = 0; l < 32; l++)
        {
            for (int i = 0; i < registers.Length; i++)
            {
                int row = (l / 4) + (8 * (i / 2 % 2)), column = (8 * (i / 4)) + (2 * (l % 4)) + (i % 2);
                float sum = PtxArithmetic.Float(lanes[l][registers[i].Slot]);
                for (int k = 0; k < depth; k++) sum += a[(row * depth) + k] * b[(column * depth) + k];
                lanes[l][registers[i].Slot] = BitConverter.SingleToUInt32Bits(sum);
            }
            lanes[l].EndAccumulation(registers);
        }
    }

    private float[] Operand(ulong descriptor, bool transposed, int first, int count, bool bf16)
    {
        int start = (int)(descriptor & 0x3fff) << 4, leading = (int)(descriptor >> 16 & 0x3fff) << 4, stride = (int)(descriptor >> 32 & 0x3fff) << 4;
        if (descriptor >> 62 != 1 || (descriptor >> 49 & 7) != 0) throw new NotSupportedException($"matrix descriptor {descriptor:x}");
        float[] values = new float[count * 16];
        for (int i = 0; i < count; i++)
            for (int k = 0; k < 16; k++)
            {
                int at = first + i;
                int offset = transposed
                    ? (at % 64 * 2) + (at / 64 * leading) + (k % 8 * 128) + (k / 8 * stride)
                    : (at % 8 * 128) + (at / 8 * stride) + (k * 2);
                uint bits = BinaryPrimitives.ReadUInt16LittleEndian(block.Shared.AsSpan(Swizzle(start + offset)));
                values[(i * 16) + k] = bf16 ? BF16.FromBits(bits) : FP16.FromBits(bits);
            }
        return values;
    }
}
