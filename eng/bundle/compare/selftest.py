"""The comparison's own arithmetic, without a GPU: python3 -m unittest discover -s eng/bundle/compare -p selftest.py. What needs torch is skipped without it; what needs
reference numbers is skipped without BGEMETAL_FIXTURES."""
import json, math, os, random, sys, unittest

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)), os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]
import checkpoint, common, finetune, gemm, pretrain, tests

try: import torch
except ImportError: torch = None
FIXTURES = os.environ.get('BGEMETAL_FIXTURES', '')
needs_fixtures = unittest.skipUnless(torch and os.path.isdir(FIXTURES), 'no torch, or no BGEMETAL_FIXTURES')


class Workloads(unittest.TestCase):
    def test_rows_have_the_lengths_of_their_workload_and_ids_of_the_vocabulary(self):
        fixed, ragged = common.embed_rows('fixed', 3000, 100), common.embed_rows('ragged', 150_000, 100)
        self.assertEqual([512] * 6, [len(row) for row in fixed])
        self.assertTrue(130 < sum(map(len, ragged)) / len(ragged) < 165)
        for row in fixed + ragged: self.assertTrue(row[0] == 2 and row[-1] == 3 and all(5 <= i < 100 for i in row[1:-1]))
        self.assertEqual(fixed, common.embed_rows('fixed', 3000, 100))

    def test_ragged_lengths_are_those_of_kernels_bench(self):
        self.assertEqual([1, 317, 121, 438], [common.ragged_length(i, 512) for i in range(4)])

    def test_quantiles_take_neighbours_and_the_middle(self):
        self.assertEqual((20, 30, 50), common.quantiles([50, 10, 20, 40, 30, 60]))

    def test_words_of_pretraining_are_single_tokens(self):
        import tempfile
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, 'vocab.txt'), 'w', encoding='utf-8') as f: f.write('[PAD]\n[UNK]\nhouse\n##s\nriver\n7\né\n')
            self.assertEqual([('house', 2), ('river', 4)], pretrain.whole_words(folder))
        rows = pretrain.texts([('a', 9)], 3, 'fixed', 20)
        self.assertEqual([18, 18, 18], [len(row) for row in rows])

    def test_a_gelu_is_measured_only_on_the_way_up(self):
        self.assertTrue(all(len(sizes) == (4 if name != 'tiny' else 1) and sizes[-1][0] >= sizes[0][0] for name, sizes in gemm.SIZES.items() if name != 'tiny'))


class Logs(unittest.TestCase):
    def test_step_times_follow_from_tokens_and_rates(self):
        import tempfile
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, 'train_log.csv'), 'w') as f: f.write('step,epoch,loss,grad_norm,learning_rate,tokens,tokens_per_second,peak_bytes\n1,0,3.5,1,1,100,50,7\n2,0,2.5,1,1,300,1000,9\n')
            self.assertEqual(([3.5, 2.5], [200.0], 9), finetune.log_of(folder, 1))

    def test_the_largest_relative_difference_counts(self): self.assertAlmostEqual(0.5, finetune.apart_of([1, 3], [1, 2]))


class Reports(unittest.TestCase):
    PROGRAM = '''#!/usr/bin/env python3
import json, sys, time
if '-list' in sys.argv: print('A.GpuOne\\nA.GpuTwo'); sys.exit()
def say(**m): print(json.dumps(m), flush=True)
def test(id, name, kind, **m): say(**{'$type': 'test-starting', 'TestUniqueID': id, 'TestDisplayName': name}); say(**{'$type': 'test-' + kind, 'TestUniqueID': id, **m})
if '-method' in sys.argv: test('1', sys.argv[-1], 'passed', ExecutionTime=1); sys.exit()
if sys.argv[-1] == 'A.GpuOne':
    test('1', 'A.GpuOne.Good', 'passed', ExecutionTime=0.5)
    test('2', 'A.GpuOne.Faults(x: 1)', 'failed', Messages=['cannot finish: CUDA_ERROR_ILLEGAL_ADDRESS'], StackTraces=['   at X in y.cs:line 3'])
    test('3', 'A.GpuOne.After', 'failed', Messages=['cannot allocate'])
    sys.exit(1)
test('1', 'A.GpuTwo.Skips', 'skipped', Reason='no GPU')
say(**{'$type': 'test-starting', 'TestUniqueID': '2', 'TestDisplayName': 'A.GpuTwo.Hangs'})
time.sleep(60)
'''

    def test_failures_come_first_faults_are_contained_and_a_hang_ends_with_the_budget(self):
        import contextlib, io, tempfile
        from unittest import mock
        with tempfile.TemporaryDirectory() as folder:
            program, report = os.path.join(folder, 'program'), os.path.join(folder, 'out', 'tests.txt')
            with open(program, 'w') as f: f.write(self.PROGRAM)
            os.chmod(program, 0o755)
            with mock.patch.object(sys, 'argv', ['tests.py', '--minutes', '0.15', '--report', report, f'{program}:*.Gpu*']), contextlib.redirect_stdout(io.StringIO()), self.assertRaises(SystemExit) as end: tests.main()
            with open(report) as f: text = f.read()
        self.assertEqual(1, end.exception.code)
        self.assertIn('FAILED A.GpuOne.Faults(x: 1)\n    cannot finish: CUDA_ERROR_ILLEGAL_ADDRESS\n    at X in y.cs:line 3\n', text)
        self.assertIn('NOT FINISHED A.GpuTwo.Hangs\n    stopped: the time was spent\n', text)
        self.assertIn('\n2 passed, 1 failed, 1 skipped, 1 not finished, 0 classes not begun, ', text)
        self.assertLess(text.index('FAILED'), text.index('passed'))


