using System.Text;
using ILGPU.Backends.PTX;
using ILGPU.IR.Intrinsics;
using IrValue = ILGPU.IR.Value;

namespace BgeMetal.Kernels.Primitives;

/// <summary>
/// Loads and stores of device memory. Elements are converted on the way; eight at a time they move as 16-byte transactions, which need an
/// address that is a multiple of 16.
/// </summary>
internal static unsafe class GlobalMemory
{
    /// <summary>The byte address of element <paramref name="index"/>.</summary>
    public static long At<T>(this DevicePointer<T> pointer, long index) where T : unmanaged, IElement =>
        pointer.Address + (index << T.SizeShift);

    /// <summary>Element <paramref name="index"/>.</summary>
    public static float Load<T>(this DevicePointer<T> pointer, long index) where T : unmanaged, IElement => Load<T>(pointer.At(index));

    /// <summary>Eight elements from <paramref name="index"/> on.</summary>
    public static Float8 Load8<T>(this DevicePointer<T> pointer, long index) where T : unmanaged, IElement => Load8<T>(pointer.At(index));

    /// <summary>Rounds and stores element <paramref name="index"/>.</summary>
    public static void Store<T>(this DevicePointer<T> pointer, long index, float value) where T : unmanaged, IElement =>
        Store<T>(pointer.At(index), value);

    /// <summary>Rounds and stores eight elements from <paramref name="index"/> on.</summary>
    public static void Store8<T>(this DevicePointer<T> pointer, long index, Float8 value) where T : unmanaged, IElement =>
        Store8<T>(pointer.At(index), value);

    /// <summary>Integer <paramref name="index"/>.</summary>
    public static int Load(this DevicePointer<int> pointer, long index) => LoadInt(pointer.Address + (index << 2));

    /// <summary>Stores integer <paramref name="index"/>.</summary>
    public static void Store(this DevicePointer<int> pointer, long index, int value) => StoreInt(pointer.Address + (index << 2), value);

    /// <summary>One element at a byte address.</summary>
    [IntrinsicImplementation]
    public static float Load<T>(long address) where T : unmanaged, IElement =>
        T.FromBits(T.SizeShift == 2 ? *(uint*)address : *(ushort*)address);

    /// <summary>Stores one element at a byte address.</summary>
    [IntrinsicImplementation]
    public static void Store<T>(long address, float value) where T : unmanaged, IElement
    {
        if (T.SizeShift == 2) *(uint*)address = T.ToBits(value);
        else *(ushort*)address = (ushort)T.ToBits(value);
    }

    /// <summary>Eight elements at a 16-byte aligned address.</summary>
    [IntrinsicImplementation]
    public static Float8 Load8<T>(long address) where T : unmanaged, IElement
    {
        EmulatedWarp.CheckAligned(address, 16);
        Float8 result = default;
        for (int i = 0; i < 8; i++) (&result.A)[i] = Load<T>(address + (i << T.SizeShift));
        return result;
    }

    /// <summary>Stores eight elements at a 16-byte aligned address.</summary>
    [IntrinsicImplementation]
    public static void Store8<T>(long address, Float8 value) where T : unmanaged, IElement
    {
        EmulatedWarp.CheckAligned(address, 16);
        for (int i = 0; i < 8; i++) Store<T>(address + (i << T.SizeShift), (&value.A)[i]);
    }

    /// <summary>A 32-bit integer at a byte address.</summary>
    [IntrinsicImplementation]
    public static int LoadInt(long address) => *(int*)address;

    /// <summary>Stores a 32-bit integer at a byte address.</summary>
    [IntrinsicImplementation]
    public static void StoreInt(long address, int value) => *(int*)address = value;

    /// <summary>Appends text that makes eight binary32 of the half-precision pairs in the registers w0 to w3, with the declared 16-bit registers l and h as room.</summary>
    public static void Unpack(StringBuilder text, string[] results, Type element)
    {
        for (int i = 0; i < 4; i++)
            text.Append(element == typeof(BF16)
                ? $"\tshl.b32 {results[2 * i]}, w{i}, 16; and.b32 {results[2 * i + 1]}, w{i}, 0xffff0000;\n"
                : $"\tmov.b32 {{l,h}}, w{i}; cvt.f32.f16 {results[2 * i]}, l; cvt.f32.f16 {results[2 * i + 1]}, h;\n");
    }

    private static class Ptx
    {
        public static void Load(PTXBackend backend, PTXCodeGenerator generator, IrValue value) => LoadOne(new(generator, value));

        public static void Store(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            string address = call.Operand(0), source = call.Operand(1);
            call.Emit(call.TypeArguments[0] == typeof(FP32)
                ? $"\tst.global.f32 [{address}], {source};"
                : $"\t{{ .reg .b16 h; cvt.rn.{Suffix(call)}.f32 h, {source}; st.global.b16 [{address}], h; }}");
        }

        public static void Load8(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            string address = call.Operand(0);
            string[] r = call.Results();
            StringBuilder text = new();
            if (call.TypeArguments[0] == typeof(FP32))
            {
                text.Append($"\tld.global.v4.f32 {{{string.Join(',', r[..4])}}}, [{address}];\n");
                text.Append($"\tld.global.v4.f32 {{{string.Join(',', r[4..])}}}, [{address}+16];\n");
            }
            else
            {
                text.Append($"\t.reg .b32 w<4>; .reg .b16 l, h;\n\tld.global.v4.b32 {{w0,w1,w2,w3}}, [{address}];\n");
                Unpack(text, r, call.TypeArguments[0]);
            }
            call.Emit(text);
        }

        public static void Store8(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            string address = call.Operand(0);
            string[] r = call.Operands(1);
            StringBuilder text = new();
            if (call.TypeArguments[0] == typeof(FP32))
            {
                text.Append($"\tst.global.v4.f32 [{address}], {{{string.Join(',', r[..4])}}};\n");
                text.Append($"\tst.global.v4.f32 [{address}+16], {{{string.Join(',', r[4..])}}};\n");
            }
            else
            {
                text.Append("\t.reg .b32 w<4>;\n");
                for (int i = 0; i < 4; i++) text.Append($"\tcvt.rn.{Suffix(call)}x2.f32 w{i}, {r[2 * i + 1]}, {r[2 * i]};\n");
                text.Append($"\tst.global.v4.b32 [{address}], {{w0,w1,w2,w3}};\n");
            }
            call.Emit(text);
        }

        public static void LoadInt(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            string address = call.Operand(0);
            call.Emit($"\tld.global.b32 {call.Result()}, [{address}];");
        }

        public static void StoreInt(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            string address = call.Operand(0), source = call.Operand(1);
            call.Emit($"\tst.global.b32 [{address}], {source};");
        }

        private static void LoadOne(PtxCall call)
        {
            string address = call.Operand(0), result = call.Result();
            Type element = call.TypeArguments[0];
            call.Emit(element == typeof(FP32) ? $"\tld.global.f32 {result}, [{address}];"
                : element == typeof(BF16) ? $"\t{{ .reg .b16 z, h; mov.b16 z, 0; ld.global.b16 h, [{address}]; mov.b32 {result}, {{z,h}}; }}"
                : $"\t{{ .reg .b16 h; ld.global.b16 h, [{address}]; cvt.f32.f16 {result}, h; }}");
        }

        private static string Suffix(PtxCall call) => call.TypeArguments[0] == typeof(BF16) ? "bf16" : "f16";
    }
}
