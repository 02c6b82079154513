using System.Reflection;
using ILGPU;
using ILGPU.Backends.PTX;
using ILGPU.IR.Intrinsics;
using IrValue = ILGPU.IR.Value;

namespace BgeMetal.Kernels.Primitives;

/// <summary>
/// wgmma: four warps multiply 64 rows of A by all of B's columns, both in shared memory as <see cref="TensorCopy"/> put them there. An operand whose depth is
/// contiguous is one box of 64 deep rows; one whose other dimension is contiguous is a box of 64 x 64 for each 64 of them, depth downward. The products
/// run by themselves: accumulators may be read, and stages overwritten, only after <see cref="Wait"/>. PTX ISA, "Asynchronous warpgroup level matrix instructions".
/// </summary>
internal static unsafe class WarpGroupMma
{
    /// <summary>
    /// Issues accumulator += A B over one stage of depth 64 and closes the group. Accumulator i of a thread belongs to row
    /// 16 (warp % 4) + lane / 4 + 8 (i / 2 % 2) and column 8 (i / 4) + 2 (lane % 4) + i % 2. Use as <c>acc = Multiply(acc, ..)</c>: the result lives in the operand's registers.
    /// </summary>
    [IntrinsicImplementation]
    public static TAcc Multiply<TAcc, T, TForm>(TAcc accumulator, int addressA, int addressB)
        where TAcc : unmanaged, IAccumulator where T : unmanaged, IElement where TForm : struct, IForm
    {
        EmulatedWarp.CheckAligned(addressA, TensorCopy.Alignment);
        EmulatedWarp.CheckAligned(addressB, TensorCopy.Alignment);
        Span<float> sums = Accumulators.Fields(ref accumulator);
        Span<float> a = stackalloc float[2 * IWarpGroupTile.BlockK];
        int lane = Warp.LaneIdx, row = ((Group.IdxX >> 5) & 3) * 16 + (lane >> 2);
        for (int k = 0; k < IWarpGroupTile.BlockK; k++)
        {
            a[k] = Element<T>(addressA, TForm.AkContiguous, row, k);
            a[IWarpGroupTile.BlockK + k] = Element<T>(addressA, TForm.AkContiguous, row + 8, k);
        }
        for (int j = 0; j < sums.Length / 4; j++)
            for (int e = 0; e < 2; e++)
            {
                float first = sums[4 * j + e], second = sums[4 * j + 2 + e];
                for (int k = 0; k < IWarpGroupTile.BlockK; k++)
                {
                    float b = Element<T>(addressB, TForm.BkContiguous, 8 * j + 2 * (lane & 3) + e, k);
                    first += a[k] * b;
                    second += a[IWarpGroupTile.BlockK + k] * b;
                }
                sums[4 * j + e] = first;
                sums[4 * j + 2 + e] = second;
            }
        return accumulator;
    }

    /// <summary>Waits until at most <paramref name="pending"/> (a compile-time constant) of the group's products are unfinished; the lanes of a warp pass together.</summary>
    [IntrinsicImplementation]
    public static void Wait(int pending) => Warp.Barrier();

    /// <summary>Lets products read what this thread has stored in shared memory, finished cp.async copies included; a block barrier must follow. What <see cref="TensorCopy"/> brought needs no such thing.</summary>
    [IntrinsicImplementation]
    public static void Publish()
    {
    }

    private static float Element<T>(int address, bool depthContiguous, int i, int k) where T : unmanaged, IElement
    {
        int offset = depthContiguous ? i * 128 + k * 2 : (i >> 6) * IWarpGroupTile.BoxBytes + k * 128 + (i & 63) * 2;
        return T.FromBits(*(ushort*)SharedBlock.Pointer(TensorCopy.Swizzle(address + offset), 2));
    }

    private static class Ptx
    {
        public static void Multiply(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            Type[] types = call.TypeArguments;
            string a = call.Operand(1), b = call.Operand(2);
            WarpGroupProducts products = new(call.Alias(0), types[1] == typeof(BF16) ? "bf16" : "f16", IWarpGroupTile.BlockK / WarpGroupProducts.Depth);
            products.First(a, 128, Constant(types[2], nameof(IForm.AkContiguous)), IWarpGroupTile.BoxBytes);
            products.Second(b, 128, Constant(types[2], nameof(IForm.BkContiguous)), IWarpGroupTile.BoxBytes);
            call.Emit(products.Text());
        }

        public static void Wait(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            call.Emit($"\twgmma.wait_group.sync.aligned {call.Constant(0)};");
        }

        public static void Publish(PTXBackend backend, PTXCodeGenerator generator, IrValue value) =>
            new PtxCall(generator, value).Emit("\tfence.proxy.async.shared::cta;");

        private static bool Constant(Type type, string name) => (bool)type.GetProperty(name, BindingFlags.Static | BindingFlags.Public)!.GetValue(null)!;
    }
}