@unittest.skipUnless(torch, 'no torch')
class Models(unittest.TestCase):
    @needs_fixtures
    def test_bert_is_that_of_the_reference(self):
        import bert
        folder = os.path.join(FIXTURES, 'encoder', 'bert_h64'); expected = bert.read_safetensors(os.path.join(folder, 'expected.safetensors')); model = bert.Bert(folder).eval()
        for b, batch in enumerate(common.read_json(os.path.join(folder, 'inputs.json'))['batches']):
            if batch['token_type_ids']: continue
            ids, mask = common.pad(torch, batch['input_ids'])
            with torch.no_grad(): vectors = torch.nn.functional.normalize(model(ids, mask)[:, 0], dim=-1)
            self.assertLess((vectors - expected[f'batch{b}.cls_normalized']).abs().max().item(), 1e-5)

    @needs_fixtures
    def test_retromae_has_the_losses_of_the_reference(self):
        import bert
        folder = os.path.join(FIXTURES, 'retromae'); inputs, expected = (common.read_json(os.path.join(folder, 'step', name)) for name in ('inputs.json', 'expected.json'))
        model = bert.RetroMae(os.path.join(folder, 'model'), bert.read_safetensors(os.path.join(folder, 'model', 'decoder_head.safetensors'))).eval(); t = torch.tensor
        losses = model(t(inputs['encoder_input_ids']), t(inputs['encoder_attention_mask']).bool(), t(inputs['encoder_labels']), t(inputs['decoder_input_ids']),
                       t(inputs['decoder_attention_mask']).bool(), t(inputs['decoder_labels']))
        self.assertAlmostEqual(expected['encoder_mlm_loss'], losses[0].item(), 4)
        self.assertAlmostEqual(expected['decoder_loss'], losses[1].item(), 4)

    @needs_fixtures
    def test_the_contrastive_loss_is_that_of_the_reference(self):
        import bert
        folder = os.path.join(FIXTURES, 'contrastive', 'legacy_g2_inbatch'); inputs = common.read_json(os.path.join(folder, 'inputs.json')); model = bert.Bert(os.path.join(folder, inputs['model'])).eval()

        def vectors(rows): return torch.nn.functional.normalize(model(*common.pad(torch, rows))[:, 0], dim=-1)
        with torch.no_grad(): loss = finetune.contrastive_loss(torch, vectors(inputs['queries']), vectors(inputs['passages']), 2)
        self.assertAlmostEqual(common.read_json(os.path.join(folder, 'expected.json'))['loss'], loss.item(), 4)

    def test_a_fresh_checkpoint_is_read_back_and_tells_texts_apart(self):
        import bert, tempfile
        with tempfile.TemporaryDirectory() as folder:
            model = bert.Bert(checkpoint.write(torch, os.path.join(folder, 'm'), 'tiny', dropout=0.25))
            self.assertEqual((0.25, 0.25), (model.hidden_dropout, model.attention_dropout))
            with open(os.path.join(folder, 'm', 'vocab.txt')) as f: vocabulary = f.read().split()
            self.assertEqual((500, 500, 495), (len(vocabulary), len(set(vocabulary)), len(pretrain.whole_words(os.path.join(folder, 'm')))))
            with torch.no_grad(): vectors = torch.nn.functional.normalize(model.eval()(*common.pad(torch, common.embed_rows('ragged', 800, 500)))[:, 0], dim=-1)
        self.assertLess((vectors @ vectors.T - 2 * torch.eye(len(vectors))).max().item(), 0.9)

    def test_masks_have_the_recipes_shares_and_labels_are_the_hidden_tokens(self):
        rows = [common.token_row(n, 100, random.Random(n)) for n in (40, 12)]
        hidden, mask, labels, ids, visible, decoder = pretrain.masked(torch, rows)
        self.assertEqual([12, 4], [(row >= 0).sum().item() for row in labels])
        self.assertTrue(torch.equal(hidden == pretrain.MASK, labels >= 0) and torch.equal(labels[labels >= 0], ids[labels >= 0]))
        self.assertTrue(visible[0, 1:, 0].all() and not visible[1, :, 12:].any() and not visible[:, range(40), range(40)].any())
        self.assertTrue(0.4 < visible[0].float().mean() < 0.6)
        self.assertEqual([38, 10], [(row >= 0).sum().item() for row in decoder])


if __name__ == '__main__': unittest.main()
