using BgeMetal.Kernels;
using BgeMetal.Tensors;

namespace BgeMetal.Autograd;

/// <summary>
/// What operations run on. A recording tape remembers, for every operation, how to turn the gradient of its result into the gradients of its inputs;
/// <see cref="Backward(Tensor, float)"/> runs these in reverse. An inference tape keeps nothing: its tensors live until they are rewound. Always an
/// explicit argument, never ambient state.
/// </summary>
internal sealed class Tape : IDisposable
{
    private const int SeedsAtATime = 64;

    private readonly ArenaMark _start;
    private readonly List<Step> _steps = [];
    private readonly GradientSlots _slots;
    private ulong _seed;
    private ulong _draws;
    private ulong _lastCopied;
    private Tensor _seeds;

    private Tape(Arena arena, TrainableParameters? parameters, ulong seed)
    {
        Arena = arena;
        Parameters = parameters;
        _seed = seed;
        _start = arena.Mark();
        _slots = new GradientSlots(arena);
    }

    /// <summary>Where results are allocated.</summary>
    public Arena Arena { get; }

    /// <summary>Where operations run.</summary>
    public Device Device => Arena.Device;

    /// <summary>Where parameter gradients are added; null on an inference tape.</summary>
    public TrainableParameters? Parameters { get; }

    /// <summary>When given, told every intermediate result that a layer names (<see cref="Watch"/>), in the order in which they are computed.</summary>
    public Action<string, Tensor>? Probe { get; init; }

    /// <summary>Whether operations must keep what their backward pass needs.</summary>
    public bool IsRecording => Parameters is not null;

    /// <summary>A tape that computes without keeping anything for a backward pass. Disposing rewinds the arena.</summary>
    public static Tape Inference(Arena arena) => new(arena, null, 0);

    /// <summary>
    /// A tape that keeps what <see cref="Backward(Tensor, float)"/> needs. Disposing rewinds the arena. The same <paramref name="seed"/> draws the
    /// same dropout masks, so that a forward pass can be repeated exactly.
    /// </summary>
    /// <param name="arena">Where results are allocated.</param>
    /// <param name="parameters">Where parameter gradients are added.</param>
    /// <param name="seed">Seed of the dropout masks.</param>
    /// <param name="probe">Told the named intermediate results.</param>
    public static Tape Record(Arena arena, TrainableParameters parameters, ulong seed, Action<string, Tensor>? probe = null) => new(arena, parameters, seed) { Probe = probe };

    /// <summary>Shows <paramref name="x"/> to the probe, if there is one.</summary>
    public Tensor Watch(string layer, string part, Tensor x)
    {
        Probe?.Invoke(layer + part, x);
        return x;
    }

    /// <summary>Remembers how <paramref name="output"/>'s gradient becomes its inputs' gradients. Only on a recording tape.</summary>
    public void Record(string name, Tensor output, Action<Tensor> backward)
    {
        if (!IsRecording) throw new InvalidOperationException($"{name}: an inference tape records nothing");
        _steps.Add(new Step(name, output, backward));
    }

    /// <summary>The gradient buffer of <paramref name="x"/> and whether it already holds something to add to.</summary>
    public GradientSlot Grad(Tensor x) => _slots.Get(x);

    /// <summary>The gradient buffer of <paramref name="x"/>, zero where nothing was written yet: for operations that write only some rows.</summary>
    public Tensor GradToAddTo(Tensor x) => _slots.GetToAddTo(x);

    /// <summary>Draws dropout masks from <paramref name="seed"/> from here on, as a tape of this seed does from its start.</summary>
    public void DrawFrom(ulong seed) => (_seed, _draws, _lastCopied) = (seed, 0, 0);

    /// <summary>A seed for the next dropout mask.</summary>
    public ulong NextSeed() => SeedOf(++_draws);

    /// <summary>The same seed in the device's memory, two int32, low half first. Seeds are copied there so many at a time.</summary>
    public Tensor NextSeedOnDevice()
    {
        if (_draws >= _lastCopied)
        {
            Span<int> halves = stackalloc int[2 * SeedsAtATime];
            for (int i = 0; i < SeedsAtATime; i++)
            {
                ulong seed = SeedOf(_draws + (ulong)i + 1);
                (halves[2 * i], halves[(2 * i) + 1]) = ((int)(uint)seed, (int)(uint)(seed >> 32));
            }
            _seeds = Arena.Integers(halves);
            _lastCopied = _draws + SeedsAtATime;
        }
        int place = SeedsAtATime - (int)(_lastCopied - _draws++);
        return _seeds.ColumnRange(2 * place, 2);
    }

    /// <summary>Gradients of every parameter and activation for d loss = <paramref name="scale"/>; parameter gradients are added to what is there.</summary>
    public void Backward(Tensor loss, float scale)
    {
        if (loss.Rows != 1 || loss.Columns != 1) throw new ArgumentException($"Backward: the loss is {loss}, expected [1, 1]");
        Grad(loss).Buffer.CopyFrom([scale]);
        RunBackward();
    }

    /// <summary>
    /// Like <see cref="Backward(Tensor, float)"/>, starting from a known gradient of <paramref name="output"/>: of a loss, for instance, a number that the device looks up
    /// when it gets there.
    /// </summary>
    public void Backward(Tensor output, Tensor gradient)
    {
        Tensor slot = Grad(output).Buffer;
        if (output is { Rows: 1, Columns: 1 }) Device.Copy(gradient.Address, slot.Address, output.DType.SizeBytes);
        else slot.CopyRows(gradient);
        RunBackward();
    }

    /// <summary>
    /// Gives back everything allocated since <paramref name="mark"/> but <paramref name="result"/>, which stays where it is until the next call. Called between
    /// layers, so that an inference pass needs the memory of one layer and copies nothing; a recording tape keeps all.
    /// </summary>
    public void Compact(ArenaMark mark, Tensor result)
    {
        if (!IsRecording) Arena.RewindAround(mark, result);
    }

    /// <inheritdoc/>
    public void Dispose() => Arena.Rewind(_start);

    private ulong SeedOf(ulong draw) => SplitMix64.Mix(_seed + (draw * SplitMix64.Increment));

    private void RunBackward()
    {
        for (int i = _steps.Count - 1; i >= 0; i--)
        {
            (string _, Tensor output, Action<Tensor> backward) = _steps[i];
            if (_slots.Take(output) is not { } gradient) continue;
            backward(gradient);
            _slots.Recycle(gradient);
        }
        _steps.Clear();
    }

    private readonly record struct Step(string Name, Tensor Output, Action<Tensor> Backward);
}
