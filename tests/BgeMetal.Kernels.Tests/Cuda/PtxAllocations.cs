namespace BgeMetal.Kernels.Tests.Cuda;

/// <summary>The device memory that an interpreting device gave out and has not taken back, with what happened to it.</summary>
internal sealed class PtxAllocations
{
    private readonly List<Allocation> _byAddress = [];
    private Allocation? _latest;

    public void Add(long address, long sizeBytes) => _byAddress.Insert(~Search(address), new(address, sizeBytes, new PtxShadow(sizeBytes)));

    public void Remove(long address)
    {
        _byAddress.RemoveAt(Search(address));
        _latest = null;
    }

    /// <summary>The allocation that a range lies in.</summary>
    /// <exception cref="InvalidOperationException">There is none.</exception>
    public Allocation Find(long address, long sizeBytes)
    {
        if (_latest is { } latest && address >= latest.Address && address + sizeBytes <= latest.Address + latest.SizeBytes) return latest;
        int index = Search(address);
        if (index < 0) index = ~index - 1;
        Allocation? nearest = index < 0 ? null : _byAddress[index];
        if (nearest is null) throw new InvalidOperationException($"{sizeBytes} bytes at 0x{address:x} lie before all device memory");
        if (address + sizeBytes > nearest.Address + nearest.SizeBytes)
            throw new InvalidOperationException($"{sizeBytes} bytes at 0x{address:x} are {address - nearest.Address} bytes from the start of an allocation of {nearest.SizeBytes}");
        return _latest = nearest;
    }

    private int Search(long address)
    {
        (int low, int high) = (0, _byAddress.Count - 1);
        while (low <= high)
        {
            int middle = (low + high) / 2;
            if (_byAddress[middle].Address == address) return middle;
            if (_byAddress[middle].Address < address) low = middle + 1;
            else high = middle - 1;
        }
        return ~low;
    }

    internal sealed record Allocation(long Address, long SizeBytes, PtxShadow Shadow);
}
