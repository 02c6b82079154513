using static BgeMetal.Kernels.Runtime.KernelDirection;

namespace BgeMetal.Kernels.Bench;

/// <summary>
/// The one table of what is timed, in the order of a training step: an operation, its cost, how either backend is called, and the shapes. CPU shapes are
/// those of a thread's chunk and of a training batch; GPU shapes are BGE's (384 small-en, 512 small-zh, 768 base, 1024 large) at 4096 to 65536 tokens.
/// </summary>
public static class BenchTable
{
    private static readonly string[] s_cpuLinear = [.. Linears([1, 16, 128, 512, 4096], [(384, 384), (384, 1536), (1536, 384), (512, 512), (512, 2048), (2048, 512)]),
        .. Linears([1, 128, 512], [(768, 768), (768, 3072), (3072, 768)])];
    private static readonly string[] s_cpuFused = [.. Linears([512], [(384, 1536), (512, 2048), (768, 3072)])];
    private static readonly string[] s_cpuWeights = [.. Linears([128, 512, 4096], [(384, 384), (384, 1536), (1536, 384), (512, 512), (512, 2048), (2048, 512)]), .. Linears([512], [(768, 3072)])];
    private static readonly string[] s_cpuAttention = ["B=2 L=128 H=12 Dh=32", "B=2 L=128 H=8 Dh=64", "B=32 L=128 H=12 Dh=32", "B=128 L=16 H=12 Dh=32", "B=8 L=512 H=12 Dh=64", "B=1 L=8192 H=2 Dh=64"];
    private static readonly string[] s_cpuAttentionTraining = ["B=16 L=128 H=12 Dh=32", "B=16 L=128 H=8 Dh=64", "B=4 L=512 H=12 Dh=32", "B=64 L=17 H=12 Dh=32"];
    private static readonly string[] s_cpuRows = ["T=256 D=384", "T=4096 D=384", "T=4096 D=768"];

    private static readonly int[] s_tokens = [16384, 4096, 65536];
    private static readonly string[] s_cudaLinear = [.. Linears(s_tokens, [(768, 768), (768, 2304), (768, 3072), (3072, 768), (384, 1152), (384, 384), (384, 1536), (1536, 384),
        (512, 1536), (512, 512), (512, 2048), (2048, 512), (1024, 3072), (1024, 1024), (1024, 4096), (4096, 1024)])];
    private static readonly string[] s_cudaFew = [.. Linears([16384], [(768, 3072), (384, 1536)])];
    private static readonly string[] s_cudaUp = [.. Linears(s_tokens, [(768, 3072), (384, 1536), (512, 2048), (1024, 4096)])];
    private static readonly string[] s_cudaDown = [.. Linears(s_tokens, [(3072, 768), (1536, 384), (2048, 512), (4096, 1024)])];
    private static readonly string[] s_cudaRows = [.. from t in s_tokens from d in new[] { 768, 384, 512, 1024 } select $"T={t} D={d}"];
    private static readonly string[] s_cudaPooling = ["B=128 L=128 D=768", "B=32 L=512 D=384", "B=512 L=128 D=1024"];
    private static readonly string[] s_cudaVectors = ["B=4096 D=768", "B=65536 D=384"];
    private static readonly string[] s_cudaAttention = ["B=128 L=128 H=12 Dh=64", "B=128 L=128 H=12 Dh=32", "B=32 L=512 H=12 Dh=64", "B=512 L=32 H=12 Dh=32"];
    private static readonly string[] s_cudaRagged = ["B=128 L=512 H=12 Dh=64", "B=128 L=512 H=12 Dh=32"];
    private static readonly string[] s_cudaContrastive = ["B=1024 G=8 D=768", "B=64 G=8 D=384", "B=8192 G=8 D=1024"];
    private static readonly string[] s_cudaGroups = ["B=4096 G=16"];
    private static readonly string[] s_cudaWords = ["B=32 L=128 V=30522 D=768 W=60", "B=8 L=512 V=21128 D=512 W=200"];
    private static readonly string[] s_cudaVocabulary = ["T=4096 V=30522 D=768", "T=2048 V=21128 D=512", "T=1024 V=250002 D=1024"];
    private static readonly string[] s_parameters = ["P=109482240", "P=33360000"];

    /// <summary>All operations.</summary>
    public static IReadOnlyList<BenchOp> All { get; } = [.. Embeddings(), .. Linears(), .. Attentions(), .. Rows(), .. Losses(), .. Updates()];

