using BgeMetal.Kernels.Cpu;

namespace BgeMetal.Kernels.Bench;

/// <summary>Losses and search on the CPU.</summary>
internal static unsafe class LossCalls
{
    private const float Temperature = 0.02f;

    public static Action<WorkerTeam> InfoNceForward(CpuOperands o, BenchShape s) => InBatch(o, s, backward: false);

    public static Action<WorkerTeam> InfoNceBackward(CpuOperands o, BenchShape s) => InBatch(o, s, backward: true);

    public static Action<WorkerTeam> VocabularyForward(CpuOperands o, BenchShape s) => Vocabulary(o, s, backward: false);

    public static Action<WorkerTeam> VocabularyBackward(CpuOperands o, BenchShape s) => Vocabulary(o, s, backward: true);

    public static Action<WorkerTeam> WordsForward(CpuOperands o, BenchShape s) => Words(o, s, backward: false);

    public static Action<WorkerTeam> WordsBackward(CpuOperands o, BenchShape s) => Words(o, s, backward: true);

    public static Action<WorkerTeam> GroupsForward(CpuOperands o, BenchShape s)
    {
        int b = s["B"], g = s["G"];
        float* logits = o.Floats((long)b * g), loss = o.Floats(b);
        int* targets = o.Integers(b, 0);
        return team => SoftmaxCrossEntropy.Forward(team, logits, g, b, g, targets, loss);
    }

    public static Action<WorkerTeam> GroupsBackward(CpuOperands o, BenchShape s)
    {
        int b = s["B"], g = s["G"];
        float* logits = o.Floats((long)b * g), dlogits = o.Floats((long)b * g);
        int* targets = o.Integers(b, 0);
        return team => SoftmaxCrossEntropy.Backward(team, logits, g, b, g, targets, 1f, dlogits, g, false);
    }

    public static Action<WorkerTeam> DistillationForward(CpuOperands o, BenchShape s)
    {
        int b = s["B"], g = s["G"];
        float* scores = o.Floats((long)b * g), teacher = o.Floats((long)b * g), loss = o.Floats(b);
        return team => KlDivergence.Forward(DistillationLoss.Divergence, team, scores, g, b, g, teacher, g, g, 1, 1, loss);
    }

    public static Action<WorkerTeam> DistillationBackward(CpuOperands o, BenchShape s)
    {
        int b = s["B"], g = s["G"];
        float* scores = o.Floats((long)b * g), teacher = o.Floats((long)b * g), dscores = o.Floats((long)b * g);
        return team => KlDivergence.Backward(DistillationLoss.Divergence, team, scores, g, b, g, teacher, g, g, 1, 1, 1f, dscores, g, false);
    }

    public static Action<WorkerTeam> Nearest(CpuOperands o, BenchShape s)
    {
        int b = s["B"], n = s["N"], d = s["D"];
        const int k = 10;
        float* queries = o.Floats((long)b * d), corpus = o.Floats((long)n * d), scores = o.Floats(b * k);
        long* indices = (long*)o.Floats(b * k * 2);
        return team => TopK.Search(team, queries, d, b, d, corpus, d, n, k, indices, scores);
    }

    private static Action<WorkerTeam> InBatch(CpuOperands o, BenchShape s, bool backward)
    {
        int b = s["B"], g = s["G"], d = s["D"], ld = d + CpuOperands.Padding;
        float* q = o.Rows(b, d, 0.05f), p = o.Rows((long)b * g, d, 0.05f), loss = o.Floats(b), log = o.Floats(b);
        void Forward(WorkerTeam team) => InfoNce.Forward(team, q, ld, p, ld, b, g, d, Temperature, true, loss, log);
        if (!backward) return Forward;
        Forward(o.Team);
        float* dq = o.Rows(b, d), dp = o.Rows((long)b * g, d);
        return team => InfoNce.Backward(team, q, ld, p, ld, b, g, d, Temperature, true, log, 1f, dq, ld, false, dp, ld, false);
    }

    private static Action<WorkerTeam> Vocabulary(CpuOperands o, BenchShape s, bool backward)
    {
        int t = s["T"], v = s["V"], d = s["D"], ld = d + CpuOperands.Padding;
        float* x = o.Rows(t, d), weight = o.Floats((long)v * d, 0.05f), bias = o.Floats(v), loss = o.Floats(t), log = o.Floats(t);
        int* labels = o.Integers(t, 7919, v);
        void Forward(WorkerTeam team) => LinearCrossEntropy.Forward(team, x, ld, t, d, weight, d, v, bias, labels, loss, log);
        if (!backward) return Forward;
        Forward(o.Team);
        float* dx = o.Rows(t, d), dweight = o.Floats((long)v * d), dbias = o.Floats(v);
        return team => LinearCrossEntropy.Backward(team, x, ld, t, d, weight, d, v, bias, labels, log, 1f, dx, ld, false, dweight, d, dbias);
    }

    // The backward pass overwrites the maxima, which changes its numbers from run to run and not its work.
    private static Action<WorkerTeam> Words(CpuOperands o, BenchShape s, bool backward)
    {
        int b = s["B"], v = s["V"], d = s["D"], ld = d + CpuOperands.Padding, ldm = v + CpuOperands.Padding, words = s["W"];
        float* x = o.Rows((long)b * s["L"], d), weight = o.Floats((long)v * d, 0.05f), bias = o.Floats(v), weights = o.Floats(b), maxima = o.Rows(b, v), loss = o.Floats(b), log = o.Floats(b);
        int* cu = o.Integers(b + 1, s["L"]), ids = o.Integers(b * words, v / ((b * words) + 1)), offsets = o.Integers(b + 1, words), tokens = o.Integers(b * v, 0);
        void Forward(WorkerTeam team) => BagOfWords.Forward(team, x, ld, d, cu, b, 1, weight, d, v, bias, ids, offsets, weights, maxima, ldm, tokens, log, loss);
        if (!backward) return Forward;
        Forward(o.Team);
        float* dx = o.Rows((long)b * s["L"], d), dweight = o.Floats((long)v * d), dbias = o.Floats(v);
        return team => BagOfWords.Backward(team, x, ld, d, cu, b, weight, d, v, ids, offsets, weights, maxima, ldm, tokens, log, 1f, dx, ld, false, dweight, d, dbias);
    }
}
