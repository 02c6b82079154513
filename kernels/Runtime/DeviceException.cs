namespace BgeMetal.Kernels.Runtime;

/// <summary>The GPU, its driver or its memory is missing or failed. The message is one line, fit for a user.</summary>
public sealed class DeviceException : Exception
{
    /// <summary>States what failed and why.</summary>
    public DeviceException(string message) : base(message)
    {
    }

    /// <summary>States what failed and why, and keeps the cause.</summary>
    public DeviceException(string message, Exception innerException) : base(message, innerException)
    {
    }

    /// <summary>The driver's result code, or 0 when no driver call failed.</summary>
    public int DriverResult { get; init; }
}
