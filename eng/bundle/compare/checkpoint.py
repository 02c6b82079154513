"""Fresh checkpoints of BGE's shapes, readable by transformers, by sentence-transformers and here. Speed depends on shapes, not on values; what is compared must differ from text to text."""
import itertools, json, os, string, struct

# layers, hidden, heads, intermediate, vocabulary
SHAPES = {'tiny': (2, 64, 2, 128, 500), 'small-zh': (4, 512, 8, 2048, 21128), 'small-en': (12, 384, 12, 1536, 30522), 'base': (12, 768, 12, 3072, 30522), 'large': (24, 1024, 16, 4096, 30522)}
SPECIAL = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]']


def words(count): return [''.join(letters) for letters in itertools.islice(itertools.product(string.ascii_lowercase, repeat=4), count)]


def tensors(torch, shape):
    """
    Names and values. Matrices of the layers have a standard deviation of 1.1 / sqrt(inputs), those that carry tokens' values three times that: with BERT's initial 0.02 the
    vectors of all texts are nearly one, because an average over many random tokens is small and what tokens share is not, and comparing them shows nothing.
    """
    layers, hidden, _, inner, vocabulary = SHAPES[shape]; make = torch.Generator().manual_seed(5)

    def normal(*size, std): return torch.randn(*size, generator=make) * std

    def linear(name, out, into, std=1.1): return {name + '.weight': normal(out, into, std=std / into ** 0.5), name + '.bias': normal(out, std=0.02)}

    def norm(name): return {name + '.weight': torch.ones(hidden), name + '.bias': normal(hidden, std=0.02)}
    found = {f'embeddings.{part}_embeddings.weight': normal(n, hidden, std=std) for part, n, std in (('word', vocabulary, 0.02), ('position', 512, 0.005), ('token_type', 2, 0.002))} | norm('embeddings.LayerNorm')
    for i in range(layers):
        p = f'encoder.layer.{i}.'
        for part, std in (('self.query', 1.1), ('self.key', 1.1), ('self.value', 3.3), ('output.dense', 3.3)): found |= linear(p + 'attention.' + part, hidden, hidden, std)
        found |= norm(p + 'attention.output.LayerNorm') | linear(p + 'intermediate.dense', inner, hidden) | linear(p + 'output.dense', hidden, inner) | norm(p + 'output.LayerNorm')
    return found


def write_safetensors(path, found):
    header, at = {}, 0
    for name, value in found.items(): header[name] = {'dtype': 'F32', 'shape': list(value.shape), 'data_offsets': [at, at + 4 * value.numel()]}; at += 4 * value.numel()
    text = json.dumps({'__metadata__': {'format': 'pt'}} | header).encode(); text += b' ' * (-len(text) % 8)
    with open(path, 'wb') as f:
        f.write(struct.pack('<Q', len(text)) + text)
        for value in found.values(): f.write(value.contiguous().numpy().tobytes())


def write(torch, folder, shape, dropout=0.1):
    layers, hidden, heads, inner, vocabulary = SHAPES[shape]; os.makedirs(os.path.join(folder, '1_Pooling'))

    def save(name, content):
        with open(os.path.join(folder, name), 'w') as f: json.dump(content, f, indent=1)
    write_safetensors(os.path.join(folder, 'model.safetensors'), tensors(torch, shape))
    with open(os.path.join(folder, 'vocab.txt'), 'w') as f: f.writelines(word + '\n' for word in SPECIAL + words(vocabulary - len(SPECIAL)))
    save('config.json', {'architectures': ['BertModel'], 'model_type': 'bert', 'hidden_act': 'gelu', 'hidden_size': hidden, 'num_hidden_layers': layers, 'num_attention_heads': heads,
                         'intermediate_size': inner, 'vocab_size': vocabulary, 'max_position_embeddings': 512, 'type_vocab_size': 2, 'layer_norm_eps': 1e-12, 'initializer_range': 0.02,
                         'hidden_dropout_prob': dropout, 'attention_probs_dropout_prob': dropout, 'pad_token_id': 0, 'position_embedding_type': 'absolute', 'torch_dtype': 'float32'})
    save('tokenizer_config.json', {'do_lower_case': True, 'model_max_length': 512, 'tokenizer_class': 'BertTokenizer'})
    save('modules.json', [{'idx': 0, 'name': '0', 'path': '', 'type': 'sentence_transformers.models.Transformer'}, {'idx': 1, 'name': '1', 'path': '1_Pooling', 'type': 'sentence_transformers.models.Pooling'}])
    save('1_Pooling/config.json', {'word_embedding_dimension': hidden, 'pooling_mode_cls_token': True, 'pooling_mode_mean_tokens': False})
    return folder


def set_dropout(folder, share):
    path = os.path.join(folder, 'config.json')
    with open(path) as f: config = json.load(f)
    config['hidden_dropout_prob'] = config['attention_probs_dropout_prob'] = share
    with open(path, 'w') as f: json.dump(config, f)
