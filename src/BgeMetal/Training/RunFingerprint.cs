using System.Globalization;
using System.Security.Cryptography;
using System.Text.Json;

namespace BgeMetal.Training;

/// <summary>What must be the same for a resumed run to continue the first one: the data, and every option that decides the weights.</summary>
internal static class RunFingerprint
{
    /// <summary>A line for trainer_state.json.</summary>
    /// <param name="trainer">The trainer's name.</param>
    /// <param name="data">The data set's fingerprint.</param>
    /// <param name="steps">Steps of the run.</param>
    /// <param name="options">Those that only say where files go, how often and with how many threads do not count.</param>
    /// <param name="task">The trainer's own options, without those that do not decide the weights.</param>
    public static string Of<TTask>(string trainer, ulong data, long steps, TrainingOptions options, TTask task)
    {
        TrainingOptions deciding = options with
        {
            OutputDirectory = "",
            OverwriteOutputDirectory = false,
            ResumeFrom = null,
            Epochs = 0,
            MaxSteps = 0,
            LoggingSteps = 0,
            SaveSteps = 0,
            SaveTotalLimit = 0,
            Evaluation = null,
            Compute = options.Compute with { Threads = 0 },
        };
        byte[] hash = SHA256.HashData(JsonSerializer.SerializeToUtf8Bytes(new { options = deciding, task }));
        return string.Create(CultureInfo.InvariantCulture, $"{trainer} data {data:x16} steps {steps} options {Convert.ToHexStringLower(hash.AsSpan(0, 8))}");
    }
}
