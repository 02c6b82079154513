"""Products at BGE's shapes. Ours (as it chooses, and on Hopper by each of its kernels), and cuBLAS called directly, are rows of `kernels bench`; PyTorch's matmul and its linear followed by GELU (eager and compiled) stand beside them."""
import common

HEADER = ['op', 'pass', 'shape', 'bgemetal_us', 'bgemetal_p20', 'bgemetal_p80', 'bgemetal_tflop_s', 'cublas_us', 'of_cublas_percent', 'torch_us', 'torch_p20', 'torch_p80', 'torch_form', 'ratio', 'mma_us', '128_us', '256_us', 'pair_us']
KERNELS = ['cuda-mma', 'cuda-128', 'cuda-256', 'cuda-pair']
SIZES = {'small-zh': [(512, 1536), (512, 512), (512, 2048), (2048, 512)], 'small-en': [(384, 1152), (384, 384), (384, 1536), (1536, 384)],
         'base': [(768, 2304), (768, 768), (768, 3072), (3072, 768)], 'large': [(1024, 3072), (1024, 1024), (1024, 4096), (4096, 1024)], 'tiny': [(16, 24)]}
OPS = {('Linear', 'forward'), ('LinearInput', 'backward'), ('LinearWeight', 'backward'), ('LinearGelu', 'forward'), ('LinearGeluInference', 'forward')}


def shapes(bench):
    tokens = [5] if bench.a.tiny else [4096, 16384, 65536]
    return [(t, k, n) for name in bench.shapes(['base', 'small-en', 'large', 'small-zh']) for t in tokens for k, n in SIZES[name]]


def forms(bench, op, t, k, n):
    """Name -> a function that makes one call; what training keeps is kept."""
    torch, F = bench.torch, bench.torch.nn.functional

    def rand(*shape): return torch.randn(*shape, device=bench.a.device, dtype=bench.dtype)

    def product():
        x, w, dy, b = rand(t, k), rand(n, k), rand(t, n), rand(n)
        if op == 'Linear': return lambda: F.linear(x, w, b)
        if op == 'LinearInput': return lambda: dy @ w
        return lambda: dy.T @ x

    def activated(inside):
        def make():
            x, w, b = rand(t, k), rand(n, k), rand(n)
            return lambda: inside(x, w, b)
        return make

    def both(x, w, b):
        y = F.linear(x, w, b)
        return (y, F.gelu(y)) if op == 'LinearGelu' else F.gelu(y)
    if not op.startswith('LinearGelu'): yield 'matmul', product; return
    yield 'linear, gelu', activated(both)
    if not bench.a.no_compile and hasattr(torch, 'compile'): yield 'compiled', activated(torch.compile(both, dynamic=True))


def run(bench):
    torch, a, table = bench.torch, bench.a, []
    chosen = shapes(bench); rows = {}
    if bench.is_cuda:
        for row in bench.kernel_rows(a.dtype, '--each-kernel', '--op', *sorted({op for op, _ in OPS}), '--shape', *(text(*s) for s in chosen)): rows[row['op'], row['mode'], row['shape'], row['backend']] = row
    for op, mode in sorted(OPS):
        for t, k, n in chosen:
            if bench.is_late(): print('gemm: the time is spent'); return
            if op.startswith('LinearGelu') and n <= k: continue
            best = None
            with torch.no_grad():
                for form, make in forms(bench, op, t, k, n):
                    try: measured = common.quantiles(bench.microseconds([make() for _ in range(2)]))
                    except Exception as e: print(f'{op} {text(t, k, n)} torch {form} is left out: {type(e).__name__} {str(e)[:160]}'); continue
                    if best is None or measured[1] < best[1][1]: best = form, measured
            if best is None: continue
            own, peer = rows.get((op, mode, text(t, k, n), 'cuda')), rows.get((op, mode, text(t, k, n), 'cublas'))
            mine = [float(own[x]) for x in ('p50_us', 'p20_us', 'p80_us', 'tflop_s')] if own else ['', '', '', '']
            cublas = float(peer['p50_us']) if peer else ''; share = round(100 * cublas / mine[0], 1) if own and peer else ''; form, (p20, p50, p80) = best; ratio = round(p50 / mine[0], 3) if own else ''
            each = [rows.get((op, mode, text(t, k, n), kernel), {}).get('p50_us', '') for kernel in KERNELS]
            print(f'{op:20} {text(t, k, n):24} bgemetal {mine[0] or "-":>9} us ({" ".join(e or "-" for e in each)} by each kernel)   cuBLAS {cublas or "-":>9} us ({share or "-"} %)   torch {form} {p50:9.1f} us ({ratio or "-"}x)', flush=True)
            table.append([op, mode, text(t, k, n), *mine, cublas, share, *(round(x, 2) for x in (p50, p20, p80)), form, ratio, *each])
            bench.write('gemm', HEADER, table)


def text(t, k, n): return f'T={t} K={k} N={n}'
