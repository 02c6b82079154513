"""A RetroMAE step: encoder, one decoder layer in which every position sees its own half of the keys, both masked-LM losses. PyTorch keeps logits of every position."""
import json, os, random, tempfile

import checkpoint, common, finetune

HEADER = ['model', 'texts', 'tokens_per_step', 'workload', 'form', 'bgemetal_ms', 'bgemetal_p20', 'bgemetal_p80', 'torch_ms', 'torch_p20', 'torch_p80', 'ratio', 'bgemetal_peak_bytes', 'torch_peak_bytes', 'peak_ratio',
          'losses_apart', 'best']
ENCODER_SHARE, DECODER_SHARE, MASK, NO_LABEL = 0.3, 0.5, 4, -100


def whole_words(model):
    """Words that are one token each: entries of the vocabulary made of letters."""
    with open(os.path.join(model, 'vocab.txt'), encoding='utf-8') as f: return [(line.rstrip('\n'), i) for i, line in enumerate(f) if len(line) > 2 and line.rstrip('\n').isalpha() and line.isascii()]


def texts(words, count, workload, longest, seed=11):
    """Lists of (word, id), two tokens shorter than the text will be."""
    rng = random.Random(seed)
    sizes = [longest] * count if workload == 'fixed' else common.lengths(count, 0.45 * longest, 0.6, longest, rng, shortest=8)
    return [[rng.choice(words) for _ in range(n - 2)] for n in sizes]


def masked(torch, rows, seed=13):
    """(ids, mask, labels, decoder ids, visible, decoder labels), padded, with the recipe's shares of masks."""
    rng = random.Random(seed); ids, mask = common.pad(torch, rows); labels, decoder = torch.full_like(ids, NO_LABEL), torch.full_like(ids, NO_LABEL); hidden = ids.clone(); longest = ids.shape[1]
    visible = torch.rand(len(rows), longest, longest, generator=torch.Generator().manual_seed(seed)) >= DECODER_SHARE
    visible[:, :, 0] = True
    visible &= mask[:, None, :] & ~torch.eye(longest, dtype=torch.bool)
    for b, row in enumerate(rows):
        for i in rng.sample(range(1, len(row) - 1), max(1, round(len(row) * ENCODER_SHARE)) if len(row) > 3 else 1): labels[b, i] = ids[b, i]; hidden[b, i] = MASK
        decoder[b, 1:len(row) - 1] = ids[b, 1:len(row) - 1]
    return [hidden, mask, labels, ids, visible, decoder]


def run(bench):
    import bert
    a, torch, table = bench.a, bench.torch, []
    if a.tiny: a.train_batch, a.steps, a.length = 4, 8, 24
    skip = max(2, a.steps // 5); total = a.steps + skip

    def loss_of(model, *batch): return sum(model(*batch))
    for shape in bench.shapes(['small-zh', 'base']):
        with tempfile.TemporaryDirectory() as folder:
            model, data, out = checkpoint.write(torch, os.path.join(folder, 'model'), shape), os.path.join(folder, 'texts.jsonl'), os.path.join(folder, 'out'); words = whole_words(model)
            for workload in a.workload:
                if bench.is_late(): print('pretrain: the time is spent'); return
                rows = texts(words, total * a.train_batch, workload, a.length)
                with open(data, 'w') as f: f.writelines(json.dumps({'text': ' '.join(word for word, _ in row)}) + '\n' for row in rows)
                tokens = round(sum(len(row) + 2 for row in rows) / total)
                bench.bgemetal('pretrain', '--model', model, '--train-data', data, '--output-dir', out, '--overwrite-output-dir', '--max-steps', total, '--per-device-train-batch-size', a.train_batch,
                               '--max-seq-length', a.length, '--encoder-mlm-probability', ENCODER_SHARE, '--decoder-mlm-probability', DECODER_SHARE, '--learning-rate', finetune.RATE, '--shuffle', 'false',
                               '--logging-steps', 1, '--device', a.device, '--dtype', a.dtype, '--quiet')
                mine = finetune.log_of(out, skip)
                batches = [masked(torch, [[2, *(i for _, i in row), 3] for row in rows[at:at + a.train_batch]], seed=at) for at in range(0, len(rows), a.train_batch)]
                if bench.is_cuda: batches = [[x.pin_memory() for x in batch] for batch in batches]
                for form in ['eager'] + (['compile'] if not a.no_compile and hasattr(torch, 'compile') else []):
                    try:
                        own = bert.RetroMae(model).to(a.device)
                        other = finetune.train(bench, torch.compile(own, dynamic=True) if form == 'compile' else own, batches, loss_of, skip)
                    except Exception as e: print(f'{shape:9} pretrain torch {form} is left out: {type(e).__name__} {str(e)[:200]}'); continue
                    # Masks are drawn by each side: losses of the first steps are near, not equal.
                    apart = abs(sum(mine[0][:5]) - sum(other[0][:5])) / sum(other[0][:5])
                    finetune.report(bench, table, 'pretrain', shape, [a.train_batch, tokens, workload], form, mine, other, apart, HEADER)
                    if apart > 0.05: raise RuntimeError(f'{shape}, {form}: the first losses are {apart:.2%} apart, the two do not do the same work')
