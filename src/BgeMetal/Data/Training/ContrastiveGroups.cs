namespace BgeMetal.Data.Training;

/// <summary>
/// Sorts the files of a data set into groups that share batches. Without "same data set within a batch": one group of everything. With it, as in FlagEmbedding:
/// each file is a group; the files of a folder with fewer rows than the small threshold are one group together, left out if they have fewer than the drop
/// threshold; such a file named itself is left out. A file's first row may set its batch size (<c>batch_size</c>), and a symmetric type halves it.
/// </summary>
internal static class ContrastiveGroups
{
    /// <summary>The groups, at least one.</summary>
    /// <exception cref="BgeMetalException">The thresholds leave nothing, or a first row is malformed.</exception>
    public static List<RowGroup> Of(TrainingDataSet<TrainingRow> data, ContrastiveOptions options)
    {
        if (!options.SameDatasetWithinBatch) return [new RowGroup([(0, data.Rows)], options.BatchSize, data.Sources.All(s => s.Name.NoInBatchNegatives))];
        List<RowGroup> groups = [];
        Dictionary<TrainingInput, List<TrainingSource>> small = new(ReferenceEqualityComparer.Instance);
        foreach (TrainingSource source in data.Sources)
        {
            if (source.Rows >= options.SmallThreshold) groups.Add(GroupOf([source], data, options));
            else if (source.Name.InFolder) (small.TryGetValue(source.Name.Input, out List<TrainingSource>? list) ? list : small[source.Name.Input] = []).Add(source);
        }

        foreach (List<TrainingSource> merged in small.Values)
            if (merged.Sum(s => s.Rows) >= options.DropThreshold)
                foreach (IGrouping<bool, TrainingSource> alike in merged.GroupBy(s => s.Name.NoInBatchNegatives)) groups.Add(GroupOf([.. alike], data, options));
        return groups.Count > 0 ? groups : throw new BgeMetalException("no training data",
            $"every file has fewer rows than the small threshold {options.SmallThreshold}, and merged fewer than the drop threshold {options.DropThreshold}");
    }

    private static RowGroup GroupOf(List<TrainingSource> sources, TrainingDataSet<TrainingRow> data, ContrastiveOptions options) => new(
        sources.ConvertAll(s => (s.FirstRow, s.Rows)),
        sources.Min(s => BatchSize(data.Read(s.FirstRow), options.BatchSize)),
        sources[0].Name.NoInBatchNegatives);

    private static int BatchSize(TrainingRow first, int batchSize) =>
        first.BatchSize ?? (first.Type?.Contains("symmetric", StringComparison.Ordinal) == true ? Math.Max(1, batchSize / 2) : batchSize);
}
