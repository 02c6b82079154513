using BgeMetal.Kernels.Cpu;
using BgeMetal.Kernels.Runtime;

namespace BgeMetal.Tensors;

/// <summary>
/// Brings a large table in host memory to a GPU piece by piece, by way of two pieces of page-locked memory in turn: while the GPU copies and reads one, the host's threads
/// fill the other. Memory: two pieces on the host, two on the device.
/// </summary>
internal sealed unsafe class StagedUploads : IDisposable
{
    private const int PartBytes = 2 << 20;            // of one thread's copy at a time
    private readonly Slot[] _slots;
    private readonly WorkerTeam _team;
    private readonly KernelDevice _kernels;
    private int _turn;

    /// <summary>Uploads to <paramref name="device"/> in pieces of at most so many bytes; <paramref name="team"/> copies to the page-locked memory.</summary>
    /// <exception cref="DeviceException">There is not enough memory.</exception>
    public StagedUploads(Device device, WorkerTeam team, long pieceBytes)
    {
        (_team, _kernels, _slots) = (team, device.Kernels, new Slot[2]);
        try
        {
            for (int i = 0; i < _slots.Length; i++) _slots[i] = new Slot(_kernels, pieceBytes);
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>
    /// Enqueues a piece's way to the device and returns its address there: <paramref name="target"/>, or where that is 0 memory that the next piece but one takes again. The host's
    /// copy is made before the call returns. <see cref="Read"/> must follow behind the kernels that read the piece.
    /// </summary>
    public nint Bring(void* source, long sizeBytes, nint target = 0)
    {
        Slot slot = _slots[_turn];
        slot.Passed.Wait();
        CopyJob job = new() { Source = (byte*)source, Target = (byte*)slot.Host.Address, SizeBytes = sizeBytes };
        _team.Run(ref job, (int)((sizeBytes + PartBytes - 1) / PartBytes));
        if (target == 0) target = (nint)slot.Device.Address;
        _kernels.CopyToDevice(slot.Host.Address, target, sizeBytes);
        return target;
    }

    /// <summary>Says that everything that reads the last piece is enqueued.</summary>
    public void Read()
    {
        _slots[_turn].Passed.Record();
        _turn = 1 - _turn;
    }

    /// <summary>Frees the memory; nothing that reads it may still be under way.</summary>
    public void Dispose()
    {
        foreach (Slot? slot in _slots) slot?.Dispose();
    }

    private sealed class Slot : IDisposable
    {
        public Slot(KernelDevice kernels, long sizeBytes)
        {
            Passed = kernels.CreateMark();
            try
            {
                Host = kernels.AllocatePinned(sizeBytes);
                Device = kernels.Allocate(sizeBytes);
            }
            catch
            {
                Dispose();
                throw;
            }
        }

        public DeviceMark Passed { get; }

        public PinnedMemory Host { get; } = null!;

        public DeviceMemory Device { get; } = null!;

        public void Dispose()
        {
            Passed.Dispose();
            Host?.Dispose();
            Device?.Dispose();
        }
    }

    /// <summary>One part is <see cref="PartBytes"/> of the piece.</summary>
    private struct CopyJob : ITeamJob
    {
        public byte* Source;
        public byte* Target;
        public long SizeBytes;

        public readonly void Execute(int part, int worker)
        {
            long first = (long)part * PartBytes, count = Math.Min(PartBytes, SizeBytes - first);
            Buffer.MemoryCopy(Source + first, Target + first, count, count);
        }
    }
}
