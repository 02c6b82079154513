using System.Text;
using BgeMetal.Checkpoints;

namespace BgeMetal.Tests.Checkpoints;

/// <summary>Every lie a safetensors file can tell ends in one line that names the file and the tensor or byte offset.</summary>
public sealed class HostileSafetensorsTests : CheckpointFolder
{
    [Theory]
    [InlineData("""{}""", 4, "4 bytes belong to no tensor")]
    [InlineData("""{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}""", 12, "tensor 'b': its bytes start at 4 and overlap")]
    [InlineData("""{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}""", 8, "tensor 'b': its bytes start at 0 and overlap")]
    [InlineData("""{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}""", 12, "tensor 'b': its bytes start at 8, but the tensor before ends at 4")]
    [InlineData("""{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}""", 15, "tensor 'a': its bytes 0 to 16 end after the file's 15 bytes")]
    [InlineData("""{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}""", 17, "1 bytes belong to no tensor")]
    [InlineData("""{"a":{"dtype":"F32","shape":[4],"data_offsets":[4,20]}}""", 20, "tensor 'a': its bytes start at 4")]
    [InlineData("""{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}""", 4, "tensor 'a': 'shape' holds '-1'")]
    [InlineData("""{"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}}""", 4, "tensor 'a': 'shape' holds '1.5'")]
    [InlineData("""{"a":{"dtype":"F32","shape":["1"],"data_offsets":[0,4]}}""", 4, "tensor 'a': 'shape' holds '1'")]
    [InlineData("""{"a":{"dtype":"F32","shape":[[1]],"data_offsets":[0,4]}}""", 4, "tensor 'a': 'shape' holds '['")]
    [InlineData("""{"a":{"dtype":"F32","shape":[9223372036854775808],"data_offsets":[0,4]}}""", 4, "tensor 'a': 'shape' holds '9223372036854775808'")]
    [InlineData("""{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}}""", 4, "tensor 'a': its shape [4294967296, 4294967296] has a negative extent or overflows")]
    [InlineData("""{"a":{"dtype":"F32","shape":[4611686018427387905],"data_offsets":[0,4]}}""", 4, "tensor 'a': its shape [4611686018427387905]")]
    [InlineData("""{"a":{"dtype":"F32","shape":[100000000000],"data_offsets":[0,400000000000]}}""", 4, "tensor 'a': its bytes 0 to 400000000000 end after")]
    [InlineData("""{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}""", 8, "tensor 'a': its data_offsets [0, 8] hold 8 bytes, but F32 [3] needs 12")]
    [InlineData("""{"a":{"dtype":"F16","shape":[4],"data_offsets":[0,16]}}""", 16, "tensor 'a': its data_offsets [0, 16] hold 16 bytes, but F16 [4] needs 8")]
    [InlineData("""{"a":{"dtype":"F4","shape":[3],"data_offsets":[0,2]}}""", 2, "tensor 'a': its data_offsets [0, 2] hold 2 bytes, but F4 [3] needs 2")]
    [InlineData("""{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}""", 4, "tensor 'a': its data_offsets [4, 0] are not a start and an end")]
    [InlineData("""{"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}}""", 4, "tensor 'a': 'data_offsets' holds '-4'")]
    [InlineData("""{"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}}""", 4, "tensor 'a': its data_offsets [0] are not a start and an end")]
    [InlineData("""{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}}""", 4, "tensor 'a': its data_offsets [0, 4, 8]")]
    [InlineData("""{"a":{"dtype":"FLOAT","shape":[1],"data_offsets":[0,4]}}""", 4, "tensor 'a': its dtype 'FLOAT' is not an element type")]
    [InlineData("""{"a":{"dtype":5,"shape":[1],"data_offsets":[0,4]}}""", 4, "byte 22: found Number, expected the name of an element type")]
    [InlineData("""{"a":{"shape":[1],"data_offsets":[0,4]}}""", 4, "tensor 'a': 'dtype' is missing")]
    [InlineData("""{"a":{"dtype":"F32","data_offsets":[0,4]}}""", 4, "tensor 'a': 'shape' is missing")]
    [InlineData("""{"a":{"dtype":"F32","shape":[1]}}""", 4, "tensor 'a': 'data_offsets' is missing")]
    [InlineData("""{"a":{"dtype":"F32","dtype":"F16","shape":[1],"data_offsets":[0,4]}}""", 4, "tensor 'a': the key 'dtype' is unknown or appears twice")]
    [InlineData("""{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1}}""", 4, "tensor 'a': the key 'x' is unknown")]
    [InlineData("""{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}""", 4, "tensor 'a': the name appears twice")]
    [InlineData("""{"a":5}""", 0, "byte 13: found Number, expected an object for tensor 'a'")]
    [InlineData("""{"__metadata__":5}""", 0, "'__metadata__' is not an object of texts")]
    [InlineData("""{"__metadata__":{"a":5}}""", 0, "byte 29: found Number, expected a text")]
    [InlineData("""{"__metadata__":{"a":"x","a":"y"}}""", 0, "the key 'a' appears twice in '__metadata__'")]
    [InlineData("""{"__metadata__":{},"__metadata__":{}}""", 0, "the key '__metadata__' appears twice")]
    [InlineData("""[]""", 0, "byte 8: the header does not start with '{'")]
    [InlineData("""  {}""", 0, "byte 8: the header does not start with '{'")]
    [InlineData("""{} {}""", 0, "the header is not valid JSON")]
    [InlineData("""{"a":""", 0, "the header is not valid JSON")]
    [InlineData("""{junk}""", 0, "byte 9: the header is not valid JSON")]
    [InlineData("""{"\ud800":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}""", 4, "the header is not valid JSON")]
    [InlineData("", 0, "byte 8: the header does not start with '{'")]
    public void A_lying_header_is_refused(string header, int dataBytes, string expected)
    {
        string path = WriteSafetensors(header, dataBytes);
        AssertRefused(() => SafetensorsFile.Open(path).Dispose(), path, expected);
    }

