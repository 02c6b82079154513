using System.Runtime.InteropServices;
using BgeMetal.Checkpoints;

namespace BgeMetal.Tests.Checkpoints;

/// <summary>Good PyTorch files of every kind that torch.save writes give the right values.</summary>
public sealed class TorchArchiveTests : CheckpointFolder
{
    private static readonly float[] Numbers = [.. Enumerable.Range(0, 24).Select(i => (i * 0.5f) - 3)];

    private static byte[] NumberBytes => MemoryMarshal.AsBytes(Numbers.AsSpan()).ToArray();

    [Fact]
    public void Offsets_strides_and_shared_storages_are_followed()
    {
        byte[] pickle = new TestPickle().OrderedDict().Items(p => p
            .Text("whole").Tensor("FloatStorage", "0", 24, 0, [4, 6], [6, 1])
            .Text("transposed").Tensor("FloatStorage", "0", 24, 0, [6, 4], [1, 6])
            .Text("row").Tensor("FloatStorage", "0", 24, 12, [6], [1])
            .Text("column").Tensor("FloatStorage", "0", 24, 2, [4], [6])
            .Text("permuted").Tensor("FloatStorage", "0", 24, 0, [4, 2, 3], [1, 4, 8])
            .Text("expanded").Tensor("FloatStorage", "0", 24, 5, [3, 2], [0, 6])
            .Text("scalar").Tensor("FloatStorage", "0", 24, 7, [], [])
            .Text("one").Tensor("FloatStorage", "0", 24, 23, [1, 1], [99, 77])
            .Text("none").Tensor("FloatStorage", "0", 24, 24, [0, 5], [5, 1])).Stop();
        using TorchArchive archive = Open(new TestZip().Add("m/data.pkl", pickle).Add("m/data/0", NumberBytes));
        Assert.Equal(Numbers, ReadAll(archive, "whole"));
        Assert.Equal([.. from i in Enumerable.Range(0, 6) from j in Enumerable.Range(0, 4) select Numbers[i + (6 * j)]], ReadAll(archive, "transposed"));
        Assert.Equal(Numbers[12..18], ReadAll(archive, "row"));
        Assert.Equal([Numbers[2], Numbers[8], Numbers[14], Numbers[20]], ReadAll(archive, "column"));
        Assert.Equal([.. from i in Enumerable.Range(0, 4) from j in Enumerable.Range(0, 2) from k in Enumerable.Range(0, 3) select Numbers[i + (4 * j) + (8 * k)]], ReadAll(archive, "permuted"));
        Assert.Equal([Numbers[5], Numbers[11], Numbers[5], Numbers[11], Numbers[5], Numbers[11]], ReadAll(archive, "expanded"));
        Assert.Equal([Numbers[7]], ReadAll(archive, "scalar"));
        Assert.Equal([Numbers[23]], ReadAll(archive, "one"));
        Assert.Empty(ReadAll(archive, "none"));
    }

    [Fact]
    public void Half_precision_is_widened_and_integers_are_listed()
    {
        Half[] halves = [.. Numbers.Select(n => (Half)n)];
        ushort[] brains = [.. Numbers.Select(n => (ushort)(BitConverter.SingleToUInt32Bits(n) >> 16))];
        byte[] pickle = new TestPickle().OrderedDict().Items(p => p
            .Text("half").Tensor("HalfStorage", "0", 24, 0, [24], [1])
            .Text("brain").Tensor("BFloat16Storage", "1", 24, 0, [6, 4], [1, 6])
            .Text("ids").Tensor("LongStorage", "2", 3, 0, [1, 3], [3, 1])).Stop();
        using TorchArchive archive = Open(new TestZip().Add("m/data.pkl", pickle).Add("m/data/0", MemoryMarshal.AsBytes(halves.AsSpan()))
            .Add("m/data/1", MemoryMarshal.AsBytes(brains.AsSpan())).Add("m/data/2", new byte[24]));
        Assert.Equal(Numbers, ReadAll(archive, "half"));
        Assert.Equal([.. from i in Enumerable.Range(0, 6) from j in Enumerable.Range(0, 4) select Numbers[i + (6 * j)]], ReadAll(archive, "brain"));
        Assert.Equal("I64", archive.Get("ids").StorageType);
        Assert.False(archive.Get("ids").IsFloat);
    }

