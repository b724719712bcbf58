"""FLAT's training step in PyTorch, in the ways that people write it. The reference side of every comparison.

    authors   two padded forwards (template, forget), every sequence padded to `padded_length` (500), logits at all
              positions, softmax over the vocabulary: the shape of the authors' code, written anew from its description
    padded    the same, padded only to the longest sequence of the batch
    packed    what a careful user does: no padding (sequences side by side in rows of at most `row_length` tokens, a block
              mask, positions that begin anew), and lm_head on the rows that predict an answer token only
    shared    packed, and both answers of a pair continue one copy of the prompt: our own idea, in PyTorch

All give the same loss, total variation of spec.md section 3 with `average` "pair" or "batch"; a test of equality comes
before any timing (compare.py). The models are transformers' own, with `eager` attention where torch has no
scaled_dot_product_attention (before 2.1) and `sdpa` otherwise. Works with torch 1.13 and transformers 4.45 as with newer.

A pair is (prompt ids, template ids, forget ids), each answer with its end of sequence. make_pairs gives the batches of
`flat bench step`: the same lengths (benches/tofu_lengths.txt) and the same ids, by the same counter-based draws.
"""
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing is ever downloaded

import torch  # noqa: E402
from transformers import AutoConfig, AutoModelForCausalLM  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
BENCHES = os.path.dirname(HERE)
MASK64 = (1 << 64) - 1
# of a pair: a document of 2,048 tokens and a template answer; rows of 1,024 and of 2,048 tokens that are all targets
FIXED_LENGTHS = {"chunk": (1, 11, 2047), "full": (1, 1024, 1024), "lora": (1, 2048, 2048)}


# ---- batches ----

def uniform(seed, counter):
    """kernels/sample.h's sample_uniform."""
    z = (seed * 0x9E3779B97F4A7C15 + counter * 0xD1342543DE82EF95 + 0x2545F4914F6CDD1D) & MASK64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK64
    return ((z ^ (z >> 31)) >> 11) * 2.0 ** -53


def tofu_lengths():
    with open(os.path.join(BENCHES, "tofu_lengths.txt")) as file:
        return [tuple(int(n) for n in line.split()) for line in file]


def make_pairs(count, vocab_size, workload="tofu", seed=1):
    """The first `count` pairs of a workload: "tofu" or one of FIXED_LENGTHS."""
    lengths = [FIXED_LENGTHS[workload]] if workload in FIXED_LENGTHS else tofu_lengths()
    counter, pairs = 0, []
    for i in range(count):
        pair = []
        for length in lengths[i % len(lengths)]:
            pair.append([3 + int(uniform(seed, counter + k) * (vocab_size - 3)) for k in range(length)])
            counter += length
        pairs.append(tuple(pair))
    return pairs


# ---- models ----

def attention_implementation():
    return "sdpa" if hasattr(torch.nn.functional, "scaled_dot_product_attention") else "eager"


def make_model(config_folder, dtype, device, seed=1):
    """A model of random weights of benches/models/<name>, or of any folder with a config.json."""
    config = AutoConfig.from_pretrained(config_folder)
    torch.manual_seed(seed)
    previous = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device) if torch.__version__ >= "2" else torch.no_grad():
            model = AutoModelForCausalLM.from_config(config, attn_implementation=attention_implementation())
    finally:
        torch.set_default_dtype(previous)
    return prepare(model.to(device))


def load_model(folder, dtype, device):
    model = AutoModelForCausalLM.from_pretrained(folder, torch_dtype=dtype, attn_implementation=attention_implementation())
    return prepare(model.to(device))


def prepare(model):
    model.config.use_cache = False
    return model.train()  # no configuration of ours has dropout


