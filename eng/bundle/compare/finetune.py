"""A contrastive fine-tuning step. PyTorch by FlagEmbedding's recipe: queries and passages padded apart, bf16 autocast over fp32 weights, AdamW (fused on a GPU), clipping,
in-batch negatives, temperature 0.02. Batches are padded and pinned beforehand, which the recipe's loader workers do beside the GPU."""
import csv, json, os, random, shutil, tempfile, time

import checkpoint, common

HEADER = ['model', 'queries', 'group', 'tokens_per_step', 'form', 'bgemetal_ms', 'bgemetal_p20', 'bgemetal_p80', 'torch_ms', 'torch_p20', 'torch_p80', 'ratio', 'bgemetal_peak_bytes', 'torch_peak_bytes', 'peak_ratio',
          'losses_apart', 'best']
RATE, TEMPERATURE, CHECKED = 1e-5, 0.02, 5


def training_rows(a, vocabulary, steps, seed=7):
    """[(query, passages)] of token rows: queries of about 12 tokens, passages of about 120."""
    rng, rows = random.Random(seed), []
    for _ in range(steps * a.train_batch):
        query = common.token_row(common.lengths(1, 12, 0.45, 64, rng)[0], vocabulary, rng)
        rows.append((query, [common.token_row(n, vocabulary, rng) for n in common.lengths(a.group, 120 if not a.tiny else 10, 0.6, a.passage_length, rng)]))
    return rows


def write_rows(rows, path):
    def text(ids): return {'input_ids': ids}
    with open(path, 'w') as f:
        f.writelines(json.dumps({'query': text(q), 'pos': [text(p[0])], 'neg': [text(x) for x in p[1:]]}) + '\n' for q, p in rows)


def log_of(folder, skip):
    """Losses; milliseconds of the steps behind `skip`; bytes held. The log's rate is of the time since the line before."""
    losses, times, peak, before = [], [], 0, 0
    with open(os.path.join(folder, 'train_log.csv')) as f: rows = list(csv.DictReader(f))
    for i, row in enumerate(rows):
        tokens = int(row['tokens']); losses.append(float(row['loss'])); peak = int(row['peak_bytes'])
        if i >= skip: times.append((tokens - before) / float(row['tokens_per_second']) * 1e3)
        before = tokens
    return losses, times, peak


def ours(bench, model, data, out, steps, skip):
    a = bench.a
    bench.bgemetal('finetune', '--model', model, '--train-data', data, '--output-dir', out, '--overwrite-output-dir', '--max-steps', steps, '--per-device-train-batch-size', a.train_batch,
                   '--train-group-size', a.group, '--query-max-len', 64, '--passage-max-len', a.passage_length, '--temperature', TEMPERATURE, '--sentence-pooling-method', 'cls', '--learning-rate', RATE, '--shuffle', 'false',
                   '--logging-steps', 1, '--device', a.device, '--dtype', a.dtype, '--quiet')
    return log_of(out, skip)


def forms(bench, model, dropout):
    """Name and a function that makes a model (ids, mask) -> [B, L, D] in fp32, trained in place."""
    import bert
    torch = bench.torch
    yield 'eager', lambda: bert.Bert(model, dropout)
    if not bench.a.no_compile and hasattr(torch, 'compile'):
        yield 'compile', lambda: torch.compile(bert.Bert(model, dropout).to(bench.a.device), dynamic=True)
    try:
        from transformers import AutoModel
    except ImportError: return

    class Wrapped(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = AutoModel.from_pretrained(model, attn_implementation='sdpa', add_pooling_layer=False, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout).float()

        def forward(self, ids, mask): return self.inner(input_ids=ids, attention_mask=mask.long()).last_hidden_state
    yield 'transformers', Wrapped


def contrastive_loss(torch, q, p, group):
    """FlagEmbedding's: scores of every query with every passage of the batch over the temperature; a query's own positive is right."""
    scores = q @ p.transpose(0, 1) / TEMPERATURE
    return torch.nn.functional.cross_entropy(scores.float(), torch.arange(len(q), device=q.device) * group)


def optimizer_of(bench, model):
    more = {'fused': True} if bench.is_cuda else {}
    return bench.torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, **more)


