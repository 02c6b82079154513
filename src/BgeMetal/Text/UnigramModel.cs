namespace BgeMetal.Text;

/// <summary>
/// A unigram language model over pieces (Kudo 2018, "Subword Regularization"): of all ways to cut a text into pieces, the one with the largest sum of
/// log-probabilities, found by Viterbi. A character that is no piece by itself may be an unknown at the smallest score minus 10; neighbouring unknowns
/// become one token. Scores are added in double precision from the left and the first best wins, as in Hugging Face tokenizers.
/// </summary>
internal sealed class UnigramModel : TokenModel
{
    private const double UnknownPenalty = 10.0;
    private const int KeptNodes = 1 << 16;

    [ThreadStatic] private static Node[]? t_nodes;

    private readonly CharacterTrie _trie;
    private readonly int _root;
    private readonly double[] _scores;
    private readonly double _unknownScore;
    private readonly char _mark;
    private readonly PieceCache _cache = new();

    /// <summary>The best way to reach a position: its score, the token that ends there, and where that token starts (-1: not reached yet).</summary>
    private record struct Node(double Score, int Id, int Start);

    /// <param name="tokens">The piece of each id.</param>
    /// <param name="scores">The log-probability of each piece.</param>
    /// <param name="unkId">The id of the unknown token.</param>
    /// <param name="mark">The character that stands for a blank in pieces, for joining tokens to text.</param>
    /// <exception cref="InvalidOperationException">A piece is there twice, or there are too many.</exception>
    public UnigramModel(string?[] tokens, double[] scores, int unkId, char mark) : base(tokens, unkId)
    {
        (_scores, _mark) = (scores, mark);
        _trie = new CharacterTrie(2 * tokens.Length);
        _root = _trie.AddRoot();
        for (int id = 0; id < tokens.Length; id++)
            if (tokens[id] is { Length: > 0 } token && !_trie.TryAdd(_root, token, id)) throw Twice(token, id);
        _unknownScore = scores.Min() - UnknownPenalty;
    }

    /// <inheritdoc/>
    public override int Find(ReadOnlySpan<char> token) => _trie.Find(_root, token);

    /// <inheritdoc/>
    public override void Encode(ReadOnlySpan<char> piece, ref TokenBuffer ids, List<int>? ends)
    {
        if (ends is null && _cache.TryAppend(piece, ref ids)) return;
        int before = ids.Count;
        Node[] nodes = t_nodes is { } kept && kept.Length > piece.Length ? kept : new Node[Math.Max(256, piece.Length + 1)];
        if (nodes.Length <= KeptNodes) t_nodes = nodes;
        FindBest(piece, nodes);
        Collect(piece, nodes, ref ids, ends);
        if (ends is null) _cache.Remember(piece, ids.Ids[before..]);
    }

    /// <inheritdoc/>
    public override string Display(int id, string piece) => piece;

    /// <inheritdoc/>
    public override string Join(IReadOnlyList<string> tokens)
    {
        string text = string.Concat(tokens).Replace(_mark, ' ');
        return tokens.Count > 0 && tokens[0].StartsWith(_mark) ? text[1..] : text;
    }

    private void FindBest(ReadOnlySpan<char> piece, Node[] nodes)
    {
        CharacterTrie trie = _trie;
        double[] scores = _scores;
        for (int i = 0; i <= piece.Length; i++) nodes[i].Start = -1;
        nodes[0].Score = 0;
        int width;
        for (int start = 0; start < piece.Length; start += width)
        {
            width = char.IsHighSurrogate(piece[start]) && start + 1 < piece.Length ? 2 : 1;
            double before = nodes[start].Score;
            bool single = false;
            int node = _root;
            for (int i = start; i < piece.Length;)
            {
                node = trie.Child(node, piece[i++]);
                if (node < 0) break;
                int id = trie.Value(node);
                if (id < 0) continue;
                Offer(ref nodes[i], before + scores[id], id, start);
                single |= i - start == width;
            }
            if (!single) Offer(ref nodes[start + width], before + _unknownScore, UnkId, start);
        }
    }

    private static void Offer(ref Node node, double score, int id, int start)
    {
        if (node.Start >= 0 && score <= node.Score) return;
        node.Score = score;
        node.Id = id;
        node.Start = start;
    }

    /// <summary>Follows the best path back, joining unknowns, and appends its tokens in order.</summary>
    private void Collect(ReadOnlySpan<char> piece, Node[] nodes, ref TokenBuffer ids, List<int>? ends)
    {
        int count = 0, unk = UnkId;
        for (int end = piece.Length; end > 0; count++) end = TokenStart(nodes, end, unk);
        Span<int> appended = ids.Append(count);
        int firstEnd = ends?.Count ?? 0;
        for (int end = piece.Length; end > 0;)
        {
            int start = TokenStart(nodes, end, unk), id = nodes[end].Id;
            if (id == unk && start != nodes[end].Start && Find(piece[start..end]) is var joined and >= 0) id = joined;
            appended[--count] = id;
            ends?.Add(end);
            end = start;
        }
        ends?.Reverse(firstEnd, ends.Count - firstEnd);
    }

    private static int TokenStart(Node[] nodes, int end, int unk)
    {
        int start = nodes[end].Start;
        if (nodes[end].Id != unk) return start;
        while (start > 0 && nodes[start].Id == unk) start = nodes[start].Start;
        return start;
    }
}