    [Theory]
    [InlineData(1ul << 62, "byte 0: the header length 4611686018427387904 is more than the 100000000 the format allows")]
    [InlineData(ulong.MaxValue, "byte 0: the header length 18446744073709551615")]
    [InlineData(100_000_000ul, "byte 0: the header length 100000000 is more than the 2 bytes that follow")]
    [InlineData(3ul, "byte 0: the header length 3 is more than the 2 bytes that follow")]
    public void A_header_length_beyond_the_file_is_refused_before_memory_is_taken(ulong length, string expected)
    {
        string path = Write("model.safetensors", [.. Length(length), .. "{}"u8]);
        AssertRefused(() => SafetensorsFile.Open(path).Dispose(), path, expected);
    }

    [Fact]
    public void An_empty_file_and_a_stub_of_seven_bytes_are_refused()
    {
        string empty = Write("empty.safetensors", ""), stub = Write("stub.safetensors", new byte[7]);
        AssertRefused(() => SafetensorsFile.Open(empty).Dispose(), empty, "the file has 0 bytes");
        AssertRefused(() => SafetensorsFile.Open(stub).Dispose(), stub, "the file has 7 bytes");
    }

    [Fact]
    public void A_Git_LFS_pointer_is_recognised()
    {
        string path = Write("model.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n");
        AssertRefused(() => SafetensorsFile.Open(path).Dispose(), path, "Git LFS pointer");
    }

    [Fact]
    public void A_header_that_nests_deeply_is_refused()
    {
        string path = WriteSafetensors("{\"a\":" + new string('[', 100_000), 0);
        AssertRefused(() => SafetensorsFile.Open(path).Dispose(), path, "tensor 'a'");
        path = WriteSafetensors("{\"a\":{\"dtype\":" + string.Concat(Enumerable.Repeat("{\"x\":", 50_000)), 0);
        AssertRefused(() => SafetensorsFile.Open(path).Dispose(), path, "byte 22");
    }