def make_optimizer(model, learning_rate=1e-5, weight_decay=0.01):
    """AdamW, fused where this torch has it; norms and biases are not decayed."""
    groups = [{"params": [p for p in model.parameters() if p.dim() > 1], "weight_decay": weight_decay},
              {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0}]
    on_gpu = next(model.parameters()).is_cuda
    for options in ({"fused": True}, {"foreach": True}) if on_gpu else ({"fused": True}, {"foreach": False}):
        try:
            return torch.optim.AdamW(groups, lr=learning_rate, **options)
        except (TypeError, RuntimeError, ValueError):
            continue
    return torch.optim.AdamW(groups, lr=learning_rate)


# ---- the loss ----

def total_variation(e, f):
    return (torch.tanh(f) - torch.tanh(e)) / 2


def loss_of_sums(prob_sums, counts, average, padded_length):
    """prob_sums, counts: [2, pairs], template and forget: sum of p over the answer tokens, and their number."""
    if average == "pair":
        e, f = prob_sums / counts
        return total_variation(e, f).mean()
    e, f = prob_sums.sum(dim=1) / (prob_sums.shape[1] * (padded_length - 1))
    return total_variation(e, f)


# ---- padded ----

class Padded:
    """Two forwards of padded sequences. padded_length None: the longest of each batch."""

    def __init__(self, pairs, device, padded_length):
        self.padded_length = padded_length or 500  # of the batch average, which does not depend on how it is computed
        self.sides = [self.side(pairs, side, device, padded_length) for side in (1, 2)]

    @staticmethod
    def side(pairs, side, device, padded_length):
        longest = padded_length or max(len(pair[0]) + len(pair[side]) for pair in pairs)
        ids = torch.zeros(len(pairs), longest, dtype=torch.long)
        mask = torch.zeros(len(pairs), longest, dtype=torch.long)
        labels = torch.full((len(pairs), longest), -100, dtype=torch.long)
        for i, pair in enumerate(pairs):
            sequence = torch.tensor(pair[0] + pair[side])
            ids[i, :len(sequence)] = sequence
            mask[i, :len(sequence)] = 1
            labels[i, len(pair[0]):len(sequence)] = sequence[len(pair[0]):]
        return ids.to(device), mask.to(device), labels.to(device)

    @property
    def tokens(self):
        return sum(ids.numel() for ids, _, _ in self.sides)

    def loss(self, model, average="pair"):
        sums, counts = [], []
        for ids, mask, labels in self.sides:
            logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1]
            target = labels[:, 1:]
            p = torch.softmax(logits, dim=-1).gather(2, target.clamp(min=0).unsqueeze(2)).squeeze(2)
            sums.append((p * (target >= 0)).sum(dim=1))
            counts.append((target >= 0).sum(dim=1))
        return loss_of_sums(torch.stack(sums).float(), torch.stack(counts), average, self.padded_length)


# ---- packed ----

