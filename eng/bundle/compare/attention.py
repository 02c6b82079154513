"""Attention alone, forward and backward. PyTorch: scaled_dot_product_attention on batches that need no mask; on ragged ones padded with a mask, and packed
(flash attention over cumulative lengths, nested tensors) where the installed version has it. Ours is `kernels bench` at the same shapes and lengths."""
import common

HEADER = ['workload', 'shape', 'pass', 'form', 'bgemetal_us', 'bgemetal_p20', 'bgemetal_p80', 'torch_us', 'torch_p20', 'torch_p80', 'ratio', 'best', 'mma_us']
TOKENS = 16384


def cases(tiny):
    """(op, sequences, longest, heads, head dim)."""
    if tiny: return [('Attention', 2, 8, 2, 32), ('AttentionRagged', 3, 12, 2, 64)]
    fixed = [('Attention', TOKENS // n, n, 768 // dim if dim == 64 else 12, dim) for dim in (64, 32) for n in (32, 64, 128, 256, 512)]
    return fixed + [('AttentionRagged', TOKENS * 2 // n, n, 12, dim) for dim in (64, 32) for n in (128, 512)]


def forms(bench, op, b, n, h, d):
    """Name -> a function that makes one set of operands and returns (forward, inputs, output of forward)."""
    torch, a = bench.torch, bench.a
    from bert import attend
    sizes = [common.ragged_length(i, n) if op == 'AttentionRagged' else n for i in range(b)]; total = sum(sizes)

    def leaf(*shape): return torch.randn(*shape, device=a.device, dtype=bench.dtype).requires_grad_()

    def padded():
        # As a BERT layer leaves them: rows of heads, seen as [B, H, L, D].
        q, k, v = (leaf(b, n, h, d) for _ in range(3)); mask = None
        if op == 'AttentionRagged': mask = (torch.arange(n)[None] < torch.tensor(sizes)[:, None])[:, None, None].to(a.device)
        return (lambda: attend(*(x.transpose(1, 2) for x in (q, k, v)), attn_mask=mask)), [q, k, v]

    def packed():
        offsets = torch.tensor([0, *sizes]).cumsum(0).to(a.device, torch.int32); q, k, v = (leaf(total, h, d) for _ in range(3))
        flash = torch.ops.aten._flash_attention_forward
        return (lambda: flash(q, k, v, offsets, offsets, n, n, 0.0, False, False)[0]), [q, k, v]

    def nested():
        offsets = torch.tensor([0, *sizes]).cumsum(0).to(a.device); q, k, v = (leaf(total, h, d) for _ in range(3))

        def call():
            x = [torch.nested.nested_tensor_from_jagged(t, offsets, max_seqlen=n).transpose(1, 2) for t in (q, k, v)]
            return attend(*x).transpose(1, 2).values()
        return call, [q, k, v]
    yield 'padded', padded
    if bench.is_cuda:
        yield 'flash packed', packed
        yield 'nested', nested


def times(bench, make, graph):
    """Microseconds of forward and of backward alone; operands of several calls go round."""
    torch = bench.torch; sets = [make() for _ in range(3)]

    def inference(call):
        def run():
            with torch.no_grad(): return call()
        return run
    forward = bench.microseconds([inference(call) for call, _ in sets], graph)
    backward = []
    for call, inputs in sets:
        output = call(); backward.append(lambda output=output, inputs=inputs, gradient=torch.randn_like(output): torch.autograd.grad(output, inputs, gradient, retain_graph=True))
    return {'forward': forward, 'backward': bench.microseconds(backward, graph)}


def run(bench):
    table = []; chosen = cases(bench.a.tiny)
    ours = {}
    for op in sorted({case[0] for case in chosen}):
        shapes = [shape_text(*case[1:]) for case in chosen if case[0] == op]
        for row in bench.kernel_rows(bench.a.dtype, '--each-kernel', '--op', op, '--shape', *shapes) if bench.is_cuda else []: ours[op, row['shape'], row['mode'], row['backend']] = row
    for op, b, n, h, d in chosen:
        if bench.is_late(): print('attention: the time is spent'); break
        found = []
        for form, make in forms(bench, op, b, n, h, d):
            # Nested tensors look at their lengths on the host, which a graph cannot hold.
            try: measured = times(bench, make, graph=form != 'nested')
            except Exception as e: print(f'attention {shape_text(b, n, h, d)} torch {form} is left out: {type(e).__name__} {str(e)[:160]}'); continue
            for mode, values in measured.items(): found.append((mode, form, common.quantiles(values)))
        for mode, form, (p20, p50, p80) in found:
            best = p50 == min(x[2][1] for x in found if x[0] == mode); row = ours.get((op, shape_text(b, n, h, d), mode, 'cuda')); mma = ours.get((op, shape_text(b, n, h, d), mode, 'cuda-mma'), {}).get('p50_us', ''); own = [float(row[k]) for k in ('p50_us', 'p20_us', 'p80_us')] if row else ['', '', '']
            ratio = round(p50 / own[0], 3) if row else ''
            print(f'{"ragged" if op == "AttentionRagged" else "fixed":7} {shape_text(b, n, h, d):24} {mode:8} torch {form:13}{p50:9.1f} us   bgemetal {own[0] if row else "-":>9} us ({mma or "-"} by mma.sync)   {ratio}{"  (best)" if best else ""}', flush=True)
            table.append(['ragged' if op == 'AttentionRagged' else 'fixed', shape_text(b, n, h, d), mode, form, *own, *(round(x, 2) for x in (p50, p20, p80)), ratio, best])
        bench.write('attention', HEADER, table)


def shape_text(b, n, h, d): return f'B={b} L={n} H={h} Dh={d}'
