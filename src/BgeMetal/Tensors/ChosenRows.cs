namespace BgeMetal.Tensors;

/// <summary>Some rows of a packed batch, at least one of each sequence.</summary>
/// <param name="Rows">Distinct rows of the batch, ascending, int32 [R].</param>
/// <param name="Offsets">Sequence b's are Offsets[b] .. Offsets[b+1] of them, int32 [B+1].</param>
internal readonly record struct ChosenRows(Tensor Rows, Tensor Offsets);