    /// <summary>The operations that kernels of this stem and direction compute.</summary>
    public static IEnumerable<BenchOp> Of(string stem, Runtime.KernelDirection direction) => All.Where(op => op.Stem == stem && op.Direction == direction);

    private static IEnumerable<BenchOp> Embeddings() =>
    [
        new("Embedding", "Embedding", Forward, "2 T D", "E (U D + T D) + 12 T")
        {
            Cpu = RowCalls.EmbeddingForward, CpuShapes = ["T=384 D=384 U=300", "T=4096 D=512 U=2000"],
            Cuda = CudaCalls.Prepare<EmbeddingForward>, CudaShapes = ["T=16384 D=768 U=8000", "T=65536 D=384 U=20000", "T=16384 D=1024 U=8000"],
        },
        new("Embedding", "Embedding", Backward, "T D", "E T D + 8 U D + 8 T")
        {
            Cpu = RowCalls.EmbeddingGradient, CpuShapes = ["T=4096 D=384 U=2000"],
            Cuda = CudaCalls.Prepare<EmbeddingGradient>, CudaShapes = ["T=16384 D=768 U=8000", "T=65536 D=384 U=20000", "T=65536 D=768 U=500"],
        },
        new("Dropout", "Dropout", Forward, "T D", "2 E T D")
        {
            Cpu = RowCalls.DropoutForward, CpuShapes = ["T=4096 D=384"],
            Cuda = CudaCalls.Prepare<DropoutForward>, CudaShapes = ["T=16384 D=768", "T=65536 D=384"],
        },
    ];

    private static IEnumerable<BenchOp> Linears() =>
    [
        new("Linear", "Linear", Forward, "2 T K N", "E (T K + K N + T N)")
        {
            Cpu = LinearCalls.Plain, CpuShapes = s_cpuLinear, Peer = CublasForm.Forward,
            Cuda = CudaCalls.Prepare<LinearForward>, CudaShapes = s_cudaLinear, OtherShapes = s_cudaFew,
        },
        new("Linear", "LinearGelu", Forward, "2 T K N", "E (T K + K N + 2 T N)")
        {
            Cpu = LinearCalls.WithGelu, CpuShapes = s_cpuFused,
            Cuda = CudaCalls.Prepare<LinearGeluForward>, CudaShapes = s_cudaUp, OtherShapes = s_cudaFew,
        },
        new("Linear", "LinearGeluInference", Forward, "2 T K N", "E (T K + K N + T N)")
        {
            Cuda = CudaCalls.Prepare<LinearGeluInferenceForward>, CudaShapes = s_cudaUp, OtherShapes = s_cudaFew,
        },
        new("Linear", "LinearResidual", Forward, "2 T K N", "E (T K + K N + 2 T N)")
        {
            Cpu = LinearCalls.WithResidual, CpuShapes = ["T=512 K=1536 N=384", "T=512 K=3072 N=768"],
            Cuda = CudaCalls.Prepare<LinearResidualForward>, CudaShapes = s_cudaDown,
        },
        new("Linear", "LinearInput", Backward, "2 T K N", "E (T N + K N + T K)")
        {
            Cpu = LinearCalls.InputGradient, CpuShapes = s_cpuFused, Peer = CublasForm.Input,
            Cuda = CudaCalls.Prepare<LinearInputGradient>, CudaShapes = s_cudaLinear, OtherShapes = s_cudaFew,
        },
        new("Linear", "LinearGeluInput", Backward, "2 T K N", "E (T N + K N + 2 T K)")
        {
            Cuda = CudaCalls.Prepare<LinearGeluInputGradient>, CudaShapes = s_cudaDown,
        },
        new("Linear", "LinearWeight", Backward, "2 T K N", "E (T N + T K) + 8 K N")
        {
            Cpu = LinearCalls.WeightGradient, CpuShapes = s_cpuWeights, Peer = CublasForm.Weight,
            Cuda = CudaCalls.Prepare<LinearWeightGradient>, CudaShapes = s_cudaLinear, OtherShapes = s_cudaFew,
        },
        new("Linear", "LinearBias", Backward, "T N", "E T N + 8 N")
        {
            Cpu = LinearCalls.BiasGradient, CpuShapes = ["T=4096 N=1536"],
            Cuda = CudaCalls.Prepare<LinearBiasGradient>, CudaShapes = ["T=16384 N=3072", "T=65536 N=384"],
        },
        new("Linear", "Gelu", Forward, "T D", "2 E T D") { Cpu = LinearCalls.GeluAlone, CpuShapes = ["T=256 D=1536"] },
        new("Linear", "Gelu", Backward, "T D", "3 E T D")
        {
            Cpu = LinearCalls.GeluGradient, CpuShapes = ["T=256 D=1536", "T=4096 D=1536"],
            Cuda = CudaCalls.Prepare<GeluGradient>, CudaShapes = ["T=16384 D=3072", "T=65536 D=1536"],
        },
    ];

