"""bgemetal beside PyTorch: the same checkpoint, the same token ids, one machine, one run; medians and their spread, one CSV a part.

  embed      token ids -> unit vectors, padded as sentence-transformers does; vectors compared first (embed.csv, rows for end_to_end.csv)
  finetune   FlagEmbedding's contrastive step: padded, bf16 autocast, fused AdamW; losses compared first (finetune.csv)
  pretrain   a RetroMAE step with one decoder layer and logits of every position; losses compared first (pretrain.csv)
  attention  scaled_dot_product_attention, padded and packed, forward and backward (attention.csv)
  gemm       torch.matmul and linear + GELU at the shapes of BGE (gemm.csv)

Needs python3 with torch; transformers is used as one more opponent where it is installed. The best of PyTorch's forms is the opponent.
"""
import argparse, importlib, os, sys, traceback

import checkpoint, common

PARTS = ['embed', 'attention', 'gemm', 'finetune', 'pretrain']


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog='./run.sh compare')
    p.add_argument('parts', nargs='*', metavar='PART', help=f'of {", ".join(PARTS)}; all by default')
    p.add_argument('--shape', choices=checkpoint.SHAPES, nargs='+', help='model shapes (default: every part\'s own)')
    p.add_argument('--model', metavar='DIR', help='embed, finetune: a BERT checkpoint instead of fresh weights')
    p.add_argument('--workload', choices=['ragged', 'fixed'], nargs='+', default=['ragged', 'fixed'], help='log-normal lengths, or 512 tokens each')
    p.add_argument('--tokens', type=int, default=2_000_000, help='embed: tokens of a workload; less for the large shapes')
    p.add_argument('--batch-size', type=int, nargs='+', default=[32, 64, 256], help='embed: texts of a PyTorch batch; sentence-transformers takes 32')
    p.add_argument('--train-batch', type=int, default=32, help='finetune, pretrain: rows of a step')
    p.add_argument('--group', type=int, default=8, help='finetune: passages of a query')
    p.add_argument('--steps', type=int, default=40, help='finetune, pretrain: timed steps')
    p.add_argument('--length', type=int, default=512, help='pretrain: tokens of a text at most')
    p.add_argument('--passage-length', type=int, default=256, help='finetune: tokens of a passage at most')
    p.add_argument('--runs', type=int, default=4, help='embed: timed runs')
    p.add_argument('--seconds', type=float, default=0.15, help='attention, gemm: seconds of measuring a case')
    p.add_argument('--budget', type=float, default=0, metavar='MINUTES', help='begin nothing new after so many minutes (0: no limit)')
    p.add_argument('--device', default='cuda')
    p.add_argument('--dtype', choices=['bf16', 'fp32'], default='bf16')
    p.add_argument('--no-compile', action='store_true', help='leave torch.compile out')
    p.add_argument('--tiny', action='store_true', help='sizes that only show that it runs')
    p.add_argument('--bgemetal', required=True, help=argparse.SUPPRESS)
    p.add_argument('--results', required=True, help=argparse.SUPPRESS)
    a = p.parse_args()
    unknown = [part for part in a.parts if part not in PARTS]
    if unknown: p.error(f'no part {unknown[0]}: there are {", ".join(PARTS)}')
    return a


def main():
    a = arguments()
    try:
        import torch
    except ImportError:
        sys.exit('compare needs python3 with torch on this machine: there is none')
    if a.device.startswith('cuda') and not torch.cuda.is_available(): sys.exit('compare: torch finds no GPU')
    bench = common.Bench(a, torch)
    print(f'{bench.name}, torch {torch.__version__}, {a.dtype}')
    failed = []
    for part in a.parts or PARTS:
        if bench.is_late(): failed.append(f'{part}: not begun, the time is spent'); continue
        try:
            importlib.import_module(part).run(bench)
        except Exception as e:  # one part's fault must not cost the others' device time
            traceback.print_exc(); failed.append(f'{part}: {e}')
    for line in failed: print('FAILED', line)
    sys.exit(1 if failed else 0)


if __name__ == '__main__': main()
