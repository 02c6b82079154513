using System.Text.Json;

namespace BgeMetal.Training.Feedback;

/// <summary>
/// Reads a completions answer: <c>{"choices": [{"index", "logprobs": {"tokens", "token_logprobs"}}, ..]}</c>. The score of a text is the mean
/// log-probability of the tokens that reach into the answer (a token that straddles its start counts); generated tokens after the text do not.
/// </summary>
internal static class CompletionAnswer
{
    private const int Lookahead = 8;

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
        (int Start, int End)[] places = Places(tokens, text);
        double sum = 0;
        int count = 0;
        for (int i = 0; i < places.Length; i++)
        {
            if (places[i].Start >= text.Length || places[i].End <= answerStart) continue;
            JsonElement value = values[i];
            if (value.ValueKind != JsonValueKind.Number || !value.TryGetDouble(out double logprob) || !double.IsFinite(logprob))
                throw new JsonException($"token_logprobs[{i}] is no number");
            sum += logprob;
            count++;
        }
        return count > 0 ? (float)(sum / count) : throw new BgeMetalException("cannot score", "the answer has no token");
    }

    /// <summary>
    /// Where each token starts and ends in the text, in UTF-16 units. Tokens are matched against the text: servers count <c>text_offset</c> in different units, count
    /// marks that are not of the text, lose the spaces before words and show parts of a character as U+FFFD. A token that does not match within a few characters
    /// stands from there to the next that does. Tokens after the end are generated ones.
    /// </summary>
    private static (int Start, int End)[] Places(JsonElement tokens, string text)
    {
        (int Start, int End)[] places = new (int, int)[tokens.GetArrayLength()];
        int at = 0, open = 0, i = 0;
        foreach (JsonElement token in tokens.EnumerateArray())
        {
            if (token.ValueKind != JsonValueKind.String) throw new JsonException($"tokens[{i}] is no text");
            string shown = Shown(token);
            int window = Math.Min(shown.Length + Lookahead, text.Length - at);
            int found = shown.Length == 0 || at == text.Length ? -1 : text.AsSpan(at, window).IndexOf(shown, StringComparison.Ordinal);
            places[i] = (at, at + 1);
            if (found >= 0)
            {
                for (; open < i; open++) places[open].End = Math.Max(places[open].Start, at + found);
                places[i] = (at + found, at + found + shown.Length);
                at = places[i].End;
                open = i + 1;
            }
            i++;
        }
        bool hasLoose = open < places.Length && places[open].Start < text.Length;
        if (at < text.Length && (text.Length - at > Lookahead || !(hasLoose || string.IsNullOrWhiteSpace(text[at..]))))
            throw new BgeMetalException("cannot score", "the endpoint returns the prompt cut short (is its context too small?), or no echo of it");
        for (; open < places.Length; open++) places[open].End = Math.Max(places[open].End, text.Length);
        return places;
    }

    private static string Shown(JsonElement token)
    {
        try
        {
            return token.GetString()!;
        }
        catch (InvalidOperationException)
        {
            return "";
        }
    }

    private static JsonElement List(JsonElement owner, string name) =>
        owner.ValueKind == JsonValueKind.Object && owner.TryGetProperty(name, out JsonElement list) && list.ValueKind == JsonValueKind.Array ? list
            : throw new JsonException($"\"{name}\" is missing");
}