    private static IEnumerable<BenchOp> Attentions() =>
    [
        new("Attention", "Attention", Forward, "4 B L L H Dh", "4 E B L H Dh")
        {
            Cpu = AttentionCalls.Inference, CpuShapes = s_cpuAttention,
            Cuda = CudaCalls.Prepare<AttentionForward>, CudaShapes = s_cudaAttention,
        },
        new("Attention", "AttentionCls", Forward, "4 B L H Dh", "E B (2 L + 2) H Dh") { Cpu = AttentionCalls.FirstTokens, CpuShapes = ["B=32 L=128 H=12 Dh=32"] },
        new("Attention", "AttentionDropout", Forward, "4 B L L H Dh", "4 E B L H Dh")
        {
            Cpu = AttentionCalls.Training, CpuShapes = s_cpuAttentionTraining,
            Cuda = CudaCalls.Prepare<AttentionDropoutForward>, CudaShapes = s_cudaAttention,
        },
        new("Attention", "Attention", Backward, "10 B L L H Dh", "8 E B L H Dh")
        {
            Cpu = AttentionCalls.Backward, CpuShapes = s_cpuAttentionTraining,
            Cuda = CudaCalls.Prepare<AttentionGradient>, CudaShapes = s_cudaAttention,
        },
        new("Attention", "AttentionDropout", Backward, "10 B L L H Dh", "8 E B L H Dh")
        {
            Cpu = AttentionCalls.BackwardWithDropout, CpuShapes = s_cpuAttentionTraining,
            Cuda = CudaCalls.Prepare<AttentionDropoutGradient>, CudaShapes = s_cudaAttention,
        },
        // Lengths are even over 1..L: half the tokens, a third of the scores.
        new("Attention", "AttentionRagged", Forward, "4 B L L H Dh / 3", "2 E B L H Dh") { Cuda = CudaCalls.Prepare<RaggedAttentionForward>, CudaShapes = s_cudaRagged },
        new("Attention", "AttentionRagged", Backward, "10 B L L H Dh / 3", "4 E B L H Dh") { Cuda = CudaCalls.Prepare<RaggedAttentionGradient>, CudaShapes = s_cudaRagged },
        new("Attention", "MaskedAttention", Forward, "4 B L L H Dh", "4 E B L H Dh + B L L / 8")
        {
            Cpu = AttentionCalls.Masked, CpuShapes = ["B=16 L=128 H=12 Dh=32", "B=4 L=512 H=12 Dh=32"],
            Cuda = CudaCalls.Prepare<MaskedAttentionForward>, CudaShapes = ["B=32 L=512 H=12 Dh=64", "B=128 L=128 H=12 Dh=64"],
        },
        new("Attention", "MaskedAttention", Backward, "10 B L L H Dh", "8 E B L H Dh + B L L / 8")
        {
            Cpu = AttentionCalls.MaskedBackward, CpuShapes = ["B=16 L=128 H=12 Dh=32", "B=4 L=512 H=12 Dh=32"],
            Cuda = CudaCalls.Prepare<MaskedAttentionGradient>, CudaShapes = ["B=32 L=512 H=12 Dh=64", "B=128 L=128 H=12 Dh=64"],
        },
    ];

