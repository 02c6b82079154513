using BgeMetal.Autograd;
using BgeMetal.Kernels;
using BgeMetal.Kernels.Cpu;
using BgeMetal.Tensors;

namespace BgeMetal.Ops;

/// <summary>The three tables that a token's input vector is the sum of.</summary>
/// <param name="Word">Word table [V, D].</param>
/// <param name="Position">Position table [positions, D].</param>
/// <param name="TokenType">Token type table [types, D].</param>
/// <param name="PaddingId">The word row that takes no gradient; -1 for none.</param>
/// <param name="PaddingPosition">The position row that takes no gradient; -1 for none.</param>
internal readonly record struct EmbeddingTables(Tensor Word, Tensor Position, Tensor TokenType, int PaddingId, int PaddingPosition);

/// <summary>The input embeddings: the sum of three table rows a token.</summary>
internal static class EmbeddingOp
{
    extension(Tape tape)
    {
        /// <summary>LayerNorm(word[ids] + position[positions] + type[types]) [T, D]. The ids are trusted: the batch builder checked them.</summary>
        public unsafe Tensor EmbeddingLayerNorm(PackedTensors batch, EmbeddingTables tables, Tensor gamma, Tensor beta, float epsilon)
        {
            if (batch.TotalTokens == 0) throw new ArgumentException("Embedding: the batch is empty");
            if (tape.IsRecording || tape.Device.IsCuda) return tape.LayerNorm(tape.Embedding(batch, tables), gamma, beta, epsilon);
            Tensor y = tape.Arena.Activation(batch.TotalTokens, tables.Word.Columns);
            Kernels.Cpu.Embedding.Forward(tape.Device.Team, batch.TokenIds.Ints, batch.PositionIds.Ints, batch.TokenTypeIds.Ints, batch.TotalTokens,
                tables.Word.Floats, tables.Position.Floats, tables.TokenType.Floats, y.Columns, gamma.Floats, beta.Floats, epsilon, y.Floats, y.RowStride);
            return y;
        }

        /// <summary>word[ids] + position[positions] + type[types] [T, D]. Look-up gradients are added in a fixed order.</summary>
        public unsafe Tensor Embedding(PackedTensors batch, EmbeddingTables tables)
        {
            Tensor y = tape.Arena.Activation(batch.TotalTokens, tables.Word.Columns);
            if (tape.Device.IsCuda)
                tape.Device.Choose(Forward<FP32>, Forward<BF16>, Forward<FP16>)(tape.Device, batch, tables, y);
            else
                Kernels.Cpu.Embedding.Forward(tape.Device.Team, batch.TokenIds.Ints, batch.PositionIds.Ints, batch.TokenTypeIds.Ints, batch.TotalTokens,
                    tables.Word.Floats, tables.Position.Floats, tables.TokenType.Floats, y.Columns, y.Floats, y.RowStride);
            if (tape.IsRecording && tape.Device.IsCuda)
            {
                TableGradients gradients = new(tape, batch.Host.TokenIds.Span, tables.PaddingId, batch.Host, tables);
                tape.Record("Embedding", y, dy => gradients.Add(tape.Parameters!.GradientOf(tables.Word), dy));
            }
            else if (tape.IsRecording)
            {
                tape.Record("Embedding", y, dy =>
                {
                    TrainableParameters parameters = tape.Parameters!;
                    EmbeddingBackward.Run(tape.Device.Team, batch.TokenIds.Ints, batch.PositionIds.Ints, batch.TokenTypeIds.Ints, batch.TotalTokens,
                        dy.Floats, dy.RowStride, dy.Columns, tables.PaddingId, tables.PaddingPosition, parameters.GradientOf(tables.Word).Floats,
                        parameters.GradientOf(tables.Position).Floats, parameters.GradientOf(tables.TokenType).Floats);
                });
            }
            return y;
        }

