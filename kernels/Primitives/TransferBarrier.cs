using System.Collections.Concurrent;
using System.Text;
using ILGPU.Backends.PTX;
using ILGPU.IR.Intrinsics;
using IrValue = ILGPU.IR.Value;

namespace BgeMetal.Kernels.Primitives;

/// <summary>
/// mbarrier: 8 bytes of shared memory that count arrivals of threads and bytes of bulk copies. A phase ends when all arrivals and all expected bytes have
/// come; who waits names the parity of the phase, so that the first wait for parity 1 passes at once.
/// </summary>
internal static unsafe class TransferBarrier
{
    /// <summary>The size of a barrier.</summary>
    public const int SizeBytes = 8;

    // A kernel that gets stuck on the emulated device should fail, not hang.
    private const int PatienceMilliseconds = 120_000;

    private static readonly ConcurrentDictionary<nint, State> s_states = new();

    /// <summary>Makes a barrier whose phases end with <paramref name="arrivals"/> arrivals. One thread; <see cref="Publish"/> and a block barrier must follow.</summary>
    [IntrinsicImplementation]
    public static void Initialize(int address, int arrivals) => s_states[(nint)SharedBlock.Pointer(address, SizeBytes)] = new State(arrivals);

    /// <summary>Makes new barriers visible to the copy engine.</summary>
    [IntrinsicImplementation]
    public static void Publish()
    {
    }

    /// <summary>Announces <paramref name="bytes"/> of copies to the current phase, and arrives.</summary>
    [IntrinsicImplementation]
    public static void Expect(int address, int bytes) => Find(address).Change(1, bytes);

    /// <summary>Arrives; what this thread did before is visible to those who wait.</summary>
    [IntrinsicImplementation]
    public static void Arrive(int address) => Find(address).Change(1, 0);

    /// <summary>
    /// Arrives at the barrier that lies at this address of block <paramref name="rank"/> of the cluster. For those who only read: nothing that this thread wrote
    /// becomes visible to the other block. (A release at the cluster's scope would wait for the thread's stores to device memory: ptxas makes it MEMBAR.ALL.GPU.)
    /// </summary>
    [IntrinsicImplementation]
    public static void ArriveAt(int address, int rank) => Find(EmulatedCluster.Running.Pointer(rank, address)).Change(1, 0);

    /// <summary>Waits until the phase of this parity is over.</summary>
    [IntrinsicImplementation]
    public static void Wait(int address, int parity) => Find(address).Wait(parity);

    /// <summary>What the copy engine does when bytes have come, on the emulated device.</summary>
    public static void Complete(int address, int bytes) => Find(address).Change(0, -bytes);

    /// <summary>The same at a barrier of block <paramref name="rank"/> of the cluster.</summary>
    public static void CompleteAt(int address, int rank, int bytes) => Find(EmulatedCluster.Running.Pointer(rank, address)).Change(0, -bytes);

    private static State Find(int address) => Find(SharedBlock.Pointer(address, SizeBytes));

    private static State Find(byte* barrier) => s_states[(nint)barrier];

    private static class Ptx
    {
        public static void Initialize(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            string address = call.Operand(0), arrivals = call.Operand(1);
            call.Emit($"\tmbarrier.init.shared.b64 [{address}], {arrivals};");
        }

        public static void Publish(PTXBackend backend, PTXCodeGenerator generator, IrValue value) =>
            new PtxCall(generator, value).Emit("\tfence.mbarrier_init.release.cluster;\n\tfence.proxy.async.shared::cta;");

        public static void Expect(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            string address = call.Operand(0), bytes = call.Operand(1);
            call.Emit($"\tmbarrier.arrive.expect_tx.shared::cta.b64 _, [{address}], {bytes};");
        }

        public static void Arrive(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            string address = call.Operand(0);
            call.Emit($"\tmbarrier.arrive.shared::cta.b64 _, [{address}];");
        }

        public static void ArriveAt(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            string address = call.Operand(0), rank = call.Operand(1);
            call.Emit(new StringBuilder($"\t.reg .b32 there;\n\tmapa.shared::cluster.u32 there, {address}, {rank};\n")
                .Append("\tmbarrier.arrive.shared::cluster.b64 _, [there];\n"));
        }

        public static void Wait(PTXBackend backend, PTXCodeGenerator generator, IrValue value)
        {
            PtxCall call = new(generator, value);
            string address = call.Operand(0), parity = call.Operand(1), label = call.UniqueSuffix;
            call.Emit(new StringBuilder($"\t.reg .pred p;\nWAIT{label}:\n")
                .Append($"\tmbarrier.try_wait.parity.shared::cta.b64 p, [{address}], {parity};\n")
                .Append($"\t@p bra PASS{label};\n\tbra WAIT{label};\nPASS{label}:\n"));
        }
    }

    private sealed class State
    {
        private readonly int _arrivals;
        private int _pending, _phase;
        private long _bytes;

        public State(int arrivals) => _arrivals = _pending = arrivals;

        public void Change(int arrived, long bytes)
        {
            lock (this)
            {
                _bytes += bytes;
                _pending -= arrived;
                if (_pending < 0) throw new InvalidOperationException("more arrivals than the barrier's phase has");
                if (_pending > 0 || _bytes != 0) return;
                _pending = _arrivals;
                _phase ^= 1;
                Monitor.PulseAll(this);
            }
        }

        public void Wait(int parity)
        {
            lock (this)
                while (_phase == parity)
                    if (!Monitor.Wait(this, PatienceMilliseconds)) throw new InvalidOperationException("a thread waits for a barrier that nobody completes");
        }
    }
}
