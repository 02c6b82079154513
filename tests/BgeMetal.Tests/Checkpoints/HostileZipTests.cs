using BgeMetal.Checkpoints;

namespace BgeMetal.Tests.Checkpoints;

/// <summary>Damaged and malicious containers of PyTorch weights are refused by name, and zip bombs before they are inflated.</summary>
public sealed class HostileZipTests : CheckpointFolder
{
    private static readonly byte[] Data = [.. Enumerable.Range(0, 96).Select(i => (byte)i)], Pickle = TestPickle.OneTensor(24);

    private static TestZip Good => new TestZip().Add("m/data.pkl", Pickle).Add("m/data/0", Data);

    private static TestZip Good64 => new TestZip { Zip64 = true }.Add("m/data.pkl", Pickle).Add("m/data/0", Data);

    /// <summary>Files, by what is wrong with them.</summary>
    public static TheoryData<string, byte[], string> Files => new()
    {
        { "empty", [], "the file is no zip file, as torch.save writes it (0 bytes)" },
        { "junk", "<html>not found</html>"u8.ToArray(), "byte 0: the file is no zip file" },
        { "a Git LFS pointer", "version https://git-lfs.github.com/spec/v1\n"u8.ToArray(), "Git LFS pointer" },
        { "the old pickle format", [0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, (byte)'.'], "before PyTorch 1.6; convert it once" },
        { "the old tar format", [.. new byte[257], .. "ustar"u8, .. new byte[250]], "before PyTorch 1.6; convert it once" },
        { "cut in its end record", Good.ToArray()[..^5], "the zip file has no end record: it is truncated" },
        { "cut in half", Good.ToArray()[..200], "the zip file has no end record: it is truncated" },
        { "a local header alone", "PK\u0003\u0004"u8.ToArray(), "the zip file has no end record" },
        { "spread over disks", Good.ToArray(disk: 3), "spread over several disks" },
        { "with a directory behind its end", Good.ToArray(directoryStart: 1 << 20), "lies outside of the file" },
        { "with a directory too large", Good.ToArray(directorySize: 1 << 20), "lies outside of the file" },
        { "with more members than fit", Good.ToArray(count: 5000), "5000 members do not fit" },
        { "with a member too many", Good.ToArray(count: 3), "members do not fit" },
        { "with a directory that starts wrongly", Good.ToArray(directoryStart: 3, directorySize: 100), "member 0 of the zip directory is malformed" },
        { "zip64 with a locator behind its end", Good64.ToArray(locator: 1L << 40), "the zip64 locator is missing or points outside" },
        { "zip64 with a negative locator", Good64.ToArray(locator: -5), "the zip64 locator is missing or points outside" },
        { "zip64 with a wrong locator", Good64.ToArray(locator: 7), "the zip64 end record is missing" },
        { "zip64 with a huge directory", Good64.ToArray(directorySize: long.MaxValue), "lies outside of the file" },
        { "zip64 with a negative directory", Good64.ToArray(directoryStart: long.MinValue), "lies outside of the file" },
        { "with a member twice", Good.Add("m/data/0", Data).ToArray(), "the zip member 'm/data/0' appears twice" },
        { "without data.pkl", new TestZip().Add("m/data/0", Data).ToArray(), "has no NAME/data.pkl" },
        { "with two data.pkl", Good.Add("n/data.pkl", Pickle).ToArray(), "more than one NAME/data.pkl" },
        { "encrypted", Good.Add("m/x", Data, flags: 1).ToArray(), "zip member 'm/x' is encrypted" },
        { "compressed otherwise", Good.Add("m/x", Data, method: 9).ToArray(), "zip member 'm/x' is compressed with method 9" },
        { "with a member behind its end", Good.Add("m/x", Data, offset: 1 << 20).ToArray(), "zip member 'm/x' with 96 bytes lies outside" },
        { "with a member too large", Good.Add("m/x", Data, size: 1 << 20, compressedSize: 1 << 20).ToArray(), "zip member 'm/x' with 1048576 bytes lies outside" },
        { "with a stored member of two sizes", Good.Add("m/x", Data, size: 97).ToArray(), "zip member 'm/x' is stored, but its sizes 96 and 97 differ" },
        { "with a member without header", Good.Add("m/x", Data, offset: 5).ToArray(), "zip member 'm/x' has no local header" },
        { "with members that overlap", new TestZip().Add("m/data.pkl", Pickle).Add("m/data/0", Data).Add("m/data/1", Data, offset: 0, compressedSize: 200, size: 200).ToArray(), "overlaps" },
        { "zip64 with a negative member", new TestZip { Zip64 = true }.Add("m/x", Data, size: -1, compressedSize: -1).ToArray(), "lies outside of the file" },
        { "a zip bomb", Good.Add("m/x", new byte[96 << 20], deflate: true).ToArray(), "this is no weight file but a zip bomb" },
        { "a bomb of many members", Enumerable.Range(0, 40).Aggregate(Good, (zip, i) => zip.Add($"m/{i}", new byte[1 << 20], deflate: true)).ToArray(), "but a zip bomb" },
        { "a zip64 bomb", new TestZip { Zip64 = true }.Add("m/x", Data, deflate: true, size: 1L << 60).ToArray(), "promises 1152921504606846976 bytes" },
        { "with a damaged pickle", new TestZip().Add("m/data.pkl", Pickle, crc: 1).Add("m/data/0", Data).ToArray(), "zip member 'm/data.pkl' is damaged: its checksum is" },
        { "with a pickle that inflates to less", new TestZip().Add("m/data.pkl", Pickle, deflate: true, size: 5000).ToArray(), "zip member 'm/data.pkl' inflates to" },
        { "with a pickle that inflates to more", new TestZip().Add("m/data.pkl", Pickle, deflate: true, size: 50).ToArray(), "zip member 'm/data.pkl' inflates to more than the 50 bytes" },
        { "with a pickle that cannot be inflated", new TestZip().Add("m/data.pkl", Data, method: 8).ToArray(), "zip member 'm/data.pkl'" },
        { "big-endian", Good.Add("m/byteorder", "big"u8).ToArray(), "the byte order is 'big', expected 'little'" },
        { "with a byte order of a gigabyte", Good.Add("m/byteorder", Data).ToArray(), "zip member 'm/byteorder' has 96 bytes, more than the 64 allowed" },
    };