    [Theory]
    [InlineData(2)]
    [InlineData(4)]
    [InlineData(5)]
    public void Every_protocol_parameters_metadata_and_nested_dicts_are_understood(byte protocol)
    {
        byte[] pickle = new TestPickle(protocol).Raw('}').Items(p => p
            .Text("epoch").Integer(3)
            .Text("state_dict").OrderedDict().Raw('q', 1).Items(q => q
                .Text("w").Global("torch._utils", "_rebuild_parameter").Raw('(').Tensor("FloatStorage", "0", 24, 0, [24], [1]).Raw(0x88).OrderedDict().Raw('t').Raw('R')
                .Text("note").Text("not a tensor"))
            .Raw('}').Text("_metadata").OrderedDict().Raw('s').Raw('b')).Stop();
        using TorchArchive archive = Open(new TestZip().Add("m/data.pkl", pickle).Add("m/byteorder", "little"u8).Add("m/data/0", NumberBytes).Add("m/version", "3\n"u8));
        Assert.Equal("w", Assert.Single(archive.Entries).Name);
        Assert.Equal(Numbers, ReadAll(archive, "w"));
    }

    [Theory]
    [InlineData(false, false)]
    [InlineData(false, true)]
    [InlineData(true, false)]
    [InlineData(true, true)]
    public void Stored_and_deflated_members_and_zip64_are_read(bool zip64, bool deflate)
    {
        using TorchArchive archive = Open(new TestZip { Zip64 = zip64 }.Add("m/data.pkl", TestPickle.OneTensor(24), deflate).Add("m/data/0", NumberBytes, deflate));
        Assert.Equal(Numbers, ReadAll(archive, "w"));
        Assert.Equal(Numbers, ReadAll(archive, "w"));
    }

    [Fact]
    public void A_checksum_of_zero_means_that_none_was_computed()
    {
        using TorchArchive archive = Open(new TestZip().Add("m/data.pkl", TestPickle.OneTensor(24), crc: 0).Add("m/data/0", NumberBytes, crc: 0));
        Assert.Equal(Numbers, ReadAll(archive, "w"));
    }

    [Fact]
    public void Shards_of_PyTorch_files_are_found_through_their_index()
    {
        Write("pytorch_model-00001-of-00001.bin", new TestZip().Add("m/data.pkl", TestPickle.OneTensor(24)).Add("m/data/0", NumberBytes).ToArray());
        Write(WeightFiles.TorchIndex, "{\"weight_map\": {\"w\": \"pytorch_model-00001-of-00001.bin\"}}");
        using TensorSource shards = WeightFiles.Open(Folder);
        Assert.Equal(Numbers, ReadAll(shards, "w"));
    }

    [Fact]
    public void Safetensors_are_preferred_to_a_PyTorch_file()
    {
        Write("pytorch_model.bin", "junk");
        WriteSafetensors("""{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}""", 4);
        using TensorSource source = WeightFiles.Open(Folder);
        Assert.IsType<SafetensorsFile>(source);
    }

    [Fact]
    public void Many_threads_may_read_at_once()
    {
        byte[] pickle = new TestPickle().OrderedDict().Items(p => p
            .Text("a").Tensor("FloatStorage", "0", 24, 0, [4, 6], [6, 1]).Text("b").Tensor("FloatStorage", "0", 24, 0, [6, 4], [1, 6])).Stop();
        using TorchArchive archive = Open(new TestZip().Add("m/data.pkl", pickle).Add("m/data/0", NumberBytes, deflate: true));
        float[] expected = ReadAll(archive, "b");
        Parallel.For(0, 64, new ParallelOptions { MaxDegreeOfParallelism = 8 }, i =>
        {
            Assert.Equal(Numbers, ReadAll(archive, "a"));
            Assert.Equal(expected, ReadAll(archive, "b"));
        });
    }

    private TorchArchive Open(TestZip zip) => TorchArchive.Open(Write("pytorch_model.bin", zip.ToArray()));

    private static float[] ReadAll(TensorSource source, string name)
    {
        float[] values = new float[source.Get(name).Elements];
        values.AsSpan().Fill(float.NaN);
        source.ReadFloats(name, values);
        return values;
    }
}
