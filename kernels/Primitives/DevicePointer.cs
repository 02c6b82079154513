namespace BgeMetal.Kernels.Primitives;

/// <summary>
/// An address in device memory (host memory on the emulated device) of elements of <typeparamref name="T"/>. It carries no length: kernels
/// trust their launchers. Blittable, so that a kernel's argument struct is its parameter block, byte for byte.
/// </summary>
public readonly struct DevicePointer<T> where T : unmanaged
{
    /// <summary>The address in bytes; 0 means absent.</summary>
    public long Address { get; }

    /// <summary>Points at the byte <paramref name="address"/>.</summary>
    public DevicePointer(long address) => Address = address;

    /// <summary>True when the pointer is absent.</summary>
    public bool IsNull => Address == 0;

    /// <summary>The same address read as elements of another type.</summary>
    public DevicePointer<TOther> Cast<TOther>() where TOther : unmanaged => new(Address);
}
