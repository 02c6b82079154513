using BgeMetal.Checkpoints;

namespace BgeMetal.Tests.Checkpoints;

/// <summary>Zip files and pickles that lie, explode or try to run something end in one line; nothing is run and little memory is taken.</summary>
public sealed class HostileTorchTests : CheckpointFolder
{
    private static readonly byte[] Data = [.. Enumerable.Range(0, 96).Select(i => (byte)i)];

    /// <summary>Pickles, by what is wrong with them.</summary>
    public static TheoryData<string, byte[], string> Pickles => new()
    {
        { "calls os.system", new TestPickle().Global("os", "system").Text("echo").Raw(0x85).Raw('R').Stop(), "data.pkl byte 2: the pickle names 'os.system', which is not allowed" },
        { "calls posix.system by protocol 4", new TestPickle(4).Global("posix", "system").Stop(), "the pickle names 'posix.system'" },
        { "calls eval", new TestPickle().Global("builtins", "eval").Stop(), "'builtins.eval'" },
        { "names a part of an allowed module", new TestPickle().Global("torch._utils", "_rebuild_tensor_v3").Stop(), "'torch._utils._rebuild_tensor_v3'" },
        { "names a member of an allowed class", new TestPickle(4).Global("collections", "OrderedDict.fromkeys").Stop(), "'collections.OrderedDict.fromkeys'" },
        { "names an unknown storage", new TestPickle().Global("torch", "QInt8Storage").Stop(), "'torch.QInt8Storage'" },
        { "instantiates", new TestPickle().Raw('(').Raw('i').Raw("os\nsystem\n"u8).Stop(), "opcode INST (0x69) is not allowed" },
        { "makes a new object", new TestPickle().Global("collections", "OrderedDict").Raw(')').Raw(0x81).Stop(), "opcode NEWOBJ (0x81) is not allowed" },
        { "uses an extension", new TestPickle().Raw(0x82, 1).Stop(), "opcode EXT1 (0x82)" },
        { "asks for a buffer", new TestPickle(5).Raw(0x97).Stop(), "opcode NEXT_BUFFER (0x97)" },
        { "has an unknown opcode", new TestPickle().Raw(0xff).Stop(), "data.pkl byte 2: opcode 255 (0xff)" },
        { "is of protocol 1", new TestPickle(1).Stop(), "pickle protocol 1, expected 2 to 5" },
        { "is of protocol 9", new TestPickle(9).Stop(), "pickle protocol 9" },
        { "is empty", [], "data.pkl byte 0: 1 bytes are wanted, but only 0 are left" },
        { "does not stop", [0x80, 2, (byte)'N'], "data.pkl byte 3: 1 bytes are wanted" },
        { "leaves nothing", new TestPickle().Stop(), "the pickle ends with 0 objects" },
        { "leaves two objects", new TestPickle().Raw('N').Raw('N').Stop(), "the pickle ends with 2 objects" },
        { "leaves a mark", new TestPickle().Raw('N').Raw('(').Stop(), "the pickle ends with" },
        { "is no dict", new TestPickle().Integer(5).Stop(), "data.pkl holds no state dict" },
        { "is an empty dict", new TestPickle().Raw('}').Stop(), "data.pkl holds a dict without tensors" },
        { "pops from an empty stack", new TestPickle().Raw('0').Stop(), "takes an object from an empty stack" },
        { "pops below a mark", new TestPickle().Raw('N').Raw('(').Raw('0').Stop(), "takes an object from an empty stack" },
        { "goes back to no mark", new TestPickle().Raw('t').Stop(), "a mark that was never set" },
        { "recalls what it never stored", new TestPickle().Raw('h', 7).Stop(), "recalls object 7" },
        { "sets half an item", new TestPickle().Raw('}').Raw('(').Text("a").Raw('u').Stop(), "a key without a value" },
        { "sets an item of a list", new TestPickle().Raw(']').Text("a").Raw('N').Raw('s').Stop(), "an operation expects a dict" },
        { "appends to a dict", new TestPickle().Raw('}').Text("a").Raw('a').Stop(), "an operation expects a list" },
        { "has a LONG4 of negative length", new TestPickle().Raw(0x8b, 0xff, 0xff, 0xff, 0xff).Stop(), "data.pkl byte 2: an integer of -1 bytes" },
        { "has a LONG4 of great length", new TestPickle().Raw(0x8b, 0xff, 0xff, 0xff, 0x7f).Stop(), "an integer of 2147483647 bytes" },
        { "has a LONG1 of 200 bytes", new TestPickle().Raw(0x8a, 200).Stop(), "an integer of 200 bytes" },
        { "has a text of 4 GB", new TestPickle().Raw((byte)'X', 0xff, 0xff, 0xff, 0xff).Stop(), "4294967295 bytes are wanted" },
        { "has a text of negative length", new TestPickle().Raw([0x8d, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]).Stop(), "a length of -1 is negative" },
        { "has a text of 2^62 bytes", new TestPickle().Raw([0x8d, 0, 0, 0, 0, 0, 0, 0, 0x40]).Stop(), "4611686018427387904 bytes are wanted" },
        { "has a string of negative length", new TestPickle().Raw((byte)'T', 0xff, 0xff, 0xff, 0xff).Stop(), "a length of -1 is negative" },
        { "has a text that is not UTF-8", new TestPickle().Raw((byte)'X', 1, 0, 0, 0, 0xff).Stop(), "a text is not valid UTF-8" },
        { "has a name without end", new TestPickle().Raw('c').Raw("torch"u8).Stop(), "a global's name does not end" },
        { "calls a number", new TestPickle().Integer(1).Raw(')').Raw('R').Stop(), "calls something that is not a function" },
        { "calls a storage type", new TestPickle().Global("torch", "FloatStorage").Raw(')').Raw('R').Stop(), "calls FloatStorage, which is not a function" },
        { "calls with a number", new TestPickle().Global("collections", "OrderedDict").Integer(1).Raw('R').Stop(), "the arguments of collections.OrderedDict are not a tuple" },
        { "makes a dict of a number", new TestPickle().Global("collections", "OrderedDict").Tuple(1).Raw('R').Stop(), "not a list of pairs" },
        { "makes a tensor of nothing", new TestPickle().Global("torch._utils", "_rebuild_tensor_v2").Raw(')').Raw('R').Stop(), "a tensor is not made of" },
        { "makes a parameter of nothing", new TestPickle().Global("torch._utils", "_rebuild_parameter").Raw(')').Raw('R').Stop(), "not a tensor" },
        { "builds a number", new TestPickle().Integer(1).Raw('}').Raw('b').Stop(), "sets the state of something that is not an OrderedDict" },
        { "has another persistent id", new TestPickle().Tuple(1, 2).Raw('Q').Stop(), "a persistent id is not" },
        { "has a storage of negative size", new TestPickle().Storage("FloatStorage", "0", -1).Stop(), "storage '0' has -1 elements" },
        { "has a storage of 2^62 elements", new TestPickle().Storage("FloatStorage", "0", 1L << 62).Stop(), "storage '0' has 4611686018427387904 elements" },
        { "has one storage of two sizes", new TestPickle().Storage("FloatStorage", "0", 24).Storage("FloatStorage", "0", 25).Stop(), "storage '0' is 25 F32 here and 24 F32 before" },
        { "has one storage of two types", new TestPickle().Storage("FloatStorage", "0", 24).Storage("IntStorage", "0", 24).Stop(), "storage '0' is 24 I32 here and 24 F32 before" },
        { "has a tensor before its storage", Tensor(24, -1, [2], [1]), "the tensor's offset -1 lies outside of storage '0'" },
        { "has a tensor behind its storage", Tensor(24, 25, [0], [1]), "the tensor's offset 25 lies outside" },
        { "has a tensor that leaves its storage", Tensor(24, 20, [5], [1]), "lies at 24 in storage '0' with 24 elements" },
        { "has a stride that leaves its storage", Tensor(24, 0, [4, 6], [8, 1]), "lies at 29 in storage '0' with 24 elements" },
        { "has a stride that overflows", Tensor(24, 0, [3, 3], [long.MaxValue, long.MaxValue]), "in storage '0' with 24 elements" },
        { "has a negative stride", Tensor(24, 4, [2], [-1]), "the tensor's stride [-1] is negative" },
        { "has a negative size", Tensor(24, 0, [-2], [1]), "the tensor's size [-2] has a negative extent" },
        { "has a size that overflows", Tensor(24, 0, [1L << 40, 1L << 40], [0, 0]), "has a negative extent or overflows" },
        { "has fewer strides than sizes", Tensor(24, 0, [2, 2], [1]), "2 sizes and 1 strides" },
        { "has a tensor of 40 axes", Tensor(24, 0, [.. Enumerable.Repeat(1L, 40)], [.. Enumerable.Repeat(1L, 40)]), "40 sizes and 40 strides" },
        { "names a storage that is missing", Dict(p => p.Text("w").Tensor("FloatStorage", "../0", 24, 0, [24], [1])), "tensor 'w': its storage '../0' is missing" },
        { "lies about its storage's size", Tensor(1_000_000_000, 0, [1_000_000_000], [1]), "tensor 'w': its storage '0' has 96 bytes, but 1000000000 elements of F32 need 4000000000" },
        { "has a tensor twice", Dict(p => p.Text("w").Tensor("FloatStorage", "0", 24, 0, [24], [1]).Text("w").Tensor("FloatStorage", "0", 24, 0, [2], [1])), "tensor 'w': the name appears twice" },
        { "has a number as a name", Dict(p => p.Integer(1).Tensor("FloatStorage", "0", 24, 0, [24], [1])), "a name that is not a text" },
        { "nests marks deeply", new TestPickle().Raw(Enumerable.Repeat((byte)'(', 100_000).ToArray()).Stop(), "nests more than 1000 deep" },
    };

