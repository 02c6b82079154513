"""The same encoder, the same checkpoint, the same token ids: bgemetal and PyTorch on one GPU, tokens a second side by side.

PyTorch computes as sentence-transformers does: texts sorted by length, batches padded to their longest text, bf16, scaled_dot_product_attention with a
padding mask; eager, and compiled by torch.compile. Vectors of both are compared (cosine) before a ratio is printed. Needs python3 with torch, nothing else.
"""
import argparse, array, csv, json, math, os, random, statistics, struct, subprocess, sys, tempfile, time

SHAPES = {'small-zh': (4, 512, 8, 2048), 'small-en': (12, 384, 12, 1536), 'base': (12, 768, 12, 3072), 'large': (24, 1024, 16, 4096)}


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog='./run.sh compare')
    p.add_argument('--model', metavar='DIR', help='a BERT checkpoint (default: fresh weights of --shape)')
    p.add_argument('--shape', choices=SHAPES, nargs='+', default=['small-en', 'base'], help='shapes of fresh checkpoints')
    p.add_argument('--workload', choices=['ragged', 'fixed'], nargs='+', default=['ragged', 'fixed'], help='log-normal lengths (mean about 150, at most 512), or 512 tokens each')
    p.add_argument('--tokens', type=int, default=4_000_000, help='tokens of a workload')
    p.add_argument('--batch-size', type=int, nargs='+', default=[32, 256], help='texts of a PyTorch batch; sentence-transformers takes 32')
    p.add_argument('--runs', type=int, default=3, help='timed runs, of which the median counts')
    p.add_argument('--device', default='cuda'); p.add_argument('--dtype', choices=['bf16', 'fp32'], default='bf16')
    p.add_argument('--no-compile', action='store_true', help='leave torch.compile out')
    p.add_argument('--bgemetal', required=True, help=argparse.SUPPRESS); p.add_argument('--samples', required=True, help=argparse.SUPPRESS); p.add_argument('--results', required=True, help=argparse.SUPPRESS)
    return p.parse_args()


def bgemetal(a, *args):
    r = subprocess.run([a.bgemetal, *map(str, args)], capture_output=True, text=True)
    if r.returncode: sys.exit(f"bgemetal {args[0]}: {(r.stderr.strip().splitlines() or ['failed'])[-1]}")


def fresh_model(a, shape, folder):
    layers, hidden, heads, inner = SHAPES[shape]
    bgemetal(a, 'init', '--corpus', os.path.join(a.samples, 'corpus.jsonl'), '--output', folder, '--vocab-size', 8000, '--layers', layers, '--hidden-size', hidden,
             '--heads', heads, '--intermediate-size', inner, '--max-positions', 512)
    return folder


def rows(workload, tokens, vocabulary, seed=1):
    """Lists of token ids: [CLS] and [SEP] do not matter to speed, so ids are any but the first few."""
    rng, out, total = random.Random(seed), [], 0
    while total < tokens:
        n = 512 if workload == 'fixed' else min(512, max(4, round(math.exp(rng.gauss(4.75, 0.75)))))
        out.append([rng.randrange(200, vocabulary) for _ in range(n)]); total += n
    return out


def read_npy(path):
    b = open(path, 'rb').read(); n = struct.unpack('<H', b[8:10])[0]
    shape = [int(x) for x in b[10:10 + n].decode().split("'shape': (")[1].split(')')[0].split(',') if x.strip()]
    values = array.array('f'); values.frombytes(b[10 + n:]); return shape, values


def ours(a, model, ids, folder):
    """Tokens a second as `embed --stats` counts them: reading rows and writing vectors included, loading not. The first run fills the kernel cache."""
    source, target, stats = (os.path.join(folder, n) for n in ('in.jsonl', 'out.npy', 'stats.json')); rates = []
    with open(source, 'w') as f: f.writelines(json.dumps({'input_ids': row}) + '\n' for row in ids)
    for _ in range(a.runs + 1):
        bgemetal(a, 'embed', '--model', model, '--input', source, '--output', target, '--stats', stats, '--pooling', 'cls', '--normalize', 'true', '--max-length', 512,
                 '--device', a.device, '--dtype', a.dtype, '--quiet')
        rates.append(json.load(open(stats))['tokens_per_second'])
    return statistics.median(rates[1:]), read_npy(target)


