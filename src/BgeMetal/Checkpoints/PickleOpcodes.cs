namespace BgeMetal.Checkpoints;

/// <summary>The opcodes of Python's pickle protocols 2 to 5 that a state dict needs, by the names of Python's pickletools.</summary>
internal enum PickleOpcode : byte
{
    Mark = (byte)'(', Stop = (byte)'.', Pop = (byte)'0', PopMark = (byte)'1', BinFloat = (byte)'G', BinInt = (byte)'J', BinInt1 = (byte)'K',
    BinInt2 = (byte)'M', None = (byte)'N', BinPersId = (byte)'Q', Reduce = (byte)'R', BinString = (byte)'T', ShortBinString = (byte)'U',
    BinUnicode = (byte)'X', Append = (byte)'a', Build = (byte)'b', Global = (byte)'c', Appends = (byte)'e', BinGet = (byte)'h',
    LongBinGet = (byte)'j', BinPut = (byte)'q', LongBinPut = (byte)'r', SetItem = (byte)'s', Tuple = (byte)'t', SetItems = (byte)'u',
    EmptyTuple = (byte)')', EmptyList = (byte)']', EmptyDict = (byte)'}', List = (byte)'l', Dict = (byte)'d',
    Proto = 0x80, Tuple1 = 0x85, Tuple2 = 0x86, Tuple3 = 0x87, NewTrue = 0x88, NewFalse = 0x89, Long1 = 0x8a, Long4 = 0x8b,
    ShortBinUnicode = 0x8c, BinUnicode8 = 0x8d, StackGlobal = 0x93, Memoize = 0x94, Frame = 0x95,
}

/// <summary>Names of opcodes for messages, those that are refused too.</summary>
internal static class PickleOpcodes
{
    /// <summary>The name as in pickletools, with the byte's value.</summary>
    internal static string Describe(byte opcode)
    {
        string name = opcode switch
        {
            (byte)'i' => "INST",
            (byte)'o' => "OBJ",
            0x81 => "NEWOBJ",
            0x92 => "NEWOBJ_EX",
            0x82 => "EXT1",
            0x83 => "EXT2",
            0x84 => "EXT4",
            (byte)'P' => "PERSID",
            (byte)'B' => "BINBYTES",
            (byte)'C' => "SHORT_BINBYTES",
            0x8e => "BINBYTES8",
            0x8f => "EMPTY_SET",
            0x90 => "ADDITEMS",
            0x91 => "FROZENSET",
            0x96 => "BYTEARRAY8",
            0x97 => "NEXT_BUFFER",
            0x98 => "READONLY_BUFFER",
            (byte)'I' => "INT",
            (byte)'L' => "LONG",
            (byte)'S' => "STRING",
            (byte)'V' => "UNICODE",
            (byte)'F' => "FLOAT",
            (byte)'p' => "PUT",
            (byte)'g' => "GET",
            (byte)'2' => "DUP",
            _ => ((PickleOpcode)opcode).ToString().ToUpperInvariant(),
        };
        return $"opcode {name} (0x{opcode:x2})";
    }
}