    [Theory]
    [MemberData(nameof(Pickles))]
    public void A_pickle_that_does_wrong_is_refused(string what, byte[] pickle, string expected)
    {
        string path = Write("pytorch_model.bin", new TestZip().Add("m/data.pkl", pickle).Add("m/data/0", Data).ToArray());
        Assert.NotEmpty(what);
        AssertRefused(() => TorchArchive.Open(path).Dispose(), path, expected);
    }

    [Fact]
    public void Deeply_nested_objects_neither_overflow_the_stack_nor_the_memory()
    {
        byte[] tuples = new TestPickle().Raw('N').Raw(Enumerable.Repeat((byte)0x85, 20_000).ToArray()).Stop();
        string path = Write("pytorch_model.bin", new TestZip().Add("m/data.pkl", tuples).ToArray());
        AssertRefused(() => TorchArchive.Open(path).Dispose(), path, "data.pkl holds no state dict");
    }

    [Fact]
    public void Memo_stack_and_copy_bombs_are_stopped()
    {
        // A list of 1,000 pairs that is copied into a dict 100,000 times.
        TestPickle copies = new TestPickle().Raw(']').Raw('(');
        for (int i = 0; i < 1000; i++) copies.Raw('K', 1).Raw('N').Raw(0x86);
        copies.Raw('e').Raw(0x85).Raw('q', 0);
        for (int i = 0; i < 100_000; i++) copies.Global("collections", "OrderedDict").Raw('h', 0).Raw('R').Raw('0');
        AssertBomb(copies.Stop(), "pairs into dicts", 96L << 20);
        AssertBomb(new TestPickle().Raw(Enumerable.Repeat((byte)'N', 1_100_000).ToArray()).Stop(), "keeps more than 1000000 objects", 64L << 20);
        AssertBomb(new TestPickle().Raw([.. Enumerable.Repeat((byte[])[(byte)'N', (byte)'0'], 1_100_000).SelectMany(b => b)]).Stop(), "more than 2000000 operations", 16L << 20);
        AssertBomb(new byte[17 << 20], "more than the 16777216 allowed", 1L << 20);
    }

    private void AssertBomb(byte[] pickle, string expected, long mostBytes)
    {
        string path = Write("pytorch_model.bin", new TestZip().Add("m/data.pkl", pickle).ToArray());
        long before = GC.GetAllocatedBytesForCurrentThread();
        BgeMetalException error = Assert.Throws<BgeMetalException>(() => TorchArchive.Open(path).Dispose());
        Assert.Contains(expected, error.Message, StringComparison.Ordinal);
        Assert.Contains(path, error.Message, StringComparison.Ordinal);
        Assert.True(GC.GetAllocatedBytesForCurrentThread() - before < mostBytes, $"{GC.GetAllocatedBytesForCurrentThread() - before} bytes");
    }

    private static byte[] Dict(Action<TestPickle> pairs) => new TestPickle().OrderedDict().Items(pairs).Stop();

    private static byte[] Tensor(long storage, long offset, long[] shape, long[] strides) => Dict(p => p.Text("w").Tensor("FloatStorage", "0", storage, offset, shape, strides));
}
