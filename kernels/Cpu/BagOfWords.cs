using BgeMetal.Kernels.Simd;

namespace BgeMetal.Kernels.Cpu;

/// <summary>
/// The bag-of-words loss of DupMAE (Xiao et al., arXiv:2211.08769, equations 6 to 8). The score of output v for a text is the largest that any of its tokens
/// gives, mu[b, v] = max over its rows i of x[i] . W[v] + bias[v], and the text's words are to be likely under softmax(mu[b]). The [tokens, vocabulary]
/// scores never exist: tiles of 12 tokens by 256 outputs pass by, and the maximum and the token it came from stay, [texts, vocabulary] of each. A score's gradient
/// goes to that one token, of equals the first, so the backward pass is short.
/// Cost: forward 2 T V D FLOP; backward 4 B V D. Sums are cut by the shape alone, never by the number of threads.
/// </summary>
public static unsafe class BagOfWords
{
    private const int ColumnBlock = ScoreSoftmax.ColumnBlock;

    /// <summary>The mean over the texts of -wordWeights[b] * (sum over its words w of log softmax(mu[b])[w]); a text without words or tokens has loss 0.</summary>
    /// <param name="team">Who works; the result does not depend on it.</param>
    /// <param name="x">[rows, dim], rows <paramref name="ldx"/> floats apart.</param>
    /// <param name="ldx">At least dim.</param>
    /// <param name="dim">Columns, at least 1.</param>
    /// <param name="cuSeqlens">[texts + 1]: text b is the rows cuSeqlens[b] .. cuSeqlens[b + 1].</param>
    /// <param name="texts">Texts; 0 gives a loss of 0.</param>
    /// <param name="skipped">Rows at each text's start that take no part: 1 leaves the CLS vector out.</param>
    /// <param name="weight">[vocabulary, dim], row-major as it is stored.</param>
    /// <param name="ldWeight">At least dim.</param>
    /// <param name="vocabulary">Outputs, at least 1.</param>
    /// <param name="bias">[vocabulary], or null.</param>
    /// <param name="words">The texts' words back to back, each text's distinct.</param>
    /// <param name="wordOffsets">[texts + 1]: text b's words are wordOffsets[b] .. wordOffsets[b + 1] of them.</param>
    /// <param name="wordWeights">[texts]: what a word of text b weighs.</param>
    /// <param name="maxima">[texts, vocabulary] receives mu; 0 for a text without tokens.</param>
    /// <param name="ldMaxima">At least the vocabulary rounded up to 16: the backward pass overwrites these floats behind a row.</param>
    /// <param name="tokens">[texts, vocabulary], dense, receives the row of x that each came from; -1 for a text without tokens.</param>
    /// <param name="logSumExp">[texts] for the backward pass.</param>
    /// <param name="textLoss">[texts] receives each text's loss.</param>
    /// <returns>The mean, added up in order in double precision. NaN when a score is not finite.</returns>
    /// <exception cref="ArgumentOutOfRangeException">A size or word is out of range.</exception>
    public static float Forward(
        WorkerTeam team, float* x, int ldx, int dim, int* cuSeqlens, int texts, int skipped, float* weight, int ldWeight, int vocabulary, float* bias,
        int* words, int* wordOffsets, float* wordWeights, float* maxima, int ldMaxima, int* tokens, float* logSumExp, float* textLoss)
    {
        Check(team, ldx, dim, texts, ldWeight, vocabulary, ldMaxima);
        ArgumentOutOfRangeException.ThrowIfNegative(skipped);
        for (int i = 0; i < (texts == 0 ? 0 : wordOffsets[texts]); i++)
            if ((uint)words[i] >= (uint)vocabulary) throw new ArgumentOutOfRangeException($"the word {words[i]} is not below {vocabulary}", (Exception?)null);
        if (texts == 0) return 0f;
        ScoreSoftmax scores = new() { X = x, StrideX = ldx, Y = weight, StrideY = ldWeight, Columns = vocabulary, Dim = dim, Bias = bias, Factor = 1f };
        int blocks = (vocabulary + ColumnBlock - 1) / ColumnBlock;
        MaximaJob job = new()
        {
            Scores = scores,
            CuSeqlens = cuSeqlens,
            Texts = texts,
            Skipped = skipped,
            Maxima = maxima,
            StrideMaxima = ldMaxima,
            Tokens = tokens,
            Partial = ThreadScratch.RunFloats(2L * blocks * texts),
        };
        team.Run(ref job, blocks);
        double sum = 0;
        for (int b = 0; b < texts; b++)
        {
            logSumExp[b] = job.LogSumExp(b, blocks);
            double loss = 0;
            for (int i = wordOffsets[b]; i < wordOffsets[b + 1] && job.HasTokens(b); i++) loss += (double)logSumExp[b] - maxima[((nint)b * ldMaxima) + words[i]];
            textLoss[b] = (float)(loss * wordWeights[b]);
            sum += textLoss[b];
        }
        return (float)(sum / texts);
    }

