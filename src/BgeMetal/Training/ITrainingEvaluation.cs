namespace BgeMetal.Training;

/// <summary>Measures a model while it is trained. Never changes it.</summary>
internal interface ITrainingEvaluation
{
    /// <summary>Before the first step of this process, <paramref name="step"/> steps of the run being done.</summary>
    void Begin(long step, double epoch, CancellationToken cancellation);

    /// <summary>After each step.</summary>
    void After(long step, double epoch, bool isLast, CancellationToken cancellation);
}