def train(bench, model, batches, loss_of, skip, block=4):
    """Losses of all steps, milliseconds of a step (over blocks of a few, which are waited for at their end), peak bytes."""
    torch, a = bench.torch, bench.a
    model = model.to(a.device).train(); optimizer = optimizer_of(bench, model); total = len(batches)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (total - step) / total)
    losses, times = [], []
    if bench.is_cuda: torch.cuda.reset_peak_memory_stats()
    bench.sync(); start = time.perf_counter()
    for step, batch in enumerate(batches):
        batch = [x.to(a.device, non_blocking=True) for x in batch]
        with torch.autocast('cuda' if bench.is_cuda else 'cpu', dtype=torch.bfloat16, enabled=a.dtype == 'bf16'): loss = loss_of(model, *batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step(); rate.step(); optimizer.zero_grad(set_to_none=True); losses.append(loss.detach())
        if (step + 1) % block == 0 or step + 1 == total:
            bench.sync(); now = time.perf_counter()
            if step + 1 >= skip + block: times.append((now - start) * 1e3 / block if (step + 1) % block == 0 else (now - start) * 1e3 / ((step + 1) % block))
            start = time.perf_counter()
    return [x.item() for x in losses], times, torch.cuda.max_memory_allocated() if bench.is_cuda else 0


def padded(bench, rows):
    """Batches of (query ids, query mask, passage ids, passage mask)."""
    out, a = [], bench.a
    for at in range(0, len(rows), a.train_batch):
        part = rows[at:at + a.train_batch]
        batch = [*common.pad(bench.torch, [q for q, _ in part]), *common.pad(bench.torch, [x for _, p in part for x in p])]
        out.append([x.pin_memory() for x in batch] if bench.is_cuda else batch)
    return out


def report(bench, table, name, shape, key, form, mine, other, apart, header):
    """One line to read, one row to keep. `mine` and `other` are (losses, milliseconds, peak bytes)."""
    a20, a50, a80 = common.quantiles(mine[1]); b20, b50, b80 = common.quantiles(other[1]); memory = round(mine[2] / other[2], 3) if other[2] else ''
    print(f'{shape:9} {name:9} {form:12} bgemetal {a50:9.2f} ms   torch {b50:9.2f} ms   {b50 / a50:.2f}x   peak {mine[2] / 1e6:,.0f} / {other[2] / 1e6:,.0f} MB   losses {apart:.2%} apart', flush=True)
    table.append([shape, *key, form, *(round(x, 3) for x in (a50, a20, a80, b50, b20, b80, b50 / a50)), mine[2], other[2] or '', memory, round(apart, 6), False])
    fastest = min(row[len(key) + 5] for row in table if row[:len(key) + 1] == [shape, *key])
    for row in table:
        if row[:len(key) + 1] == [shape, *key]: row[-1] = row[len(key) + 5] == fastest
    bench.write(name, header, table)


def apart_of(a, b): return max(abs(x - y) / max(abs(y), 1e-9) for x, y in zip(a, b))


def run(bench):
    a, table = bench.a, []
    if a.tiny: a.train_batch, a.group, a.steps = 4, 2, 8
    skip = max(2, a.steps // 5); total = a.steps + skip

    def loss_of(model, q_ids, q_mask, p_ids, p_mask):
        normalize = bench.torch.nn.functional.normalize
        return contrastive_loss(bench.torch, normalize(model(q_ids, q_mask)[:, 0], dim=-1), normalize(model(p_ids, p_mask)[:, 0], dim=-1), a.group)
    for shape in [os.path.basename(os.path.normpath(a.model))] if a.model else bench.shapes(['small-en', 'base']):
        if bench.is_late(): print('finetune: the time is spent'); break
        with tempfile.TemporaryDirectory() as folder:
            model, data = a.model or checkpoint.write(bench.torch, os.path.join(folder, 'model'), shape), os.path.join(folder, 'rows.jsonl')
            config = common.read_json(os.path.join(model, 'config.json')); rows = training_rows(a, config['vocab_size'], total)
            write_rows(rows, data); batches = padded(bench, rows); tokens = round(sum(len(q) + sum(map(len, p)) for q, p in rows) / total)
            exact = os.path.join(folder, 'exact'); shutil.copytree(model, exact); checkpoint.set_dropout(exact, 0.0)
            # The first losses without dropout: both do the same work, or the times mean nothing.
            reference = ours(bench, exact, data, os.path.join(folder, 'out'), CHECKED, 0)[0]
            mine = ours(bench, model, data, os.path.join(folder, 'out'), total, skip)
            for (form, make), (_, make_exact) in zip(forms(bench, model, config['hidden_dropout_prob']), forms(bench, exact, 0.0)):
                try:
                    apart = apart_of(reference, train(bench, make_exact(), batches[:CHECKED], loss_of, 0)[0])
                    other = train(bench, make(), batches, loss_of, skip)
                except Exception as e: print(f'{shape:9} finetune torch {form} is left out: {type(e).__name__} {str(e)[:200]}'); continue
                report(bench, table, 'finetune', shape, [a.train_batch, a.group, tokens], form, mine, other, apart, HEADER)
                if apart > (0.02 if a.dtype == 'bf16' else 1e-3): raise RuntimeError(f'{shape}, {form}: the first losses are {apart:.2%} apart, the two do not do the same work')
