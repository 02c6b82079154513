"""BERT as transformers computes it, and RetroMAE's decoder on top, from config.json and safetensors alone."""
import json, os, struct

import torch
from torch.nn import functional as F

import common


def _plain_attention(q, k, v, attn_mask=None, dropout_p=0.0):
    """For a PyTorch older than 2.0, which lacks the function."""
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    if attn_mask is not None: scores = scores.masked_fill(~attn_mask, float('-inf'))
    return F.dropout(scores.softmax(-1), dropout_p) @ v


attend = getattr(F, 'scaled_dot_product_attention', _plain_attention)


def read_safetensors(path):
    with open(path, 'rb') as f: blob = f.read()
    size = struct.unpack('<Q', blob[:8])[0]; kinds = {'F32': torch.float32, 'F16': torch.float16, 'BF16': torch.bfloat16}
    return {name: torch.frombuffer(bytearray(blob[8 + size + v['data_offsets'][0]:8 + size + v['data_offsets'][1]]), dtype=kinds[v['dtype']]).reshape(v['shape'])
            for name, v in json.loads(blob[8:8 + size]).items() if name != '__metadata__' and v['dtype'] in kinds and 0 not in v['shape']}


class Weights(torch.nn.Module):
    """Parameters under their checkpoint names; `prefix.weight` and `prefix.bias` are reached as linear(x, prefix) and norm(x, prefix)."""

    def __init__(self, config, tensors, dropout=None):
        super().__init__()
        self.config, self.names = config, list(tensors)
        self.hidden_dropout = config.get('hidden_dropout_prob', 0) if dropout is None else dropout
        self.attention_dropout = config.get('attention_probs_dropout_prob', 0) if dropout is None else dropout
        for name, value in tensors.items(): self.register_parameter(name.replace('.', '__'), torch.nn.Parameter(value.float().clone()))

    def w(self, name): return getattr(self, name.replace('.', '__'))

    def linear(self, x, name): return F.linear(x, self.w(name + '.weight'), self.w(name + '.bias'))

    def norm(self, x, name): return F.layer_norm(x, (x.shape[-1],), self.w(name + '.weight'), self.w(name + '.bias'), self.config['layer_norm_eps'])

    def drop(self, x): return F.dropout(x, self.hidden_dropout, self.training)

    def layer(self, query, keys, mask, p):
        """A post-norm layer whose queries, and the residual, come from `query`; mask [B, 1, 1 or L, L], True = may look."""
        heads = self.config['num_attention_heads']

        def split(x): return x.view(x.shape[0], x.shape[1], heads, -1).transpose(1, 2)
        q, k, v = split(self.linear(query, p + 'attention.self.query')), split(self.linear(keys, p + 'attention.self.key')), split(self.linear(keys, p + 'attention.self.value'))
        y = attend(q, k, v, attn_mask=mask, dropout_p=self.attention_dropout if self.training else 0.0).transpose(1, 2).reshape(query.shape)
        x = self.norm(self.drop(self.linear(y, p + 'attention.output.dense')) + query, p + 'attention.output.LayerNorm')
        y = self.drop(self.linear(F.gelu(self.linear(x, p + 'intermediate.dense')), p + 'output.dense'))
        return self.norm(y + x, p + 'output.LayerNorm')


class Bert(Weights):
    """The encoder: (ids, mask) -> [B, L, D]."""

    def __init__(self, folder, dropout=None, **more):
        tensors = {name.removeprefix('bert.'): value for name, value in read_safetensors(os.path.join(folder, 'model.safetensors')).items()}
        super().__init__(common.read_json(os.path.join(folder, 'config.json')), {n: v for n, v in tensors.items() if not n.startswith('pooler.')} | more, dropout)

    def embed(self, words):
        x = words + self.w('embeddings.position_embeddings.weight')[:words.shape[1]] + self.w('embeddings.token_type_embeddings.weight')[0]
        return self.drop(self.norm(x, 'embeddings.LayerNorm'))

    def words(self, ids): return F.embedding(ids, self.w('embeddings.word_embeddings.weight'))

    def forward(self, ids, mask):
        x = self.embed(self.words(ids))
        for i in range(self.config['num_hidden_layers']): x = self.layer(x, x, mask[:, None, None, :], f'encoder.layer.{i}.')
        return x


class RetroMae(Bert):
    """
    Masked-LM encoder and a one-layer decoder in which every position sees its own choice of keys (Xiao et al., arXiv:2205.12035, section 3.3, as FlagEmbedding's
    RetroMAEForPretraining computes it): logits of every position and the whole vocabulary, for both losses.
    """

    def __init__(self, folder, head=None, dropout=None):
        """The decoder layer comes from `head`, a dictionary of c_head.*, or begins as a copy of the last encoder layer; a missing masked-LM head is made."""
        own = read_safetensors(os.path.join(folder, 'model.safetensors')); config = common.read_json(os.path.join(folder, 'config.json'))
        last = f"encoder.layer.{config['num_hidden_layers'] - 1}."; bare = {name.removeprefix('bert.'): value for name, value in own.items()}
        head = head or {'c_head.' + name.removeprefix(last): value for name, value in bare.items() if name.startswith(last)}
        d, v = config['hidden_size'], config['vocab_size']
        made = {'cls.predictions.transform.dense.weight': torch.randn(d, d) * 0.02, 'cls.predictions.transform.dense.bias': torch.zeros(d),
                'cls.predictions.transform.LayerNorm.weight': torch.ones(d), 'cls.predictions.transform.LayerNorm.bias': torch.zeros(d), 'cls.predictions.bias': torch.zeros(v)}
        super().__init__(folder, dropout, **head, **{name: value for name, value in made.items() if name not in bare})

    def loss_of(self, hidden, labels):
        x = self.norm(F.gelu(self.linear(hidden, 'cls.predictions.transform.dense')), 'cls.predictions.transform.LayerNorm')
        logits = F.linear(x, self.w('embeddings.word_embeddings.weight'), self.w('cls.predictions.bias'))
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), labels.reshape(-1))

    def forward(self, ids, mask, labels, decoder_ids, visible, decoder_labels):
        """Both losses; visible [B, L, L], True = may look; labels are -100 where there is none. A query that sees no key attends evenly, as in the original."""
        hidden = super().forward(ids, mask)
        cls = hidden[:, :1]
        keys = torch.cat([cls, self.embed(self.words(decoder_ids))[:, 1:]], 1)
        query = self.embed(cls.expand_as(keys))
        return self.loss_of(hidden, labels), self.loss_of(self.layer(query, keys, (visible | ~visible.any(-1, keepdim=True))[:, None], 'c_head.'), decoder_labels)