class Packed:
    """Segments side by side in rows of at most row_length tokens. shared: one copy of the prompt a pair.

    A segment is (ids, positions, visible) and goes into a row whole; visible is its own lower-left block of the mask.
    """

    def __init__(self, pairs, device, shared=False, row_length=1024, padded_length=500, dtype=torch.float32):
        self.padded_length, self.pairs = padded_length, len(pairs)
        segments = self.segments(pairs, shared)
        longest = max(len(segment[0]) for segment in segments)
        rows = self.fill(segments, max(row_length, longest))
        width = max(sum(len(segments[i][0]) for i in row) for row in rows)
        self.ids = torch.zeros(len(rows), width, dtype=torch.long)
        self.positions = torch.zeros(len(rows), width, dtype=torch.long)
        visible = torch.eye(width, dtype=torch.bool).repeat(len(rows), 1, 1)  # padding at the end of a row sees itself
        head, target, owner = [], [], []
        for r, row in enumerate(rows):
            at = 0
            for i in row:
                ids, positions, block, answers = segments[i]
                self.ids[r, at:at + len(ids)] = torch.tensor(ids)
                self.positions[r, at:at + len(ids)] = torch.tensor(positions)
                visible[r, at:at + len(ids), at:at + len(ids)] = block
                for position, token, sequence in answers:
                    head.append(r * width + at + position)
                    target.append(token)
                    owner.append(sequence)
                at += len(ids)
        self.mask = torch.zeros(visible.shape, dtype=dtype).masked_fill_(~visible, torch.finfo(dtype).min).unsqueeze(1)
        self.mask, self.ids, self.positions = self.mask.to(device), self.ids.to(device), self.positions.to(device)
        self.head, self.target, self.owner = (torch.tensor(list_, device=device) for list_ in (head, target, owner))
        self.counts = torch.bincount(self.owner, minlength=2 * len(pairs)).view(2, len(pairs))

    @staticmethod
    def segments(pairs, shared):
        """(ids, positions, block of the mask, [(row that predicts, target, sequence)]); the last id of a sequence is only
        a target and never fed. Sequence numbers: template of pair i is i, forget is pairs + i."""
        out = []
        for i, (prompt, *answers) in enumerate(pairs):
            n = len(prompt)
            if not shared:
                for side, answer in enumerate(answers):
                    ids = prompt + answer[:-1]
                    out.append((ids, list(range(len(ids))), torch.ones(len(ids), len(ids)).tril().bool(),
                                [(n - 1 + k, token, side * len(pairs) + i) for k, token in enumerate(answer)]))
                continue
            first, second = (len(answer) - 1 for answer in answers)
            block = torch.ones(n + first + second, n + first + second).tril().bool()
            block[n + first:, n:n + first] = False  # the second answer does not see the first
            predicts = [list(range(n - 1, n + first)), [n - 1] + list(range(n + first, n + first + second))]
            out.append((prompt + answers[0][:-1] + answers[1][:-1],
                        list(range(n + first)) + list(range(n, n + second)), block,
                        [(row, token, side * len(pairs) + i) for side, answer in enumerate(answers)
                         for row, token in zip(predicts[side], answer)]))
        return out

    @staticmethod
    def fill(segments, row_length):
        """First fit, longest first: lists of segment numbers, a list per row."""
        rows, room = [], []
        for i in sorted(range(len(segments)), key=lambda i: -len(segments[i][0])):
            r = next((r for r in range(len(rows)) if room[r] >= len(segments[i][0])), len(rows))
            if r == len(rows):
                rows.append([])
                room.append(row_length)
            rows[r].append(i)
            room[r] -= len(segments[i][0])
        return rows

    @property
    def tokens(self):
        return self.ids.numel()

    def hidden(self, model):
        """Rows of the last hidden state that predict an answer token."""
        states = model.base_model(input_ids=self.ids, attention_mask=self.mask, position_ids=self.positions)[0]
        return states.flatten(0, 1).index_select(0, self.head)

    def loss(self, model, average="pair"):
        logits = model.get_output_embeddings()(self.hidden(model))
        p = torch.log_softmax(logits.float(), dim=-1).gather(1, self.target.unsqueeze(1)).squeeze(1).exp()
        sums = torch.zeros(2 * self.pairs, device=p.device, dtype=p.dtype).index_add_(0, self.owner, p)
        return loss_of_sums(sums.view(2, self.pairs), self.counts, average, self.padded_length)


def make_batch(way, pairs, device, dtype=torch.float32, row_length=1024):
    """way: "authors", "padded", "packed" or "shared". Packed ways need a model that takes position_ids (not OPT)."""
    if way == "authors":
        return Padded(pairs, device, max(500, max(len(p[0]) + max(len(p[1]), len(p[2])) for p in pairs)))
    if way == "padded":
        return Padded(pairs, device, None)
    return Packed(pairs, device, shared=way == "shared", row_length=row_length, dtype=dtype)


def train_step(model, optimizer, batches, max_grad_norm=1.0, average="pair"):
    """One optimizer step over micro-batches; the loss as a number is left on the device."""
    optimizer.zero_grad(set_to_none=True)
    total = 0
    for batch in batches:
        loss = batch.loss(model, average) / len(batches)
        loss.backward()
        total = total + loss.detach()
    torch.nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm)
    optimizer.step()
    return total