    [Theory]
    [MemberData(nameof(Files))]
    public void A_file_that_is_no_honest_archive_is_refused(string what, byte[] bytes, string expected)
    {
        string path = Write("pytorch_model.bin", bytes);
        Assert.NotEmpty(what);
        AssertRefused(() => TorchArchive.Open(path).Dispose(), path, expected);
    }

    [Theory]
    [InlineData(24, false)]
    [InlineData(12, false)]
    [InlineData(24, true)]
    public void A_damaged_storage_names_its_tensor(int elements, bool deflate)
    {
        byte[] pickle = new TestPickle().OrderedDict().Items(p => p.Text("w").Tensor("FloatStorage", "0", 24, 0, [elements], [1])).Stop();
        string path = Write("pytorch_model.bin", new TestZip().Add("m/data.pkl", pickle).Add("m/data/0", Data, deflate, crc: 7).ToArray());
        using TorchArchive archive = TorchArchive.Open(path);
        AssertRefused(() => archive.ReadFloats("w", new float[elements]), path, "tensor 'w'", "zip member 'm/data/0' is damaged", "expected 00000007");
        AssertRefused(() => archive.ReadFloats("w", new float[elements]), path, "tensor 'w'", "is damaged");
    }

    [Fact]
    public void A_tensor_expanded_beyond_all_memory_is_listed_but_not_allocated()
    {
        byte[] pickle = new TestPickle().OrderedDict().Items(p => p.Text("w").Tensor("FloatStorage", "0", 24, 0, [1L << 40], [0])).Stop();
        string path = Write("pytorch_model.bin", new TestZip().Add("m/data.pkl", pickle).Add("m/data/0", Data).ToArray());
        using TorchArchive archive = TorchArchive.Open(path);
        AssertRefused(() => archive.ReadFloats("w", new float[24]), path, "tensor 'w': its shape [1099511627776] has 1099511627776 elements, expected 24");
    }

    [Fact]
    public void Random_damage_never_ends_in_another_exception()
    {
        byte[] stored = Good.ToArray(), deflated = new TestZip { Zip64 = true }.Add("m/data.pkl", Pickle, deflate: true).Add("m/data/0", Data, deflate: true).ToArray();
        Random random = new(2);
        int refused = 0;
        for (int round = 0; round < 400; round++)
        {
            byte[] bytes = (byte[])(round % 2 == 0 ? stored : deflated).Clone();
            for (int i = random.Next(1, 4); i > 0; i--) bytes[random.Next(bytes.Length)] = (byte)random.Next(256);
            string path = Write("pytorch_model.bin", bytes);
            try
            {
                using TorchArchive archive = TorchArchive.Open(path);
                foreach (TensorEntry entry in archive.Entries.Where(entry => entry.IsFloat && entry.Elements < 1000)) archive.ReadFloats(entry.Name, new float[entry.Elements]);
            }
            catch (BgeMetalException)
            {
                refused++;
            }
        }
        Assert.True(refused > 150, $"{refused} refused");
    }

    [Fact]
    public void Random_damage_of_the_pickle_alone_never_ends_in_another_exception()
    {
        byte[] good = new TestPickle(4).OrderedDict().Items(p => p.Text("w").Tensor("FloatStorage", "0", 24, 0, [4, 6], [1, 4])).Stop();
        Random random = new(3);
        int refused = 0;
        for (int round = 0; round < 20_000; round++)
        {
            byte[] bytes = (byte[])good.Clone();
            for (int i = random.Next(1, 4); i > 0; i--) bytes[random.Next(bytes.Length)] = (byte)random.Next(256);
            try { PickleReader.Read(bytes, "x.bin"); }
            catch (BgeMetalException) { refused++; }
        }
        Assert.True(refused > 5000, $"{refused} refused");
    }
}
