"""Token ids to unit vectors. PyTorch as sentence-transformers runs it: sorted by length, padded to the longest of a batch, CLS, normalised; copies both ways counted."""
import csv, json, os, tempfile

import checkpoint, common

HEADER = ['model', 'workload', 'texts', 'tokens', 'form', 'batch_size', 'bgemetal_tokens_s', 'bgemetal_p20', 'bgemetal_p80', 'torch_tokens_s', 'torch_p20', 'torch_p80', 'ratio', 'smallest_cosine', 'best']
# Shares of --tokens, so that every shape takes about as long.
SHARES = {'base': 0.5, 'large': 0.15}
END_TO_END = ('date,commit,cpu,threads,engine,engine_version,model,workload,texts,tokens,rounds,ms_min,ms_p20,ms_p50,ms_p80,cpu_ms_min,tokens_per_second,ratio_to_peer,'
              'ratio_of_minima,peak_bytes').split(',')


def ours(bench, model, ids, folder):
    """Seconds as `embed --stats` counts them: reading rows and writing vectors included, loading not. The first run fills the kernel cache."""
    source, target, stats = (os.path.join(folder, n) for n in ('in.jsonl', 'out.npy', 'stats.json'))
    with open(source, 'w') as f: f.writelines(json.dumps({'input_ids': row}) + '\n' for row in ids)
    seconds, peak = [], 0
    for _ in range(bench.a.runs + 1):
        bench.bgemetal('embed', '--model', model, '--input', source, '--output', target, '--stats', stats, '--pooling', 'cls', '--normalize', 'true', '--max-length', 512,
                       '--device', bench.a.device, '--dtype', bench.a.dtype, '--quiet')
        s = common.read_json(stats); seconds.append(s['seconds']); peak = s.get('peak_bytes') or peak
    return seconds[1:], peak, common.read_npy(target)


def theirs(bench, forward, ids, batch_size):
    """Seconds of sorting, padding, copying, computing and copying back; the vectors in the order of the rows; peak bytes."""
    torch = bench.torch; ids = [torch.tensor(row) for row in ids]

    def encode():
        order, parts = sorted(range(len(ids)), key=lambda i: -len(ids[i])), []
        for at in range(0, len(order), batch_size):
            tokens, mask = common.pad(torch, [ids[i] for i in order[at:at + batch_size]])
            parts.append(torch.nn.functional.normalize(forward(tokens.to(bench.a.device), mask.to(bench.a.device))[:, 0].float(), dim=-1))
        vectors = torch.cat(parts).cpu(); out = torch.empty_like(vectors); out[torch.tensor(order)] = vectors
        return out
    if bench.is_cuda: torch.cuda.reset_peak_memory_stats()
    with torch.inference_mode():
        vectors = encode()
        seconds = [bench.seconds(encode) for _ in range(bench.a.runs)]
    return seconds, vectors, torch.cuda.max_memory_allocated() if bench.is_cuda else ''


def forms(bench, model):
    """PyTorch's ways: this module's BERT, eager and compiled, and transformers' own where it is installed."""
    import bert
    torch = bench.torch; own = bert.Bert(model).to(bench.a.device, bench.dtype).eval(); found = [('eager', own)]
    try:
        from transformers import AutoModel
        other = AutoModel.from_pretrained(model, attn_implementation='sdpa', add_pooling_layer=False).to(bench.a.device, bench.dtype).eval()
        found.append(('transformers', lambda ids, mask: other(input_ids=ids, attention_mask=mask.long()).last_hidden_state))
    except ImportError: pass
    except Exception as e: print(f'transformers is left out: {e}')
    if not bench.a.no_compile and hasattr(torch, 'compile'): found.append(('compile', torch.compile(own, dynamic=True)))
    return found


def end_to_end_rows(bench, shape, workload, count, tokens, engines):
    """Rows in the form of benchmarks/results/end_to_end.csv: the GPU stands in the place of the processor, its time is not counted apart."""
    try: commit = open(os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), 'COMMIT')).read().strip()[:10]
    except OSError: commit = 'unknown'
    peers = [s for name, _, s, _ in engines if name != 'bgemetal']; best, least = min(common.quantiles(s)[1] for s in peers), min(map(min, peers))
    for name, version, s, peak in engines:
        p20, p50, p80 = (round(x * 1e3, 3) for x in common.quantiles(s))
        yield [common.today(), commit, bench.name, 1, name, version, 'bge-' + shape, workload, count, tokens, len(s), round(min(s) * 1e3, 3), p20, p50, p80, '', round(tokens / p50 * 1e3),
               round(best * 1e3 / p50, 3), round(least / min(s), 3), peak]


def run(bench):
    a, torch, table, rows = bench.a, bench.torch, [], []
    for shape in [os.path.basename(os.path.normpath(a.model))] if a.model else bench.shapes(['small-zh', 'small-en', 'base', 'large']):
        if bench.is_late(): print('embed: the time is spent'); break
        with tempfile.TemporaryDirectory() as folder:
            model = a.model or checkpoint.write(torch, os.path.join(folder, 'model'), shape); vocabulary = common.read_json(os.path.join(model, 'config.json'))['vocab_size']
            ways = forms(bench, model)
            for workload in a.workload:
                ids = common.embed_rows(workload, int(a.tokens * SHARES.get(shape, 1)) if not a.tiny else 3000, vocabulary); tokens = sum(map(len, ids))
                seconds, peak, (size, values) = ours(bench, model, ids, folder); mine = torch.frombuffer(values, dtype=torch.float32).reshape(size)
                r20, rate, r80 = (round(tokens / s) for s in reversed(common.quantiles(seconds)))
                print(f'{shape:9} {workload:7} {len(ids)} texts  bgemetal                       {rate:12,} tokens/s', flush=True)
                found, engines = [], [('bgemetal', '0.1.0', seconds, peak)]
                for form, forward in ways:
                    for batch_size in a.batch_size:
                        if found and bench.is_late(): continue
                        try: other, vectors, memory = theirs(bench, forward, ids, batch_size)
                        except Exception as e: print(f'{shape:9} {workload:7} torch {form} batch {batch_size} is left out: {type(e).__name__} {str(e)[:200]}'); continue
                        cosine = (mine * vectors).sum(-1).min().item(); t20, other_rate, t80 = (round(tokens / s) for s in reversed(common.quantiles(other)))
                        print(f'{shape:9} {workload:7} {len(ids)} texts  torch {form:12} batch {batch_size:<4}{other_rate:12,} tokens/s   bgemetal is {rate / other_rate:.2f}x   smallest cosine {cosine:.5f}', flush=True)
                        found.append([shape, workload, len(ids), tokens, form, batch_size, rate, r20, r80, other_rate, t20, t80, round(rate / other_rate, 3), round(cosine, 6)])
                        engines.append((f'torch-{form}-{batch_size}', torch.__version__, other, memory))
                if not found: continue
                fastest = max(row[9] for row in found)
                table += [row + [row[9] == fastest] for row in found]
                print(f'{shape:9} {workload:7} against the best of PyTorch: {rate / fastest:.2f}x', flush=True)
                bench.write('embed', HEADER, table)
                rows += end_to_end_rows(bench, shape, workload, len(ids), tokens, engines)
                with open(os.path.join(a.results, 'end_to_end.csv'), 'w', newline='') as f: csv.writer(f, lineterminator='\n').writerows([END_TO_END] + rows)