def load_bert(torch, model, device, dtype):
    """BERT as transformers computes it, from config.json and model.safetensors; returns a function of (ids, mask) -> [B, D] unit rows."""
    F = torch.nn.functional
    config = json.load(open(os.path.join(model, 'config.json'))); blob = open(os.path.join(model, 'model.safetensors'), 'rb').read()
    size = struct.unpack('<Q', blob[:8])[0]; w = {}
    for name, v in json.loads(blob[8:8 + size]).items():
        if name == '__metadata__' or v['dtype'] not in ('F32', 'F16', 'BF16'): continue
        start, end = v['data_offsets']; kind = {'F32': torch.float32, 'F16': torch.float16, 'BF16': torch.bfloat16}[v['dtype']]
        w[name.removeprefix('bert.')] = torch.frombuffer(bytearray(blob[8 + size + start:8 + size + end]), dtype=kind).reshape(v['shape']).to(device, dtype)
    heads, hidden, eps = config['num_attention_heads'], config['hidden_size'], config['layer_norm_eps']

    def linear(x, name): return F.linear(x, w[name + '.weight'], w[name + '.bias'])
    def norm(x, name): return F.layer_norm(x, (hidden,), w[name + '.weight'], w[name + '.bias'], eps)

    def forward(ids, mask):
        batch, length = ids.shape
        x = w['embeddings.word_embeddings.weight'][ids] + w['embeddings.position_embeddings.weight'][:length] + w['embeddings.token_type_embeddings.weight'][0]
        x = norm(x, 'embeddings.LayerNorm')
        for i in range(config['num_hidden_layers']):
            p = f'encoder.layer.{i}.'
            q, k, v = (linear(x, f'{p}attention.self.{n}').view(batch, length, heads, hidden // heads).transpose(1, 2) for n in ('query', 'key', 'value'))
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :]).transpose(1, 2).reshape(batch, length, hidden)
            x = norm(linear(y, f'{p}attention.output.dense') + x, f'{p}attention.output.LayerNorm')
            y = F.gelu(linear(x, f'{p}intermediate.dense'))
            x = norm(linear(y, f'{p}output.dense') + x, f'{p}output.LayerNorm')
        return F.normalize(x[:, 0].float(), dim=-1)
    return forward


def theirs(a, torch, forward, ids, batch_size):
    """Tokens a second of sorting, padding, copying, computing and copying back; and the vectors in the order of the rows."""
    def encode():
        order = sorted(range(len(ids)), key=lambda i: -len(ids[i])); parts = []
        for at in range(0, len(order), batch_size):
            batch = [ids[i] for i in order[at:at + batch_size]]; longest = len(batch[0])
            tokens = torch.tensor([row + [0] * (longest - len(row)) for row in batch]); mask = torch.tensor([[True] * len(row) + [False] * (longest - len(row)) for row in batch])
            parts.append(forward(tokens.to(a.device), mask.to(a.device)))
        vectors = torch.cat(parts).cpu(); out = torch.empty_like(vectors); out[torch.tensor(order)] = vectors
        return out
    seconds = []
    with torch.inference_mode():
        for _ in range(a.runs + 1):
            start = time.perf_counter(); vectors = encode(); seconds.append(time.perf_counter() - start)
    return sum(map(len, ids)) / statistics.median(seconds[1:]), vectors


def main():
    a = arguments()
    try: import torch
    except ImportError: sys.exit('compare needs python3 with torch on this machine: there is none')
    if a.device.startswith('cuda') and not torch.cuda.is_available(): sys.exit('compare: torch finds no GPU')
    name = torch.cuda.get_device_name() if a.device.startswith('cuda') else 'CPU'; dtype = torch.bfloat16 if a.dtype == 'bf16' else torch.float32
    print(f'{name}, torch {torch.__version__}, {a.dtype}, median of {a.runs} runs'); table = []
    for shape in [os.path.basename(os.path.normpath(a.model))] if a.model else a.shape:
        with tempfile.TemporaryDirectory() as folder:
            model = a.model or fresh_model(a, shape, os.path.join(folder, 'model')); vocabulary = json.load(open(os.path.join(model, 'config.json')))['vocab_size']
            forward = load_bert(torch, model, a.device, dtype); forms = [('eager', forward)]
            if not a.no_compile: forms.append(('compile', torch.compile(forward, dynamic=True)))
            for workload in a.workload:
                ids = rows(workload, a.tokens, vocabulary); rate, (size, vectors) = ours(a, model, ids, folder)
                mine = torch.frombuffer(vectors, dtype=torch.float32).reshape(size)
                print(f'{shape:10} {workload:7} {len(ids)} texts  bgemetal                {rate:12,.0f} tokens/s', flush=True)
                for form, f in forms:
                    for batch_size in a.batch_size:
                        other, reference = theirs(a, torch, f, ids, batch_size); cosine = (mine * reference).sum(-1).min().item()
                        print(f'{shape:10} {workload:7} {len(ids)} texts  torch {form:8} batch {batch_size:<4}{other:12,.0f} tokens/s   bgemetal is {rate / other:.2f}x   smallest cosine {cosine:.5f}', flush=True)
                        table.append([name, torch.__version__, shape, workload, a.dtype, form, batch_size, round(rate), round(other), round(rate / other, 3), round(cosine, 6)])
    os.makedirs(a.results, exist_ok=True)
    with open(os.path.join(a.results, 'compare.csv'), 'w', newline='') as f:
        csv.writer(f, lineterminator='\n').writerows([['device', 'torch', 'model', 'workload', 'dtype', 'form', 'batch_size', 'bgemetal_tokens_s', 'torch_tokens_s', 'ratio', 'smallest_cosine']] + table)


if __name__ == '__main__': main()
