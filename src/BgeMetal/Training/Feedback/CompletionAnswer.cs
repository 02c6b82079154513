using System.Text;
using System.Text.Json;

namespace BgeMetal.Training.Feedback;

/// <summary>
/// Reads a completions answer: <c>{"choices": [{"index", "logprobs": {"tokens", "token_logprobs", "text_offset"}}, ..]}</c>. The score of a text is the mean
/// log-probability of the tokens that reach into the answer (a token that straddles its start counts); generated tokens after the text do not.
/// </summary>
internal static class CompletionAnswer
{
    /// <summary>The scores, in the order of <paramref name="texts"/>.</summary>
    /// <exception cref="JsonException">The answer is not whole: a choice or a list is missing or short.</exception>
    /// <exception cref="BgeMetalException">The endpoint does not return the prompt's log-probabilities.</exception>
    public static float[] Read(JsonElement root, IReadOnlyList<(string Text, int AnswerStart)> texts)
    {
        JsonElement choices = List(root, "choices");
        if (choices.GetArrayLength() != texts.Count) throw new JsonException($"{choices.GetArrayLength()} choices for {texts.Count} prompts");
        float[] scores = new float[texts.Count];
        bool[] seen = new bool[texts.Count];
        int position = 0;
        foreach (JsonElement choice in choices.EnumerateArray())
        {
            int index = choice.ValueKind == JsonValueKind.Object && choice.TryGetProperty("index", out JsonElement number) && number.TryGetInt32(out int given) ? given : position;
            if ((uint)index >= (uint)texts.Count || seen[index]) throw new JsonException($"a choice has the index {index}");
            seen[index] = true;
            position++;
            scores[index] = Score(choice, texts[index].Text, texts[index].AnswerStart);
        }
        return scores;
    }

    private static float Score(JsonElement choice, string text, int answerStart)
    {
        if (choice.ValueKind != JsonValueKind.Object || !choice.TryGetProperty("logprobs", out JsonElement logprobs) || logprobs.ValueKind != JsonValueKind.Object)
            throw new BgeMetalException("cannot score", "the endpoint returns no log-probabilities: it must support echo and logprobs for completions");
        JsonElement tokens = List(logprobs, "tokens"), values = List(logprobs, "token_logprobs");
        if (tokens.GetArrayLength() != values.GetArrayLength()) throw new JsonException("tokens and token_logprobs differ in length");
        int length = Runes(text), answer = Runes(text.AsSpan(0, answerStart)), reached = 0, count = 0;
        double sum = 0;
        (int Start, int End)[] places = Places(logprobs, tokens, text);
        for (int i = 0; i < places.Length; i++)
        {
            if (places[i].Start < length) reached = Math.Max(reached, places[i].End);
            if (places[i].Start >= length || places[i].End <= answer) continue;
            JsonElement value = values[i];
            if (value.ValueKind != JsonValueKind.Number || !value.TryGetDouble(out double logprob) || !double.IsFinite(logprob))
                throw new JsonException($"token_logprobs[{i}] is no number");
            sum += logprob;
            count++;
        }
        if (reached < length) throw new BgeMetalException("cannot score", "the endpoint returns the prompt cut short (is its context too small?), or no echo of it");
        return count > 0 ? (float)(sum / count) : throw new BgeMetalException("cannot score", "the answer has no token");
    }

    /// <summary>
    /// Where each token starts and ends, in code points of the text: by <c>text_offset</c> where the server gives it, else by the tokens' lengths. A first token
    /// that is not of the text (a beginning-of-text mark, which some servers show and count) is taken out of the count.
    /// </summary>
    private static (int Start, int End)[] Places(JsonElement logprobs, JsonElement tokens, string text)
    {
        (int Start, int End)[] places = new (int, int)[tokens.GetArrayLength()];
        bool known = logprobs.TryGetProperty("text_offset", out JsonElement offsets) && offsets.ValueKind == JsonValueKind.Array && offsets.GetArrayLength() == places.Length;
        for (int i = 0, at = 0; i < places.Length; i++)
        {
            if (tokens[i].ValueKind != JsonValueKind.String) throw new JsonException($"tokens[{i}] is no text");
            int start = known && offsets[i].TryGetInt32(out int offset) ? offset : at;
            at = start + Runes(tokens[i].GetString());
            places[i] = (start, at);
            if (known && i > 0) places[i - 1].End = Math.Max(places[i - 1].Start, start);
        }
        if (places.Length == 0 || text.StartsWith(tokens[0].GetString()!, StringComparison.Ordinal)) return places;
        int shift = places[0].End;
        for (int i = 0; i < places.Length; i++) places[i] = (places[i].Start - shift, places[i].End - shift);
        return places;
    }

    private static int Runes(ReadOnlySpan<char> text)
    {
        int count = 0;
        foreach (Rune _ in text.EnumerateRunes()) count++;
        return count;
    }

    private static JsonElement List(JsonElement owner, string name) =>
        owner.ValueKind == JsonValueKind.Object && owner.TryGetProperty(name, out JsonElement list) && list.ValueKind == JsonValueKind.Array ? list
            : throw new JsonException($"\"{name}\" is missing");
}
