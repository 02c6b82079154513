using BgeMetal.Autograd;
using BgeMetal.Checkpoints;
using BgeMetal.Data;
using BgeMetal.Kernels;
using BgeMetal.Retrieval;
using BgeMetal.Tensors;
using BgeMetal.Testing;
using BgeMetal.Tests.Models;

namespace BgeMetal.Tests.Cuda;

/// <summary>Batches padded to a bucket and replayed as graphs, on the emulated GPU.</summary>
[Collection("emulated gpu")]
public sealed class BatchGraphTests(TinyModel model) : IClassFixture<TinyModel>
{
    [Theory]
    [InlineData(DType.Float32, PoolingMode.Cls)]
    [InlineData(DType.BFloat16, PoolingMode.Mean)]
    public void A_replayed_graph_gives_every_text_the_bits_of_the_direct_path_without_padding(DType dtype, PoolingMode pooling)
    {
        using EncoderModel loaded = EncoderModel.Load(model.Directory, CudaEncoderTests.Emulated(dtype), _ => []);
        using EncoderRunner runner = new(loaded.Device, loaded.Parameters, loaded.Positions, null, Forward(loaded, pooling));
        // Different lengths and numbers of texts, all of one bucket; the third and fourth are replays.
        foreach (TokenSequence[] texts in (TokenSequence[][])[Texts(5, 4, 3), Texts(9, 2, 2), Texts(1, 7, 6), Texts(5, 4, 3)])
            Assert.Equal(Direct(loaded, pooling, texts), Run(runner, texts, loaded.Shape.HiddenSize));
        Assert.Equal(1, runner.Gpu!.Graphs);
    }

    [Fact]
    public void Under_a_profile_there_are_no_graphs_and_the_same_bits()
    {
        TokenSequence[] texts = Texts(6, 3);
        float[] plain = Embed(profiled: false, out int graphs), profiled = Embed(profiled: true, out int none);
        Assert.Equal(plain, profiled);
        Assert.Equal((1, 0), (graphs, none));

        float[] Embed(bool profiled, out int held)
        {
            using EncoderModel loaded = EncoderModel.Load(model.Directory, CudaEncoderTests.Emulated(DType.BFloat16) with { Profile = profiled }, _ => []);
            using EncoderRunner runner = new(loaded.Device, loaded.Parameters, loaded.Positions, null, Forward(loaded, PoolingMode.Cls));
            float[] last = [];
            for (int i = 0; i < 3; i++) last = Run(runner, texts, loaded.Shape.HiddenSize);
            held = runner.Gpu!.Graphs;
            Assert.Equal(profiled, loaded.Device.KernelTimes().Count > 0);
            return last;
        }
    }

    [Fact]
    public void Batches_under_way_come_back_to_their_own_texts_in_order_and_a_cancelled_run_leaves_the_runner_usable()
    {
        using EncoderModel loaded = EncoderModel.Load(model.Directory, CudaEncoderTests.Emulated(DType.Float32), _ => []);
        using EncoderRunner runner = new(loaded.Device, loaded.Parameters, loaded.Positions, 6, Forward(loaded, PoolingMode.Cls));
        TokenSequence[] texts = Texts(3, 6, 2, 5, 4, 1, 6, 2);
        float[] expected = [.. texts.SelectMany(text => Direct(loaded, PoolingMode.Cls, [text]))];
        using CancellationTokenSource cancelled = new();
        CountDown first = new(() => cancelled.Cancel());
        Assert.Throws<OperationCanceledException>(() => runner.Run(texts, new float[expected.Length], loaded.Shape.HiddenSize, first, cancelled.Token));
        Assert.Equal(expected, Run(runner, texts, loaded.Shape.HiddenSize));
    }

    [Fact]
    public void Graphs_are_bounded_the_least_recently_used_goes_and_all_go_when_the_weights_move()
    {
        using Device device = DevicePair.Emulated(DType.Float32);
        using Arena arena = new(device);
        Tensor numbers = arena.Integers(8);
        int captures = 0;
        using BatchGraphs graphs = new(device, 2, _ =>
        {
            captures++;
            device.Clear(numbers.Address, 32);
            return (numbers, numbers);
        });
        BatchBucket a = BatchBucket.Of(3, 1, 3), b = BatchBucket.Of(40, 1, 40), c = BatchBucket.Of(80, 2, 70);
        Assert.Null(graphs.Find(a, 1));
        BatchGraph first = graphs.Find(a, 1)!;
        Assert.Same(first, graphs.Find(a, 1));
        Assert.Null(graphs.Find(b, 1));
        Assert.NotNull(graphs.Find(b, 1));
        Assert.Same(first, graphs.Find(a, 1));
        Assert.Null(graphs.Find(c, 1));
        Assert.Equal((true, false, 1), (graphs.Has(a), graphs.Has(b), graphs.Count));
        Assert.Null(graphs.Find(a, 2));
        Assert.Throws<ObjectDisposedException>(first.Graph.Replay);
        Assert.NotSame(first, graphs.Find(a, 2));
        Assert.Equal(3, captures);
        BatchGraph last = graphs.Find(a, 2)!;
        graphs.Dispose();
        Assert.Throws<ObjectDisposedException>(last.Graph.Replay);
    }