        /// <summary>
        /// Vectors in place of words: given[b] + position[positions] + type[0] for every token of sequence b, given [B, D] -> [T, D]. Each sequence's
        /// gradients add up in given's.
        /// </summary>
        public unsafe Tensor EmbeddingOfVectors(Tensor given, PackedTensors batch, EmbeddingTables tables)
        {
            Check.Shape("EmbeddingOfVectors", "given", given, batch.Sequences, tables.Position.Columns);
            if (tape.Device.IsCuda) return VectorsOnCuda(tape, given, batch, tables);
            Tensor rows = Dense(tape, given.Rows, given.Columns), sequences = SequenceOfEachToken(tape, batch);
            for (int b = 0; b < given.Rows; b++) given.RowSpan(b).CopyTo(rows.RowSpan(b));
            Tensor y = tape.Arena.Activation(batch.TotalTokens, given.Columns);
            Kernels.Cpu.Embedding.Forward(tape.Device.Team, sequences.Ints, batch.PositionIds.Ints, null, batch.TotalTokens, rows.Floats, tables.Position.Floats,
                tables.TokenType.Floats, y.Columns, y.Floats, y.RowStride);
            if (tape.IsRecording)
            {
                tape.Record("EmbeddingOfVectors", y, dy =>
                {
                    TrainableParameters parameters = tape.Parameters!;
                    for (int b = 0; b < rows.Rows; b++) rows.RowSpan(b).Clear();
                    EmbeddingBackward.Run(tape.Device.Team, sequences.Ints, batch.PositionIds.Ints, null, batch.TotalTokens, dy.Floats, dy.RowStride, dy.Columns,
                        -1, tables.PaddingPosition, rows.Floats, parameters.GradientOf(tables.Position).Floats, parameters.GradientOf(tables.TokenType).Floats);
                    tape.AddGradient(given, rows);
                });
            }
            return y;
        }
    }

    private static void Forward<T>(Device device, PackedTensors batch, EmbeddingTables tables, Tensor y) where T : unmanaged, IElement =>
        Kernels.Cuda.Embedding.Forward(device.Kernels, batch.TokenIds.Pointer<int>(), batch.PositionIds.Pointer<int>(), batch.TokenTypeIds.Pointer<int>(),
            batch.TotalTokens, tables.Word.Pointer<T>(), tables.Position.Pointer<T>(), tables.TokenType.Pointer<T>(), y.Columns, y.Matrix<T>());

    private static Tensor VectorsOnCuda(Tape tape, Tensor given, PackedTensors batch, EmbeddingTables tables)
    {
        int[] sequences = new int[batch.TotalTokens];
        ReadOnlySpan<int> starts = batch.Host.CuSeqlens.Span;
        for (int b = 0; b < given.Rows; b++) sequences.AsSpan(starts[b], starts[b + 1] - starts[b]).Fill(b);
        Tensor rows = Dense(tape, given.Rows, given.Columns), y = tape.Arena.Activation(batch.TotalTokens, given.Columns);
        GradientAdditionOp.AddScaled(tape.Device, given, 1, accumulate: false, rows);
        PackedTensors asTokens = batch with { TokenIds = tape.Arena.Integers(sequences), TokenTypeIds = tape.Arena.Integers(new int[batch.TotalTokens]) };
        tape.Device.Choose(Forward<FP32>, Forward<BF16>, Forward<FP16>)(tape.Device, asTokens, tables with { Word = rows }, y);
        if (tape.IsRecording)
        {
            TableGradients gradients = new(tape, sequences, -1, batch.Host with { TokenTypeIds = new int[batch.TotalTokens] }, tables);
            tape.Record("EmbeddingOfVectors", y, dy =>
            {
                Tensor dgiven = tape.Arena.Floats(1, checked(given.Rows * given.Columns));
                dgiven.Clear();
                Tensor dense = new(dgiven.Device, dgiven.Address, dgiven.DType, given.Rows, given.Columns, given.Columns);
                gradients.Add(dense, dy);
                tape.AddGradient(given, dense);
            });
        }
        return y;
    }

    /// <summary>Rows without padding between them, as the look-up kernels read tables.</summary>
    private static Tensor Dense(Tape tape, int rows, int columns)
    {
        Tensor memory = tape.Arena.Activation(1, checked(rows * columns));
        return new Tensor(memory.Device, memory.Address, memory.DType, rows, columns, columns);
    }

    private static unsafe Tensor SequenceOfEachToken(Tape tape, PackedTensors batch)
    {
        Tensor sequences = tape.Arena.Integers(batch.TotalTokens);
        for (int b = 0; b < batch.Sequences; b++)
            new Span<int>(sequences.Ints + batch.CuSeqlens.Ints[b], batch.CuSeqlens.Ints[b + 1] - batch.CuSeqlens.Ints[b]).Fill(b);
        return sequences;
    }
}