    private static IEnumerable<BenchOp> Rows() =>
    [
        new("LayerNorm", "LayerNorm", Forward, "8 T D", "2 E T D")
        {
            Cpu = RowCalls.LayerNormForward, CpuShapes = s_cpuRows, Cuda = CudaCalls.Prepare<LayerNormForward>, CudaShapes = s_cudaRows,
        },
        new("LayerNorm", "AddLayerNorm", Forward, "9 T D", "4 E T D")
        {
            Cpu = RowCalls.AddLayerNorm, CpuShapes = s_cpuRows, Cuda = CudaCalls.Prepare<AddLayerNorm>, CudaShapes = s_cudaRows,
        },
        new("LayerNorm", "DropoutAddLayerNorm", Forward, "10 T D", "4 E T D") { Cuda = CudaCalls.Prepare<DropoutAddLayerNorm>, CudaShapes = s_cudaRows },
        new("LayerNorm", "LayerNorm", Backward, "14 T D", "3 E T D")
        {
            Cpu = RowCalls.LayerNormGradient, CpuShapes = s_cpuRows, Cuda = CudaCalls.Prepare<LayerNormGradient>, CudaShapes = s_cudaRows,
        },
        new("Pooling", "PoolingMean", Forward, "B L D", "E (B L D + B D)")
        {
            Cpu = RowCalls.MeanPooling, CpuShapes = ["B=32 L=128 D=384"], Cuda = CudaCalls.Prepare<MeanPooling>, CudaShapes = s_cudaPooling,
        },
        new("Pooling", "PoolingMean", Backward, "B D", "E (B L D + B D)")
        {
            Cpu = RowCalls.MeanPoolingGradient, CpuShapes = ["B=32 L=128 D=384"], Cuda = CudaCalls.Prepare<MeanPoolingGradient>, CudaShapes = s_cudaPooling,
        },
        new("NormalizeRows", "NormalizeRows", Forward, "3 B D", "2 E B D")
        {
            Cpu = RowCalls.Normalize, CpuShapes = ["B=256 D=384"], Cuda = CudaCalls.Prepare<Normalize>, CudaShapes = s_cudaVectors,
        },
        new("NormalizeRows", "NormalizeRows", Backward, "7 B D", "3 E B D")
        {
            Cpu = RowCalls.NormalizeGradient, CpuShapes = ["B=256 D=384"], Cuda = CudaCalls.Prepare<NormalizeGradient>, CudaShapes = s_cudaVectors,
        },
        new("Rows", "RowsGather", Forward, "0", "2 E T D") { Cuda = CudaCalls.Prepare<RowsGather>, CudaShapes = ["T=16384 D=768"] },
        new("AddScaled", "AddScaled", Update, "2 T D", "3 E T D") { Cuda = CudaCalls.Prepare<MatrixSum>, CudaShapes = ["T=16384 D=768"] },
    ];

