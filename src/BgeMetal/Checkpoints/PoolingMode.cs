namespace BgeMetal.Checkpoints;

/// <summary>How the hidden states of a text become one vector.</summary>
public enum PoolingMode
{
    /// <summary>The hidden state of the first token.</summary>
    Cls,

    /// <summary>The mean over all tokens, special ones included.</summary>
    Mean,
}
