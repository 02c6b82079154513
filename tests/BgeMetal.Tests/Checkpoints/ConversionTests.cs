using System.Runtime.InteropServices;
using BgeMetal.Checkpoints;

namespace BgeMetal.Tests.Checkpoints;

/// <summary>The vectorised conversions and the checksum agree with their definitions everywhere.</summary>
public sealed class ConversionTests : CheckpointFolder
{
    [Fact]
    public void Every_half_and_every_bfloat16_is_widened_exactly()
    {
        ushort[] all = [.. Enumerable.Range(0, 65536).Select(i => (ushort)i)];
        float[] halves = new float[65536], brains = new float[65536];
        HalfPrecision.FromFloat16(all, halves);
        HalfPrecision.FromBFloat16(all, brains);
        for (int i = 0; i < 65536; i++)
        {
            float expected = (float)BitConverter.UInt16BitsToHalf((ushort)i);
            if (float.IsNaN(expected)) Assert.True(float.IsNaN(halves[i]));
            else Assert.Equal(BitConverter.SingleToUInt32Bits(expected), BitConverter.SingleToUInt32Bits(halves[i]));
            Assert.Equal((uint)i << 16, BitConverter.SingleToUInt32Bits(brains[i]));
        }
    }

    [Theory]
    [InlineData("F16")]
    [InlineData("BF16")]
    public void Widening_within_the_destination_gives_the_same_at_every_length(string type)
    {
        Random random = new(5);
        for (int length = 0; length < 200; length++)
        {
            ushort[] source = [.. Enumerable.Range(0, length).Select(_ => (ushort)random.Next(0x7c00))];
            float[] apart = new float[length], inside = new float[length];
            FloatReader.Widen(type, source, apart);
            Span<ushort> upper = MemoryMarshal.Cast<float, ushort>(inside.AsSpan())[length..];
            source.CopyTo(upper);
            FloatReader.Widen(type, upper, inside);
            Assert.Equal(apart, inside);
            if (length > 0) Assert.Equal(type == "F16" ? (float)BitConverter.UInt16BitsToHalf(source[^1]) : BitConverter.UInt32BitsToSingle((uint)source[^1] << 16), apart[^1]);
        }
    }

    [Theory]
    [InlineData("F16", 2)]
    [InlineData("BF16", 2)]
    [InlineData("F32", 4)]
    public void Long_tensors_are_read_in_chunks_without_a_seam(string type, int bytes)
    {
        const int Length = (1 << 16) * 2 + 77;
        byte[] data = new byte[Length * bytes];
        for (int i = 0; i < Length; i++)
        {
            float value = (i % 251) - 125;
            if (type == "F32") BitConverter.TryWriteBytes(data.AsSpan(i * 4), value);
            else BitConverter.TryWriteBytes(data.AsSpan(i * 2), type == "F16" ? BitConverter.HalfToUInt16Bits((Half)value) : (ushort)(BitConverter.SingleToUInt32Bits(value) >> 16));
        }
        string header = $"{{\"a\":{{\"dtype\":\"{type}\",\"shape\":[{Length}],\"data_offsets\":[0,{data.Length}]}}}}";
        string path = Write("long.safetensors", [.. Length64(header), .. System.Text.Encoding.UTF8.GetBytes(header), .. data]);
        using SafetensorsFile file = SafetensorsFile.Open(path);
        float[] values = new float[Length];
        long before = GC.GetAllocatedBytesForCurrentThread();
        file.ReadFloats("a", values);
        Assert.True(GC.GetAllocatedBytesForCurrentThread() - before < 1024, "reading allocates no buffer");
        for (int i = 0; i < Length; i++) Assert.Equal((i % 251) - 125, values[i]);
    }

    [Fact]
    public void The_checksum_is_that_of_zip_files_on_both_paths_at_every_length()
    {
        Assert.Equal(0xCBF43926u, Crc32.Append(0, "123456789"u8));
        byte[] bytes = new byte[700];
        new Random(6).NextBytes(bytes);
        for (int length = 0; length <= bytes.Length; length++)
        {
            uint expected = 0xffffffff;
            foreach (byte value in bytes.AsSpan(0, length))
            {
                expected ^= value;
                for (int bit = 0; bit < 8; bit++) expected = (expected & 1) != 0 ? (expected >> 1) ^ 0xEDB88320 : expected >> 1;
            }
            Assert.Equal(~expected, Crc32.Append(0, bytes.AsSpan(0, length)));
            Assert.Equal(~expected, ~Crc32.AppendWithTables(0xffffffff, bytes.AsSpan(0, length)));
            Assert.Equal(~expected, Crc32.Append(Crc32.Append(0, bytes.AsSpan(0, length / 3)), bytes.AsSpan(length / 3, length - (length / 3))));
        }
    }

    private static byte[] Length64(string header) => Length((ulong)header.Length);
}
