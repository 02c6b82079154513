"""What all parts share: fresh checkpoints, workloads, timing, result files, the program of this project."""
import csv, datetime, json, math, os, random, statistics, struct, subprocess, tempfile, time


class Bench:
    """One run: its settings, its opponent, its clock, its files."""

    def __init__(self, settings, torch):
        self.a, self.torch, self.begun = settings, torch, time.monotonic()
        self.is_cuda = settings.device.startswith('cuda')
        self.name = torch.cuda.get_device_name() if self.is_cuda else 'CPU'
        self.dtype = torch.bfloat16 if settings.dtype == 'bf16' else torch.float32
        # Everything on one stream that is not the default one: a graph can be captured there, backward passes included, which run on the stream of their forward pass.
        self.stream = torch.cuda.Stream() if self.is_cuda else None
        if self.is_cuda: torch.cuda.set_stream(self.stream)

    def is_late(self): return self.a.budget > 0 and time.monotonic() - self.begun > 60 * self.a.budget

    def shapes(self, default): return ['tiny'] if self.a.tiny else self.a.shape or default

    def bgemetal(self, *args):
        """Runs a command of this project and returns what it printed."""
        if self.is_cuda: self.torch.cuda.empty_cache()  # the GPU's memory is for one at a time
        r = subprocess.run([self.a.bgemetal, *map(str, args)], capture_output=True, text=True)
        if r.returncode: raise RuntimeError(f"bgemetal {' '.join(map(str, args[:2]))}: {(r.stderr.strip().splitlines() or ['failed'])[-1]}")
        return r.stdout

    def sync(self):
        if self.is_cuda: self.torch.cuda.synchronize()

    def seconds(self, action):
        """Wall time of an action to the end of what it enqueued."""
        self.sync(); start = time.perf_counter(); action(); self.sync()
        return time.perf_counter() - start

    def microseconds(self, calls, graph=True):
        """Times of one call each, by events where there is a GPU; `calls` go round so that no call finds its operands in a cache. They are replayed as a graph where that is possible."""
        def rounds_of(n):
            for _ in range(n): kept = [call() for call in calls]  # what a round makes lives until the next has made its own
        rounds_of(2)
        once = self.seconds(lambda: rounds_of(1)) / len(calls)
        rounds = max(1, min(64, math.ceil(2e-4 / max(once * len(calls), 1e-7))))
        sample, count = (lambda: rounds_of(rounds)), rounds * len(calls)
        if not self.is_cuda:
            times, end = [], time.perf_counter() + self.a.seconds
            while len(times) < 5 or time.perf_counter() < end: times.append(self.seconds(sample) / count * 1e6)
            return times
        replay = (self.capture(sample) if graph else None) or sample
        replay(); self.sync()
        times, end = [], time.perf_counter() + self.a.seconds
        while len(times) < 11 or time.perf_counter() < end:
            start, stop = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record(); replay(); stop.record(); stop.synchronize(); times.append(start.elapsed_time(stop) * 1e3 / count)
        return times

    def capture(self, action):
        """The action as a CUDA graph, or None where it cannot be captured."""
        try:
            graph = self.torch.cuda.CUDAGraph()
            with self.torch.cuda.graph(graph, stream=self.stream): action()
            return graph.replay
        except RuntimeError:
            self.torch.cuda.synchronize()
            return None

    def write(self, name, header, rows):
        """results/NAME.csv, written anew after every step so that a run that is cut off leaves what it had."""
        os.makedirs(self.a.results, exist_ok=True)
        with open(os.path.join(self.a.results, name + '.csv'), 'w', newline='') as f:
            csv.writer(f, lineterminator='\n').writerows([['device', 'torch', 'dtype', *header]] + [[self.name, self.torch.__version__, self.a.dtype, *row] for row in rows])

    def kernel_rows(self, *args):
        """Rows of `bgemetal kernels bench`, as dictionaries."""
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, 'rows.csv')
            self.bgemetal('kernels', 'bench', *args, '--device', self.a.device, '--seconds', self.a.seconds, '--output', path)
            with open(path) as f: return [row for row in csv.DictReader(f) if row['mode'] != 'roofline']


def quantiles(values):
    """20th percentile, median, 80th percentile."""
    s = sorted(values)
    return tuple(s[round(q * (len(s) - 1))] for q in (0.2, 0.5, 0.8))


def read_json(path):
    with open(path, encoding='utf-8') as f: return json.load(f)


def today(): return datetime.datetime.now(datetime.timezone.utc).strftime('%Y-%m-%d')


def lengths(count, mean, sigma, longest, rng, shortest=4):
    """Log-normal lengths of about that mean."""
    mu = math.log(mean) - sigma * sigma / 2
    return [min(longest, max(shortest, round(math.exp(rng.gauss(mu, sigma))))) for _ in range(count)]


def token_row(n, vocabulary, rng):
    """[CLS] and [SEP] around any ids but the special ones; ids 2 and 3 are theirs in every fresh checkpoint."""
    return [2, *rng.choices(range(5, vocabulary), k=max(n - 2, 0)), 3]


def embed_rows(workload, tokens, vocabulary, seed=1):
    """Rows of ids until there are so many tokens: 512 each, or about 150 on the average."""
    rng, out, total = random.Random(seed), [], 0
    while total < tokens:
        n = 512 if workload == 'fixed' else lengths(1, 150, 0.75, 512, rng)[0]
        out.append(token_row(n, vocabulary, rng)); total += n
    return out


def ragged_length(index, longest):
    """What `kernels bench` takes for sequence `index` of AttentionRagged."""
    return 1 + ((index * 2654435761 % 2 ** 32) * longest >> 32)


def read_npy(path):
    import array
    with open(path, 'rb') as f: b = f.read()
    n = struct.unpack('<H', b[8:10])[0]
    shape = [int(x) for x in b[10:10 + n].decode().split("'shape': (")[1].split(')')[0].split(',') if x.strip()]
    values = array.array('f'); values.frombytes(b[10 + n:])
    return shape, values


def pad(torch, rows, filler=0):
    """[B, L] ids and [B, L] mask of lists or tensors, padded on the right to the longest."""
    ids = torch.nn.utils.rnn.pad_sequence([torch.as_tensor(row) for row in rows], batch_first=True, padding_value=filler)
    return ids, torch.arange(ids.shape[1])[None] < torch.tensor([len(row) for row in rows])[:, None]


def median(values): return statistics.median(values)
