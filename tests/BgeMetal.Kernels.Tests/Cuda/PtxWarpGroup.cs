using System.Buffers.Binary;

namespace BgeMetal.Kernels.Tests.Cuda;

/// <summary>
/// One warp's quarter of its group's wgmma products. A product reads its operands and writes its accumulators when its group of products is waited for and not
/// before: what overwrites an operand too early shows. Operands in shared memory are found as the PTX manual's canonical layouts with swizzles of 128 and 64 bytes describe them.
/// </summary>
internal sealed class PtxWarpGroup(PtxBlock block, int warp)
{
    private const int Depth = 16;
    private readonly Queue<List<Product>> _groups = [];
    private List<Product> _open = [];

    public static int Swizzle(int address, int rowBytes = 128) => address ^ ((address >> 7 & (rowBytes / 16 - 1)) << 4);

    public void Execute(PtxInstruction instruction, Span<PtxThread> lanes)
    {
        PtxOperand[] o = instruction.Operands;
        switch (instruction.Operation[1])
        {
            case "fence":
                foreach (PtxThread lane in lanes) lane.FenceAccumulators();
                break;
            case "mma_async":
                Begin(instruction, lanes);
                break;
            case "commit_group":
                _groups.Enqueue(_open);
                _open = [];
                break;
            case "wait_group":
                while (_groups.Count > (int)o[0].Immediate)
                    foreach (Product product in _groups.Dequeue()) Multiply(product, lanes);
                break;
            default:
                throw new NotSupportedException(instruction.Text);
        }
    }

    // sums, A (a descriptor or four registers), B's descriptor, whether to add, signs, transpositions: of both, or of B alone.
    private void Begin(PtxInstruction instruction, Span<PtxThread> lanes)
    {
        PtxOperand[] o = instruction.Operands;
        PtxOperand[] registersOfA = o[1].Vector ?? [];
        bool adds = lanes[0].Read(o[3]) != 0;
        if (o[4].Immediate != 1 || o[5].Immediate != 1) throw new NotSupportedException(instruction.Text);
        foreach (PtxThread lane in lanes)
        {
            if ((o[1].Vector is null && lane.Read(o[1]) != lanes[0].Read(o[1])) || lane.Read(o[2]) != lanes[0].Read(o[2]) || lane.Read(o[3]) != 0 != adds)
                throw new InvalidOperationException("lanes name different operands");
            lane.BeginProduct(o[0].Vector!, registersOfA);
        }
        block.Checks?.ProductBegins(lanes);
        _open.Add(new(o[1].Vector is null ? lanes[0].Read(o[1]) : 0, lanes[0].Read(o[2]), adds, instruction));
    }

    private void Multiply(Product product, Span<PtxThread> lanes)
    {
        PtxOperand[] o = product.Instruction.Operands, registers = o[0].Vector!;
        bool bf16 = product.Instruction.Type == "bf16";
        int columns = registers.Length * 2;
        block.Checks?.ProductEnds(warp);
        if (product.Instruction.Operation[4] != $"m64n{columns}k16") throw new NotSupportedException(product.Instruction.Text);
        // A warp needs a quarter of the first operand; nothing says that the hardware reads no more for it.
        int firstRow = o[1].Vector is null ? warp % 4 * 16 : 0;
        float[] a = o[1].Vector is { } words ? Fragments(words, lanes, bf16) : Operand(product.A, o[6].Immediate != 0, 0, 64, bf16);
        float[] b = Operand(product.B, o[^1].Immediate != 0, 0, columns, bf16);
        bool[] undefined = new bool[16];
        if (o[1].Vector is { } parts)
            for (int l = 0; l < 32; l++)
                for (int i = 0; i < parts.Length; i++) undefined[(l / 4) + (i % 2 * 8)] |= lanes[l].Undefined(parts[i]) != 0;
        for (int l = 0; l < 32; l++)
        {
            for (int i = 0; i < registers.Length; i++)
            {
                int row = (l / 4) + (8 * (i / 2 % 2)), column = (8 * (i / 4)) + (2 * (l % 4)) + (i % 2);
                float sum = product.Adds ? PtxArithmetic.Float(lanes[l][registers[i].Slot]) : 0;
                for (int k = 0; k < Depth; k++) sum += a[((firstRow + row) * Depth) + k] * b[(column * Depth) + k];
                bool unknown = undefined[row] || (product.Adds && lanes[l].Undefined(registers[i]) != 0);
                lanes[l].Set(registers[i], BitConverter.SingleToUInt32Bits(sum), unknown ? PtxUndefined.All : (byte)0);
            }
            lanes[l].EndProduct(registers, o[1].Vector ?? []);
        }
    }

    // As mma.m16n8k16 has its first operand.
    private static float[] Fragments(PtxOperand[] words, Span<PtxThread> lanes, bool bf16)
    {
        float[] values = new float[16 * Depth];
        for (int l = 0; l < 32; l++)
            for (int i = 0; i < 8; i++)
            {
                uint bits = (uint)(lanes[l][words[i / 2].Slot] >> (16 * (i % 2))) & 0xffff;
                values[(((l / 4) + (i / 2 % 2 * 8)) * Depth) + (2 * (l % 4)) + (i / 4 * 8) + (i % 2)] = bf16 ? BF16.FromBits(bits) : FP16.FromBits(bits);
            }
        return values;
    }

    private float[] Operand(ulong descriptor, bool transposed, int first, int count, bool bf16)
    {
        int start = (int)(descriptor & 0x3fff) << 4, leading = (int)(descriptor >> 16 & 0x3fff) << 4, stride = (int)(descriptor >> 32 & 0x3fff) << 4;
        int rowBytes = (descriptor >> 62) switch { 1 => 128, 2 => 64, _ => 0 };
        if (rowBytes == 0 || (descriptor >> 49 & 7) != 0) throw new NotSupportedException($"matrix descriptor {descriptor:x}");
        float[] values = new float[count * Depth];
        for (int i = 0; i < count; i++)
            for (int k = 0; k < Depth; k++)
            {
                int at = first + i, width = rowBytes / 2;
                int offset = transposed
                    ? (at % width * 2) + (at / width * leading) + (k % 8 * rowBytes) + (k / 8 * stride)
                    : (at % 8 * rowBytes) + (at / 8 * stride) + (k * 2);
                block.Checks?.ProductRead(warp, Swizzle(start + offset, rowBytes));
                uint bits = BinaryPrimitives.ReadUInt16LittleEndian(block.Shared.AsSpan(Swizzle(start + offset, rowBytes)));
                values[(i * Depth) + k] = bf16 ? BF16.FromBits(bits) : FP16.FromBits(bits);
            }
        return values;
    }

    private sealed record Product(ulong A, ulong B, bool Adds, PtxInstruction Instruction);
}
