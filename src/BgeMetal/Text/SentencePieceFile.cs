using Google.Protobuf;

namespace BgeMetal.Text;

/// <summary>The parts of a SentencePiece model file that matter here, read from its protocol buffer by hand (sentencepiece_model.proto).</summary>
/// <param name="Pieces">The pieces with their scores, in order.</param>
/// <param name="CharacterMap">The compiled normalisation rules; empty if there are none.</param>
internal sealed record SentencePieceFile(IReadOnlyList<(string Piece, float Score)> Pieces, byte[] CharacterMap)
{
    private const long MaxBytes = 512L << 20;
    private const int Unigram = 1;
    private const string What = "cannot read the SentencePiece model";

    /// <summary>Reads a model file.</summary>
    /// <exception cref="BgeMetalException">The file is cut off or no model, is not of the unigram type, or a score is not finite.</exception>
    public static SentencePieceFile Read(string file)
    {
        try
        {
            if (new FileInfo(file).Length > MaxBytes) throw new BgeMetalException(What, $"more than {MaxBytes} bytes", file);
            return Parse(File.ReadAllBytes(file), file);
        }
        catch (InvalidProtocolBufferException e)
        {
            throw new BgeMetalException(What, $"the protocol buffer is damaged or cut off ({e.Message.Split(". ")[0].TrimEnd('.')})", file, innerException: e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new BgeMetalException(What, e.Message, file, innerException: e);
        }
    }

    private static SentencePieceFile Parse(byte[] bytes, string file)
    {
        CodedInputStream input = new(bytes);
        List<(string, float)> pieces = [];
        byte[] map = [];
        while (input.ReadTag() is var tag and not 0)
        {
            switch (tag)
            {
                case 1 << 3 | 2: pieces.Add(ReadPiece(input.ReadBytes().CreateCodedInput(), pieces.Count, file)); break;
                case 2 << 3 | 2: CheckTrainer(input.ReadBytes().CreateCodedInput(), file); break;
                case 3 << 3 | 2: map = ReadNormalizer(input.ReadBytes().CreateCodedInput()); break;
                default: input.SkipLastField(); break;
            }
        }
        return pieces.Count > 0 ? new SentencePieceFile(pieces, map) : throw new BgeMetalException(What, "it has no pieces", file);
    }

    private static (string, float) ReadPiece(CodedInputStream input, int index, string file)
    {
        (string? piece, float score) = (null, 0);
        while (input.ReadTag() is var tag and not 0)
        {
            switch (tag)
            {
                case 1 << 3 | 2: piece = input.ReadString(); break;
                case 2 << 3 | 5: score = input.ReadFloat(); break;
                default: input.SkipLastField(); break;
            }
        }
        if (piece is null) throw new BgeMetalException(What, $"piece {index} has no text", file);
        return float.IsFinite(score) ? (piece, score) : throw new BgeMetalException(What, $"the score of piece {index} ('{piece}') is not finite", file);
    }

    private static void CheckTrainer(CodedInputStream input, string file)
    {
        while (input.ReadTag() is var tag and not 0)
        {
            if (tag != (3 << 3 | 0)) input.SkipLastField();
            else if (input.ReadInt32() is var type && type != Unigram) throw new BgeMetalException(What, $"model type {type} is not supported, only 1 (unigram)", file);
        }
    }

    private static byte[] ReadNormalizer(CodedInputStream input)
    {
        byte[] map = [];
        while (input.ReadTag() is var tag and not 0)
        {
            if (tag == (2 << 3 | 2)) map = input.ReadBytes().ToByteArray();
            else input.SkipLastField();
        }
        return map;
    }
}
