using System.Text;

namespace BgeMetal.Text;

/// <summary>The parts of a SentencePiece model file that matter here, read from its protocol buffer by hand (sentencepiece_model.proto).</summary>
/// <param name="Pieces">The pieces with their scores, in order.</param>
/// <param name="CharacterMap">The compiled normalisation rules; empty if there are none.</param>
internal sealed record SentencePieceFile(IReadOnlyList<(string Piece, float Score)> Pieces, byte[] CharacterMap)
{
    private const long MaxBytes = 512L << 20;
    private const int Unigram = 1;
    private static readonly UTF8Encoding s_utf8 = new(false, throwOnInvalidBytes: true);
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
        catch (FormatException e)
        {
            throw new BgeMetalException(What, $"it is damaged or cut off: {e.Message}", file, innerException: e);
        }
        catch (DecoderFallbackException e)
        {
            throw new BgeMetalException(What, "a piece is not UTF-8", file, innerException: e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new BgeMetalException(What, e.Message, file, innerException: e);
        }
    }

    private static SentencePieceFile Parse(byte[] bytes, string file)
    {
        ProtobufReader reader = new(bytes);
        List<(string, float)> pieces = new(bytes.Length / 20);
        byte[] map = [];
        while (reader.Next())
        {
            if (reader.Field == 1) pieces.Add(ReadPiece(reader.Bytes, pieces.Count, file));
            else if (reader.Field == 2) CheckTrainer(reader.Bytes, file);
            else if (reader.Field == 3) map = ReadNormalizer(reader.Bytes);
        }
        return pieces.Count > 0 ? new SentencePieceFile(pieces, map) : throw new BgeMetalException(What, "it has no pieces", file);
    }

    private static (string, float) ReadPiece(ReadOnlySpan<byte> bytes, int index, string file)
    {
        ProtobufReader reader = new(bytes);
        (string? piece, float score) = (null, 0);
        while (reader.Next())
        {
            if (reader.Field == 1) piece = s_utf8.GetString(reader.Bytes);
            else if (reader.Field == 2) score = reader.Single();
        }
        if (piece is null) throw new BgeMetalException(What, $"piece {index} has no text", file);
        return float.IsFinite(score) ? (piece, score) : throw new BgeMetalException(What, $"the score of piece {index} ('{piece}') is not finite", file);
    }

    private static void CheckTrainer(ReadOnlySpan<byte> bytes, string file)
    {
        ProtobufReader reader = new(bytes);
        while (reader.Next())
            if (reader.Field == 3 && reader.Number != Unigram)
                throw new BgeMetalException(What, $"model type {reader.Number} is not supported, only 1 (unigram)", file);
    }

    private static byte[] ReadNormalizer(ReadOnlySpan<byte> bytes)
    {
        ProtobufReader reader = new(bytes);
        byte[] map = [];
        while (reader.Next())
            if (reader.Field == 2) map = reader.Bytes.ToArray();
        return map;
    }
}
