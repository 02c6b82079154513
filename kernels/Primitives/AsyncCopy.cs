using System.Text;
using ILGPU.Backends.PTX;
using ILGPU.IR.Intrinsics;
using IrValue = ILGPU.IR.Value;

namespace BgeMetal.Kernels.Primitives;

/// <summary>
/// cp.async: copies from device to shared memory that bypass registers and complete in groups. The emulation performs a copy only when its
/// group is waited for, so a kernel that reads a stage too early computes wrong numbers there too.
/// </summary>
internal static unsafe class AsyncCopy
{
    [ThreadStatic] private static EmulatedQueue? t_queue;

    /// <summary>
    /// Copies <paramref name="count"/> pieces of 16 bytes: piece i goes from <paramref name="source"/> + i * <paramref name="sourceStep"/> to
    /// <paramref name="target"/> + i * <paramref name="targetStep"/> when i * <paramref name="rowStep"/> &lt; <paramref name="rowsLeft"/>; otherwise
    /// its target is filled with zeros and its source is not touched.
    /// </summary>
    /// <remarks><paramref name="count"/>, <paramref name="rowStep"/> and <paramref name="targetStep"/> must be compile-time constants.</remarks>
    [IntrinsicImplementation]
    public static void Rows(int target, long source, long sourceStep, int rowsLeft, int count, int rowStep, int targetStep)
    {
        for (int i = 0; i < count; i++)
        {
            byte* to = SharedBlock.Pointer(target + i * targetStep, 16);
            bool inside = i * rowStep < rowsLeft;
            if (inside) EmulatedWarp.CheckAligned(source + i * sourceStep, 16);
            Queue.Add(to, inside ? (byte*)(source + i * sourceStep) : null, 16);
        }
    }

    /// <summary>
    /// Converts the element at <paramref name="source"/> to binary32 at <paramref name="target"/>, or writes a zero when <paramref name="valid"/> is 0
    /// (the source is then not touched). Asynchronous for binary32; other types pass through a register at once.
    /// </summary>
    [IntrinsicImplementation]
    public static void Element<T>(int target, long source, int valid) where T : unmanaged, IElement
    {
        if (T.SizeShift == 2) Queue.Add(SharedBlock.Pointer(target, 4), valid != 0 ? (byte*)source : null, 4);
        else *(float*)SharedBlock.Pointer(target, 4) = valid != 0 ? GlobalMemory.Load<T>(source) : 0;
    }

    /// <summary>Closes the group of the copies issued since the last one.</summary>
    [IntrinsicImplementation]
    public static void Commit() => Queue.Commit();

    /// <summary>Waits until at most <paramref name="pending"/> (a compile-time constant) of this thread's groups are unfinished.</summary>
    [IntrinsicImplementation]
    public static void Wait(int pending) => Queue.Wait(pending);

    private static EmulatedQueue Queue => t_queue ??= new EmulatedQueue();

    private static class Ptx
    {
        public static void Rows(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            string target = call.Operand(0), source = call.Operand(1), step = call.Operand(2), rows = call.Operand(3);
            int count = call.Constant(4), rowStep = call.Constant(5), targetStep = call.Constant(6);
            StringBuilder text = new($"\t.reg .pred p; .reg .b32 n; .reg .b64 g;\n\tmov.b64 g, {source};\n");
            for (int i = 0; i < count; i++)
                text.Append($"\tsetp.gt.s32 p, {rows}, {i * rowStep}; selp.b32 n, 16, 0, p;\n")
                    .Append($"\tcp.async.cg.shared.global [{target}+{i * targetStep}], [g], 16, n;\n")
                    .Append(i + 1 < count ? $"\tadd.s64 g, g, {step};\n" : "");
            call.Emit(text);
        }

        public static void Element(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            string target = call.Operand(0), source = call.Operand(1), valid = call.Operand(2);
            Type element = call.TypeArguments[0];
            StringBuilder text = new($"\t.reg .pred p; .reg .b32 n; .reg .b16 z, h; .reg .f32 f;\n\tsetp.ne.s32 p, {valid}, 0;\n");
            if (element == typeof(FP32))
                text.Append($"\tselp.b32 n, 4, 0, p;\n\tcp.async.ca.shared.global [{target}], [{source}], 4, n;\n");
            else
                text.Append($"\tmov.b16 z, 0; mov.b16 h, 0;\n\t@p ld.global.b16 h, [{source}];\n")
                    .Append(element == typeof(BF16) ? "\tmov.b32 f, {z,h};\n" : "\tcvt.f32.f16 f, h;\n")
                    .Append($"\tst.shared.f32 [{target}], f;\n");
            call.Emit(text);
        }

        public static void Commit(PTXBackend backend, PTXCodeGenerator generator, IrValue value) =>
            new PtxCall(generator, value).Emit("\tcp.async.commit_group;");

        public static void Wait(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            call.Emit($"\tcp.async.wait_group {call.Constant(0)};");
        }
    }

    private sealed class EmulatedQueue
    {
        private readonly Queue<List<(nint Target, nint Source, int Size)>> _groups = [];
        private List<(nint Target, nint Source, int Size)> _open = [];

        public void Add(byte* target, byte* source, int size) => _open.Add(((nint)target, (nint)source, size));

        public void Commit()
        {
            _groups.Enqueue(_open);
            _open = [];
        }

        public void Wait(int pending)
        {
            while (_groups.Count > pending)
                foreach ((nint target, nint source, int size) in _groups.Dequeue())
                    if (source == 0) new Span<byte>((void*)target, size).Clear();
                    else new Span<byte>((void*)source, size).CopyTo(new Span<byte>((void*)target, size));
        }
    }
}
