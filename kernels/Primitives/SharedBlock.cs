using System.Runtime.CompilerServices;
using System.Text;
using ILGPU;
using ILGPU.Backends.PTX;
using ILGPU.IR.Intrinsics;
using IrValue = ILGPU.IR.Value;

namespace BgeMetal.Kernels.Primitives;

/// <summary>
/// The block's dynamic shared memory by 32-bit byte addresses, as ldmatrix and cp.async want them. On the emulated device an address is an
/// offset from the block's base, so that swizzles and per-lane address arithmetic are exercised there too.
/// </summary>
internal static unsafe class SharedBlock
{
    /// <summary>Bytes to add to a request so that <see cref="Open"/> can align the start.</summary>
    public const int AlignmentSlack = 128;

    [ThreadStatic] private static byte* t_base;

    /// <summary>The address of the block's dynamic shared memory, rounded up to a multiple of 128. Call once, first, from every thread.</summary>
    public static int Open()
    {
        ArrayView<byte> bytes = SharedMemory.GetDynamic<byte>();
        return (Base(ref bytes[0]) + (AlignmentSlack - 1)) & ~(AlignmentSlack - 1);
    }

    /// <summary>
    /// The address of the block's dynamic shared memory in a kernel with warp-group products: a multiple of <see cref="TensorCopy.Alignment"/> as it
    /// is, because <see cref="Runtime.PtxFixups"/> declares it so. Call once, first, from every thread.
    /// </summary>
    public static int OpenAligned()
    {
        ArrayView<byte> bytes = SharedMemory.GetDynamic<byte>();
        return Base(ref bytes[0]);
    }

    /// <summary>The address of a reference into shared memory.</summary>
    [IntrinsicImplementation]
    public static int Base(ref byte start)
    {
        t_base = (byte*)Unsafe.AsPointer(ref start);
        return 0;
    }

    /// <summary>One binary32 at a 4-byte aligned address.</summary>
    [IntrinsicImplementation]
    public static float Load(int address) => *(float*)Pointer(address, 4);

    /// <summary>Stores one binary32.</summary>
    [IntrinsicImplementation]
    public static void Store(int address, float value) => *(float*)Pointer(address, 4) = value;

    /// <summary>Eight binary32 at a 16-byte aligned address.</summary>
    [IntrinsicImplementation]
    public static Float8 Load8(int address) => *(Float8*)Pointer(address, 16);

    /// <summary>Stores eight binary32 at a 16-byte aligned address.</summary>
    [IntrinsicImplementation]
    public static void Store8(int address, Float8 value) => *(Float8*)Pointer(address, 16) = value;

    /// <summary>Eight half-precision elements at a 16-byte aligned address.</summary>
    [IntrinsicImplementation]
    public static Float8 LoadHalves<T>(int address) where T : unmanaged, IElement
    {
        Float8 result = default;
        for (int i = 0; i < 8; i++) (&result.A)[i] = T.FromBits(((ushort*)Pointer(address, 16))[i]);
        return result;
    }

    /// <summary>Copies 16 bytes to device memory, both ends at multiples of 16.</summary>
    [IntrinsicImplementation]
    public static void CopyOut(int source, long target)
    {
        EmulatedWarp.CheckAligned(target, 16);
        *(Int128*)target = *(Int128*)Pointer(source, 16);
    }

    /// <summary>The host pointer behind a shared address of the calling emulated thread.</summary>
    /// <exception cref="DataMisalignedException">The address is not a multiple of <paramref name="alignment"/>.</exception>
    public static byte* Pointer(int address, int alignment)
    {
        EmulatedWarp.CheckAligned(address, alignment);
        return t_base + address;
    }

    private static class Ptx
    {
        public static void Base(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            bool isShared = call.IsShared(0);
            string address = call.Operand(0), result = call.Result();
            call.Emit(isShared
                ? $"\tcvt.u32.u64 {result}, {address};"
                : $"\t{{ .reg .b64 s; cvta.to.shared.u64 s, {address}; cvt.u32.u64 {result}, s; }}");
        }

        public static void Load(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            string address = call.Operand(0);
            call.Emit($"\tld.shared.f32 {call.Result()}, [{address}];");
        }

        public static void Store(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            string address = call.Operand(0), source = call.Operand(1);
            call.Emit($"\tst.shared.f32 [{address}], {source};");
        }

        public static void LoadHalves(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            string address = call.Operand(0);
            StringBuilder text = new($"\t.reg .b32 w<4>; .reg .b16 l, h;\n\tld.shared.v4.b32 {{w0,w1,w2,w3}}, [{address}];\n");
            GlobalMemory.Unpack(text, call.Results(), call.TypeArguments[0]);
            call.Emit(text);
        }

        public static void CopyOut(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            string source = call.Operand(0), target = call.Operand(1);
            call.Emit($"\t{{ .reg .b32 w<4>; ld.shared.v4.b32 {{w0,w1,w2,w3}}, [{source}]; st.global.v4.b32 [{target}], {{w0,w1,w2,w3}}; }}");
        }

        public static void Store8(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            string address = call.Operand(0);
            string[] r = call.Operands(1);
            call.Emit(new StringBuilder()
                .Append($"\tst.shared.v4.f32 [{address}], {{{string.Join(',', r[..4])}}};\n")
                .Append($"\tst.shared.v4.f32 [{address}+16], {{{string.Join(',', r[4..])}}};\n"));
        }

        public static void Load8(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            string address = call.Operand(0);
            string[] r = call.Results();
            call.Emit(new StringBuilder()
                .Append($"\tld.shared.v4.f32 {{{string.Join(',', r[..4])}}}, [{address}];\n")
                .Append($"\tld.shared.v4.f32 {{{string.Join(',', r[4..])}}}, [{address}+16];\n"));
        }
    }
}
