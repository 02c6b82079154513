namespace BgeMetal.Cli.Parsing;

/// <summary>
/// Options of FlagEmbedding's and Hugging Face's command lines that have no meaning here: they name machinery that is not there (data loader
/// processes, DeepSpeed, trackers), so a command line that has them runs all the same, after one warning line.
/// </summary>
internal static class MeaninglessOptions
{
    /// <summary>How many values such an option takes.</summary>
    internal enum Values
    {
        /// <summary>A switch: true or false may follow.</summary>
        Flag,

        /// <summary>One value follows.</summary>
        One,

        /// <summary>One or more values follow, up to the next option.</summary>
        Many,
    }

    private static readonly Dictionary<string, Values> s_all = Table(
        Values.Flag, """
            do-train do-eval do-predict prediction-loss-only evaluate-during-training load-best-model-at-end greater-is-better no-cuda use-cpu use-mps-device
            gradient-checkpointing dataloader-pin-memory dataloader-persistent-workers ddp-find-unused-parameters ddp-broadcast-buffers
            remove-unused-columns group-by-length push-to-hub hub-private-repo hub-always-push skip-memory-metrics use-legacy-prediction-loop tf32
            fp16-full-eval bf16-full-eval jit-mode-eval use-ipex torch-compile include-inputs-for-metrics include-num-input-tokens-seen
            auto-find-batch-size full-determinism log-level-replica-warning logging-nan-inf-filter log-on-each-node save-safetensors save-on-each-node
            save-only-model ignore-data-skip adafactor split-batches trust-remote-code use-fast-tokenizer use-reentrant enable-sub-batch
            eval-do-concat-batches use-liger-kernel average-tokens-across-devices past-key-values restore-callback-states-from-checkpoint
            use-flash-attn use-flash-attention flash-attention force-redownload save-embedding load-embedding overwrite
            """,
        Values.One, """
            dataloader-num-workers dataloader-prefetch-factor deepspeed report-to run-name disable-tqdm log-level log-level-replica logging-dir
            logging-strategy logging-first-step save-strategy evaluation-strategy eval-strategy eval-delay eval-accumulation-steps
            per-device-eval-batch-size per-gpu-train-batch-size per-gpu-eval-batch-size metric-for-best-model local-rank ddp-backend ddp-bucket-cap-mb
            ddp-timeout fsdp-config fsdp-min-num-params fsdp-transformer-layer-cls-to-wrap accelerator-config sharded-ddp fp16-opt-level
            fp16-backend half-precision-backend hub-model-id hub-strategy hub-token torch-compile-backend torch-compile-mode torchdynamo ray-scope
            tpu-num-cores tpu-metrics-debug mp-parameters length-column-name label-names lr-scheduler-kwargs neftune-noise-alpha optim-args
            optim-target-modules torch-empty-cache-steps past-index xpu-backend nnodes nproc-per-node node-rank master-addr master-port rdzv-backend
            rdzv-endpoint config-name token num-proc batch-size inference-batch-size search-batch-size add-instruction embedder-batch-size
            reranker-batch-size corpus-embd-save-dir embedder-model-class reranker-model-class model-class attn-implementation torch-dtype eval-name eval-output-method error-level cache-path output-dir
            index-factory save-path reranker-query-max-length pad-to-multiple-of model-type
            """,
        Values.Many, "fsdp debug dataset-names eval-metrics gradient-checkpointing-kwargs");

    /// <summary>True when the kebab-case name is such an option.</summary>
    public static bool TryGet(string name, out Values values) => s_all.TryGetValue(name, out values);

    private static Dictionary<string, Values> Table(Values first, string firstNames, Values second, string secondNames, Values third, string thirdNames)
    {
        Dictionary<string, Values> table = new(StringComparer.Ordinal);
        foreach ((Values values, string names) in ((Values, string)[])[(first, firstNames), (second, secondNames), (third, thirdNames)])
            foreach (string name in names.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries)) table["--" + name] = values;
        return table;
    }
}
