namespace BgeMetal.Data.Training;

/// <summary>Which positive a row of the LLM-Embedder's data gives.</summary>
public enum PositiveSelection
{
    /// <summary><c>first</c>: the first one; in a row that names none, the candidate the teacher likes best.</summary>
    First,

    /// <summary><c>random</c>: any of the positives.</summary>
    Random,

    /// <summary><c>teacher</c>: of positives and negatives the one the teacher likes best; the first positive where there are no scores.</summary>
    Teacher,

    /// <summary><c>teacher-pos</c>: of the positives the one the teacher likes best; the first where there are no scores.</summary>
    TeacherPositive,
}

/// <summary>Which negatives a row of the LLM-Embedder's data gives.</summary>
public enum NegativeSelection
{
    /// <summary><c>random</c>: any, each once while there are enough.</summary>
    Random,

    /// <summary><c>first</c>: in the order of the file.</summary>
    First,

    /// <summary><c>teacher+</c>: those the teacher likes best; random where there are no scores.</summary>
    TeacherBest,

    /// <summary><c>teacher-</c>: those the teacher likes least; random where there are no scores.</summary>
    TeacherWorst,
}

/// <summary>How rows of several files come together in batches.</summary>
public enum BatchComposition
{
    /// <summary>All rows mixed.</summary>
    Mixed,

    /// <summary><c>epoch</c>: every batch from one file, every row once an epoch, the batches of all files shuffled.</summary>
    Epoch,

    /// <summary><c>random</c>: every batch from one file drawn in proportion to its rows, and its rows drawn anew for each batch.</summary>
    Random,
}