    [Fact]
    public void A_shape_of_many_axes_is_refused()
    {
        string path = WriteSafetensors("{\"a\":{\"dtype\":\"F32\",\"shape\":[" + string.Join(",", Enumerable.Repeat(1, 100_000)) + "],\"data_offsets\":[0,4]}}", 4);
        AssertRefused(() => SafetensorsFile.Open(path).Dispose(), path, "tensor 'a': 'shape' has more than 32 numbers");
    }

    [Fact]
    public void A_header_that_is_not_UTF8_is_refused()
    {
        string path = Write("model.safetensors", [.. Length(8), .. "{\"a"u8, 0xff, 0xfe, .. "\":1"u8]);
        AssertRefused(() => SafetensorsFile.Open(path).Dispose(), path, "not valid UTF-8");
    }

    [Fact]
    public void A_name_with_line_breaks_or_of_great_length_stays_one_short_line()
    {
        string path = WriteSafetensors("{\"a\\nb" + new string('x', 100_000) + "\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,8]}}", 8);
        AssertRefused(() => SafetensorsFile.Open(path).Dispose(), path, "tensor 'a?bxxx", "...'");
    }

    [Fact]
    public void A_file_that_is_cut_after_it_was_opened_names_the_tensor()
    {
        string path = WriteSafetensors("""{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}""", 16);
        using SafetensorsFile file = SafetensorsFile.Open(path);
        using (FileStream stream = new(path, FileMode.Open, FileAccess.Write, FileShare.ReadWrite)) stream.SetLength(stream.Length - 3);
        AssertRefused(() => file.ReadFloats("a", new float[4]), path, "tensor 'a': the file ends at byte");
    }

    [Fact]
    public void Reading_asks_for_the_right_name_type_and_size()
    {
        string path = WriteSafetensors("""{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"b":{"dtype":"I64","shape":[1],"data_offsets":[16,24]},"c":{"dtype":"F32","shape":[0],"data_offsets":[24,24]}}""", 24);
        using SafetensorsFile file = SafetensorsFile.Open(path);
        AssertRefused(() => file.ReadFloats("x", new float[4]), path, "tensor 'x': the checkpoint has no tensor of this name");
        AssertRefused(() => file.ReadFloats("a", new float[5]), path, "tensor 'a': its shape [4] has 4 elements, expected 5");
        AssertRefused(() => file.ReadFloats("b", new float[1]), path, "tensor 'b': its elements are I64");
        AssertRefused(() => file.Expect("a", 2, 2), path, "tensor 'a': its shape is [4], expected [2, 2]");
        AssertRefused(() => file.Expect("b", 1), path, "tensor 'b': its elements are I64");
        file.ReadFloats("c", []);
    }

    [Fact]
    public void Random_damage_never_ends_in_another_exception()
    {
        byte[] good = [.. Length(120), .. Encoding.UTF8.GetBytes("""{"__metadata__":{"format":"pt"},"a":{"dtype":"F16","shape":[2,4],"data_offsets":[0,16]}}""".PadRight(120)), .. new byte[16]];
        Random random = new(1);
        int refused = 0;
        for (int round = 0; round < 400; round++)
        {
            byte[] bytes = (byte[])good.Clone();
            for (int i = random.Next(1, 4); i > 0; i--) bytes[random.Next(bytes.Length)] = (byte)random.Next(256);
            string path = Write("model.safetensors", bytes.AsSpan(0, random.Next(4) == 0 ? random.Next(bytes.Length) : bytes.Length));
            try
            {
                using SafetensorsFile file = SafetensorsFile.Open(path);
                foreach (TensorEntry entry in file.Entries.Where(entry => entry.IsFloat)) file.ReadFloats(entry.Name, new float[entry.Elements]);
            }
            catch (BgeMetalException)
            {
                refused++;
            }
        }
        Assert.True(refused > 150, $"{refused} refused");
    }
}