    [Theory]
    [InlineData(1, 1, 1)]
    [InlineData(16, 1, 16)]
    [InlineData(16, 3, 9)]
    [InlineData(3640, 31, 512)]
    [InlineData(2048, 17, 130)]
    public void A_bucket_holds_its_batch_and_a_row_behind_it_where_a_sequence_without_rows_begins(int tokens, int sequences, int longest)
    {
        BatchBucket bucket = BatchBucket.Of(tokens, sequences, longest);
        (int rows, int many) = (bucket.Layout.Tokens, bucket.Layout.Sequences);
        Assert.InRange(rows, many > sequences ? tokens + 1 : tokens, Math.Max(tokens + 16, tokens * 9 / 8));
        Assert.InRange(many, sequences, (2 * sequences) - 1);
        Assert.InRange(bucket.MaxSeqlen, longest, longest + 63);
        Assert.Equal(bucket, BatchBucket.Of(rows - (many > sequences ? 1 : 0), sequences, bucket.MaxSeqlen));
        PackedBatch batch = new(PositionRule.Bert);
        batch.Add(new TokenSequence(new[] { 5, 6 }));
        batch.Add(new TokenSequence(new[] { 7 }));
        PackedLayout layout = new(6, 4);
        int[] numbers = [.. Enumerable.Repeat(-9, layout.Count)];
        batch.Write(layout, numbers);
        Assert.Equal([5, 6, 7, 0, 0, 0], numbers[..6]);
        Assert.Equal([0, 1, 0, 0, 0, 0], numbers[layout.PositionIdsAt..(layout.PositionIdsAt + 6)]);
        Assert.Equal([0, 2, 3, 3, 3], numbers[layout.CuSeqlensAt..(layout.CuSeqlensAt + 5)]);
        Assert.Equal([0, 1, 2, 3, 4], numbers[layout.ClsOffsetsAt..(layout.ClsOffsetsAt + 5)]);
    }

    private static SequenceModel Forward(EncoderModel loaded, PoolingMode pooling) => (tape, batch) => Ops.NormalizeRowsOp.NormalizeRows(tape, pooling == PoolingMode.Cls
        ? loaded.Encoder.ForwardCls(tape, batch) : Ops.PoolingOp.MeanPooling(tape, loaded.Encoder.Forward(tape, batch), batch.CuSeqlens));

    /// <summary>One batch, as long as it is.</summary>
    private static float[] Direct(EncoderModel loaded, PoolingMode pooling, TokenSequence[] texts)
    {
        using Arena arena = new(loaded.Device);
        using Tape tape = Tape.Inference(arena);
        PackedBatch batch = new(loaded.Positions);
        foreach (TokenSequence text in texts.OrderByDescending(text => text.Length)) batch.Add(text);
        float[] sorted = new float[texts.Length * loaded.Shape.HiddenSize], rows = new float[sorted.Length];
        Forward(loaded, pooling)(tape, batch.Upload(arena)).CopyTo(sorted);
        foreach ((int place, int text) in Enumerable.Range(0, texts.Length).OrderByDescending(i => texts[i].Length).Index())
            sorted.AsSpan(place * loaded.Shape.HiddenSize, loaded.Shape.HiddenSize).CopyTo(rows.AsSpan(text * loaded.Shape.HiddenSize));
        return rows;
    }

    private static float[] Run(EncoderRunner runner, TokenSequence[] texts, int columns)
    {
        float[] rows = new float[texts.Length * columns];
        Array.Fill(rows, float.NaN);
        runner.Run(texts, rows, columns, null, CancellationToken.None);
        return rows;
    }

    private static TokenSequence[] Texts(params int[] lengths) => [.. lengths.Select((length, i) => new TokenSequence(new RandomData(length + (31 * i)).Indices(length, 60)))];

    private sealed class CountDown(Action done) : IProgress<long>
    {
        public void Report(long value) => done();
    }
}