    /// <summary>dx (stored or added), dweight and dbias (added). The maxima become their gradients.</summary>
    /// <param name="team">Who works; the result does not depend on it.</param>
    /// <param name="x">As in the forward pass.</param>
    /// <param name="ldx">At least dim.</param>
    /// <param name="dim">Columns.</param>
    /// <param name="cuSeqlens">[texts + 1].</param>
    /// <param name="texts">Texts.</param>
    /// <param name="weight">As in the forward pass.</param>
    /// <param name="ldWeight">At least dim.</param>
    /// <param name="vocabulary">Outputs.</param>
    /// <param name="words">As in the forward pass.</param>
    /// <param name="wordOffsets">[texts + 1].</param>
    /// <param name="wordWeights">[texts].</param>
    /// <param name="maxima">From the forward pass; overwritten.</param>
    /// <param name="ldMaxima">As in the forward pass.</param>
    /// <param name="tokens">From the forward pass.</param>
    /// <param name="logSumExp">From the forward pass.</param>
    /// <param name="lossGradient">The gradient of the mean loss.</param>
    /// <param name="dx">[rows, dim]; rows that gave no maximum get 0.</param>
    /// <param name="lddx">At least dim.</param>
    /// <param name="accumulateDx">Adds to dx instead of storing.</param>
    /// <param name="dweight">[vocabulary, dim], added to.</param>
    /// <param name="lddWeight">At least dim.</param>
    /// <param name="dbias">[vocabulary], added to, or null.</param>
    /// <exception cref="ArgumentOutOfRangeException">A size is out of range.</exception>
    public static void Backward(
        WorkerTeam team, float* x, int ldx, int dim, int* cuSeqlens, int texts, float* weight, int ldWeight, int vocabulary,
        int* words, int* wordOffsets, float* wordWeights, float* maxima, int ldMaxima, int* tokens, float* logSumExp, float lossGradient,
        float* dx, int lddx, bool accumulateDx, float* dweight, int lddWeight, float* dbias)
    {
        Check(team, ldx, dim, texts, ldWeight, vocabulary, ldMaxima);
        ArgumentOutOfRangeException.ThrowIfLessThan(lddx, dim);
        ArgumentOutOfRangeException.ThrowIfLessThan(lddWeight, dim);
        if (texts == 0) return;
        ScoreJob scores = new()
        {
            Words = words,
            WordOffsets = wordOffsets,
            WordWeights = wordWeights,
            LogSumExp = logSumExp,
            Gradient = lossGradient / texts,
            Maxima = maxima,
            StrideMaxima = ldMaxima,
            Vocabulary = vocabulary,
        };
        team.Run(ref scores, texts);
        Gradients gradients = new() { Texts = texts, Vocabulary = vocabulary, Dim = dim, Scores = maxima, StrideScores = ldMaxima, Tokens = tokens };
        WeightJob weights = new() { Of = gradients, X = x, StrideX = ldx, Dweight = dweight, StrideDweight = lddWeight, Dbias = dbias };
        team.Run(ref weights, (vocabulary + WeightJob.RowsAPart - 1) / WeightJob.RowsAPart);
        InputJob inputs = new() { Of = gradients, CuSeqlens = cuSeqlens, Weight = weight, StrideWeight = ldWeight, Dx = dx, StrideDx = lddx, Accumulate = accumulateDx };
        team.Run(ref inputs, checked(texts * inputs.Ranges));
    }