    // A backward pass computes the scores once more: they are never kept.
    private static IEnumerable<BenchOp> Losses() =>
    [
        new("InfoNce", "InfoNce", Forward, "2 B B G D", "E (B D + B G D)")
        {
            Cpu = LossCalls.InfoNceForward, CpuShapes = ["B=256 G=8 D=384"], Cuda = CudaCalls.Prepare<InfoNceForward>, CudaShapes = s_cudaContrastive,
        },
        new("InfoNce", "InfoNce", Backward, "6 B B G D", "2 E (B D + B G D)")
        {
            Cpu = LossCalls.InfoNceBackward, CpuShapes = ["B=256 G=8 D=384"], Cuda = CudaCalls.Prepare<InfoNceGradient>, CudaShapes = s_cudaContrastive,
        },
        new("InfoNce", "InfoNceOwnGroup", Forward, "2 B G D", "E (B D + B G D)") { Cuda = CudaCalls.Prepare<OwnGroupForward>, CudaShapes = s_cudaContrastive },
        new("InfoNce", "InfoNceOwnGroup", Backward, "6 B G D", "2 E (B D + B G D)") { Cuda = CudaCalls.Prepare<OwnGroupGradient>, CudaShapes = s_cudaContrastive },
        new("Scores", "Scores", Forward, "2 B B G D", "E (B D + B G D) + 4 B B G") { Cuda = CudaCalls.Prepare<ScoresForward>, CudaShapes = ["B=512 G=8 D=768"] },
        new("LinearCrossEntropy", "LinearCrossEntropy", Forward, "2 T V D", "E (T D + V D)")
        {
            Cpu = LossCalls.VocabularyForward, CpuShapes = ["T=300 V=21128 D=512"],
            Cuda = CudaCalls.Prepare<VocabularyLoss>, CudaShapes = s_cudaVocabulary,
        },
        new("LinearCrossEntropy", "LinearCrossEntropy", Backward, "6 T V D", "2 E T D + (E + 8) V D")
        {
            Cpu = LossCalls.VocabularyBackward, CpuShapes = ["T=300 V=21128 D=512"],
            Cuda = CudaCalls.Prepare<VocabularyGradient>, CudaShapes = s_cudaVocabulary,
        },
        new("BagOfWords", "BagOfWords", Forward, "2 B (L - 1) V D", "E (B L D + V D)")
        {
            Cpu = LossCalls.WordsForward, CpuShapes = ["B=8 L=128 V=21128 D=512 W=60"],
            Cuda = CudaCalls.Prepare<WordsForward>, CudaShapes = s_cudaWords,
        },
        new("BagOfWords", "BagOfWords", Backward, "4 B V D", "(4 B + 8) V D")
        {
            Cpu = LossCalls.WordsBackward, CpuShapes = ["B=8 L=128 V=21128 D=512 W=60"],
            Cuda = CudaCalls.Prepare<WordsGradient>, CudaShapes = s_cudaWords,
        },
        new("SoftmaxCrossEntropy", "SoftmaxCrossEntropy", Forward, "4 B G", "4 B G") { Cpu = LossCalls.GroupsForward, CpuShapes = ["B=4096 G=16"], Cuda = CudaCalls.Prepare<GroupsForward>, CudaShapes = s_cudaGroups },
        new("SoftmaxCrossEntropy", "SoftmaxCrossEntropy", Backward, "5 B G", "8 B G") { Cpu = LossCalls.GroupsBackward, CpuShapes = ["B=4096 G=16"], Cuda = CudaCalls.Prepare<GroupsGradient>, CudaShapes = s_cudaGroups },
        new("KlDivergence", "KlDivergence", Forward, "9 B G", "8 B G") { Cpu = LossCalls.DistillationForward, CpuShapes = ["B=4096 G=16"], Cuda = CudaCalls.Prepare<DistillationForward>, CudaShapes = s_cudaGroups },
        new("KlDivergence", "KlDivergence", Backward, "10 B G", "12 B G") { Cpu = LossCalls.DistillationBackward, CpuShapes = ["B=4096 G=16"], Cuda = CudaCalls.Prepare<DistillationGradient>, CudaShapes = s_cudaGroups },
        new("Regroup", "Regroup", Forward, "0", "2 E B G") { Cuda = CudaCalls.Prepare<RegroupForward>, CudaShapes = s_cudaGroups },
        new("Regroup", "Regroup", Backward, "0", "2 E B G") { Cuda = CudaCalls.Prepare<RegroupGradient>, CudaShapes = s_cudaGroups },
    ];

    private static IEnumerable<BenchOp> Updates() =>
    [
        new("AdamW", "AdamW", Update, "14 P", "28 P")
        {
            Cpu = RowCalls.AdamWStep, CpuShapes = ["P=1572864", "P=33360000"], Cuda = CudaCalls.Prepare<AdamWStep>, CudaShapes = s_parameters, CudaTypes = [DType.Float32],
        },
        new("AdamW", "AdamWCast", Update, "14 P", "(28 + E) P") { Cuda = CudaCalls.Prepare<AdamWStep>, CudaShapes = s_parameters, CudaTypes = [DType.BFloat16, DType.Float16] },
        new("GlobalNorm", "GlobalNorm", Update, "2 P", "4 P")
        {
            Cpu = RowCalls.SumOfSquares, CpuShapes = ["P=1572864", "P=33360000"], Cuda = CudaCalls.Prepare<GradientNorm>, CudaShapes = s_parameters, CudaTypes = [DType.Float32],
        },
        new("Cast", "Cast", Update, "0", "(4 + E) P") { Cuda = CudaCalls.Prepare<CastDown>, CudaShapes = s_parameters, CudaTypes = [DType.BFloat16, DType.Float16] },
        new("TopK", "TopK", Update, "2 B N D", "E N D + E B D")
        {
            Cpu = LossCalls.Nearest, CpuShapes = ["B=1 N=100000 D=512", "B=8 N=100000 D=512", "B=32 N=100000 D=512", "B=128 N=100000 D=512"],
            Cuda = CudaCalls.Prepare<NearestRows>, CudaShapes = ["B=1 N=1000000 D=384", "B=64 N=1000000 D=384", "B=1024 N=1000000 D=768"],
        },
    ];

    private static IEnumerable<string> Linears(int[] tokens, (int K, int N)[] sizes) => from t in tokens from size in sizes select $"T={t} K={size.K} N={size.N}";
}
