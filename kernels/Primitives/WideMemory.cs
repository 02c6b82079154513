using ILGPU.Backends.PTX;
using ILGPU.IR.Intrinsics;
using IrValue = ILGPU.IR.Value;

namespace BgeMetal.Kernels.Primitives;

/// <summary>64-bit integers in device and in shared memory, at addresses that are multiples of 8.</summary>
internal static unsafe class WideMemory
{
    /// <summary>Integer <paramref name="index"/>.</summary>
    public static long Load(this DevicePointer<long> pointer, long index) => LoadGlobal(pointer.Address + (index << 3));

    /// <summary>Stores integer <paramref name="index"/>.</summary>
    public static void Store(this DevicePointer<long> pointer, long index, long value) => StoreGlobal(pointer.Address + (index << 3), value);

    /// <summary>An integer at a byte address of device memory.</summary>
    [IntrinsicImplementation]
    public static long LoadGlobal(long address)
    {
        EmulatedWarp.CheckAligned(address, 8);
        return *(long*)address;
    }

    /// <summary>Stores an integer at a byte address of device memory.</summary>
    [IntrinsicImplementation]
    public static void StoreGlobal(long address, long value)
    {
        EmulatedWarp.CheckAligned(address, 8);
        *(long*)address = value;
    }

    /// <summary>An integer at a shared address.</summary>
    [IntrinsicImplementation]
    public static long LoadShared(int address) => *(long*)SharedBlock.Pointer(address, 8);

    /// <summary>Stores an integer at a shared address.</summary>
    [IntrinsicImplementation]
    public static void StoreShared(int address, long value) => *(long*)SharedBlock.Pointer(address, 8) = value;

    private static class Ptx
    {
        public static void LoadGlobal(PTXBackend backend, PTXCodeGenerator generator, IrValue value) => Load(new(generator, value), "global");

        public static void LoadShared(PTXBackend backend, PTXCodeGenerator generator, IrValue value) => Load(new(generator, value), "shared");

        public static void StoreGlobal(PTXBackend backend, PTXCodeGenerator generator, IrValue value) => Store(new(generator, value), "global");

        public static void StoreShared(PTXBackend backend, PTXCodeGenerator generator, IrValue value) => Store(new(generator, value), "shared");

        private static void Load(PtxCall call, string space)
        {
            string address = call.Operand(0);
            call.Emit($"\tld.{space}.b64 {call.Result()}, [{address}];");
        }

        private static void Store(PtxCall call, string space)
        {
            string address = call.Operand(0), source = call.Operand(1);
            call.Emit($"\tst.{space}.b64 [{address}], {source};");
        }
    }
}