    private static void Check(WorkerTeam team, int ldx, int dim, int texts, int ldWeight, int vocabulary, int ldMaxima)
    {
        ArgumentNullException.ThrowIfNull(team);
        ArgumentOutOfRangeException.ThrowIfNegative(texts);
        ArgumentOutOfRangeException.ThrowIfLessThan(dim, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(vocabulary, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(ldx, dim);
        ArgumentOutOfRangeException.ThrowIfLessThan(ldWeight, dim);
        ArgumentOutOfRangeException.ThrowIfLessThan(ldMaxima, (vocabulary + Lanes.Count - 1) / Lanes.Count * Lanes.Count);
    }

    /// <summary>One part is a block of outputs, whose vectors are transposed once, against all texts.</summary>
    private struct MaximaJob : ITeamJob
    {
        private const int Stride = ColumnBlock + 16;

        public ScoreSoftmax Scores;
        public int* CuSeqlens;
        public int Texts;
        public int Skipped;
        public float* Maxima;
        public nint StrideMaxima;
        public int* Tokens;
        public float* Partial;                            // [blocks][2][texts]: the largest score, the sum of exponentials

        public readonly bool HasTokens(int text) => CuSeqlens[text + 1] - CuSeqlens[text] > Skipped;

        public readonly void Execute(int part, int worker)
        {
            int first = part * ColumnBlock, columns = Math.Min(ColumnBlock, Scores.Columns - first), padded = (columns + Lanes.Count - 1) / Lanes.Count * Lanes.Count;
            float* panels = ThreadScratch.Floats(((long)ColumnBlock * Scores.Dim) + (Tiles.MaxRows * Stride) + (4 * ColumnBlock));
            float* scores = panels + ((nint)ColumnBlock * Scores.Dim), start = scores + (Tiles.MaxRows * Stride);
            float* max = start + ColumnBlock, row = max + ColumnBlock, trouble = row + ColumnBlock;
            ScorePanels.PackColumns(in Scores, first, columns, panels, start);
            for (int text = 0; text < Texts; text++)
            {
                new Span<float>(max, padded).Fill(HasTokens(text) ? float.NegativeInfinity : 0f);
                new Span<float>(row, 2 * ColumnBlock).Clear();
                int from = CuSeqlens[text] + Skipped, to = CuSeqlens[text + 1];
                for (int at = from, rows; at < to; at += rows)
                {
                    rows = Tiles.Next(to - at);
                    ScorePanels.Strip(in Scores, at, rows, columns, panels, start, scores, Stride);
                    ColumnMaxima.Update(scores, Stride, rows, padded, at - from, max, row, trouble);
                }
                float* maxima = Maxima + (text * StrideMaxima) + first;
                int* tokens = Tokens + ((nint)text * Scores.Columns) + first;
                for (int j = 0; j < columns; j++)
                {
                    scores[j] = maxima[j] = max[j] + trouble[j];
                    tokens[j] = HasTokens(text) ? from + (int)row[j] : -1;
                }
                Sum(scores, columns, part, text);
            }
        }

        private readonly void Sum(float* scores, int columns, int part, int text)
        {
            float shrink, max = float.NegativeInfinity, sum = 0f;
            SoftmaxStrip.Exponentials(scores, Stride, 1, columns, VectorMath.Log2E, &max, &sum, &shrink);
            float* partial = Partial + (2 * (nint)part * Texts) + text;
            partial[0] = max;
            partial[Texts] = sum;
        }

        /// <summary>Puts a text's blocks together, in their order.</summary>
        public readonly float LogSumExp(int text, int blocks)
        {
            float largest = float.NegativeInfinity;
            double sum = 0;
            for (int block = 0; block < blocks; block++) largest = Math.Max(largest, Partial[(2 * (nint)block * Texts) + text]);
            for (int block = 0; block < blocks; block++)
            {
                float* partial = Partial + (2 * (nint)block * Texts) + text;
                sum += partial[Texts] * Math.Exp((double)partial[0] - largest);
            }
            return (float)(largest + Math.Log(sum));
        }
    }

    /// <summary>One part turns the maxima of one text into their gradients: weight * (number of words * softmax - 1 at each word).</summary>
    private struct ScoreJob : ITeamJob
    {
        public int* Words;
        public int* WordOffsets;
        public float* WordWeights;
        public float* LogSumExp;
        public float Gradient;
        public float* Maxima;
        public nint StrideMaxima;
        public int Vocabulary;

        public readonly void Execute(int part, int worker)
        {
            float* maxima = Maxima + (part * StrideMaxima);
            float one = WordWeights[part] * Gradient, log = LogSumExp[part] * VectorMath.Log2E;
            int count = WordOffsets[part + 1] - WordOffsets[part];
            if (count == 0)
            {
                new Span<float>(maxima, Vocabulary).Clear();
                return;
            }
            SoftmaxGradient.ByRow(maxima, StrideMaxima, 1, Vocabulary, VectorMath.Log2E, &log, count * one);
            for (int i = WordOffsets[part]; i < WordOffsets[part + 1]; i++) maxima[Words[i]] -= one;
        }
    }

    /// <summary>What the last two steps read.</summary>
    private struct Gradients
    {
        public int Texts;
        public int Vocabulary;
        public int Dim;
        public float* Scores;                             // [texts, vocabulary]: gradients of the maxima
        public nint StrideScores;
        public int* Tokens;                               // [texts, vocabulary]

        public readonly float Score(int text, int output) => Scores[(text * StrideScores) + output];

        public readonly int Token(int text, int output) => Tokens[((nint)text * Vocabulary) + output];
    }

    /// <summary>One part is a range of outputs, which it owns.</summary>
    private struct WeightJob : ITeamJob
    {
        public const int RowsAPart = 128;

        public Gradients Of;
        public float* X;
        public nint StrideX;
        public float* Dweight;
        public nint StrideDweight;
        public float* Dbias;

        public readonly void Execute(int part, int worker)
        {
            int end = Math.Min(Of.Vocabulary, (part + 1) * RowsAPart);
            for (int output = part * RowsAPart; output < end; output++)
                for (int text = 0; text < Of.Texts; text++)
                {
                    int token = Of.Token(text, output);
                    if (token < 0) continue;
                    float gradient = Of.Score(text, output);
                    Elementwise.AddScaled(Dweight + (output * StrideDweight), X + (token * StrideX), gradient, Of.Dim);
                    if (Dbias != null) Dbias[output] += gradient;
                }
        }
    }

    /// <summary>One part is a range of columns of one text's rows, which it owns.</summary>
    private struct InputJob : ITeamJob
    {
        private const int ColumnsAPart = 128;

        public Gradients Of;
        public int* CuSeqlens;
        public float* Weight;
        public nint StrideWeight;
        public float* Dx;
        public nint StrideDx;
        public bool Accumulate;

        public readonly int Ranges => (Of.Dim + ColumnsAPart - 1) / ColumnsAPart;

        public readonly void Execute(int part, int worker)
        {
            int text = part / Ranges, column = part % Ranges * ColumnsAPart, columns = Math.Min(ColumnsAPart, Of.Dim - column);
            for (int row = CuSeqlens[text]; row < CuSeqlens[text + 1] && !Accumulate; row++) new Span<float>(Dx + (row * StrideDx) + column, columns).Clear();
            for (int output = 0; output < Of.Vocabulary; output++)
            {
                int token = Of.Token(text, output);
                if (token >= 0) Elementwise.AddScaled(Dx + (token * StrideDx) + column, Weight + (output * StrideWeight) + column, Of.Score(text, output), columns);
            }
        }
    }
}
