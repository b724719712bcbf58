"""The PyTorch side of the race: a process that answers JSON lines with JSON lines. Started by race.py.

    {"do": "open", "model": DIR, "threads": N}         versions and libraries
    {"do": "encode", "texts": [[prompt, answer...]]}    ids: of the prompt, and of what each answer adds to it
    {"do": "decode", "ids": [[...]]}                    texts
    {"do": "loss", "way": W, "pairs": [...]}            the loss, nothing moves (ways: see ../pytorch/models.py)
    {"do": "step", "way": W, "pairs": [...]}            one optimizer step: seconds, CPU seconds
    {"do": "score", "way": W, "pairs": [...]}           [prompt, answer] ids: sums of log-probabilities, seconds
    {"do": "generate", "prompts": [...], "tokens": N}   greedy: ids, seconds. Prompts of one batch, padded on the left
    {"do": "profile", "way": W, "pairs": [...]}         the operators that a step spends its time in
"""
import json
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "pytorch"))

import torch  # noqa: E402
import tokenizers  # noqa: E402
import transformers  # noqa: E402

import models  # noqa: E402

BATCH = 8  # rows of a scoring batch, as `flat score`


class Watch:
    def __enter__(self):
        self.wall, self.cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_):
        self.wall, self.cpu = time.perf_counter() - self.wall, time.process_time() - self.cpu

    def report(self, **more):
        return {"seconds": self.wall, "cpu_seconds": self.cpu, **more}


class Worker:
    def open(self, model, threads):
        torch.set_num_threads(threads)
        self.folder = model
        self.model = models.load_model(model, torch.float32, "cpu")
        self.optimizer = models.make_optimizer(self.model)
        blas = next((line.strip(" -") for line in torch.__config__.show().splitlines() if "Math Kernel" in line), "")
        return {"torch": torch.__version__, "transformers": transformers.__version__,
                "threads": torch.get_num_threads(), "blas": blas or blas_name(),
                "attention": models.attention_implementation()}

    def encode(self, texts):
        tokenizer = tokenizers.Tokenizer.from_file(os.path.join(self.folder, "tokenizer.json"))
        end, out = self.model.config.eos_token_id, []
        for prompt, *answers in texts:
            ids = tokenizer.encode(prompt).ids
            whole = [tokenizer.encode(prompt + answer).ids for answer in answers]
            if any(w[:len(ids)] != ids for w in whole):
                raise SystemExit("tokens merge across the end of the prompt %r" % prompt)
            out.append([ids] + [w[len(ids):] + [end] for w in whole])
        return {"ids": out}

    def decode(self, ids):
        tokenizer = tokenizers.Tokenizer.from_file(os.path.join(self.folder, "tokenizer.json"))
        return {"texts": [tokenizer.decode(one) for one in ids]}

    def batch(self, way, pairs):
        return models.make_batch(way, [tuple(pair) for pair in pairs], "cpu")

    def loss(self, way, pairs):
        with torch.no_grad():
            return {"loss": float(self.batch(way, pairs).loss(self.model))}

    def step(self, way, pairs):
        with Watch() as watch:  # the batch is built anew, as ours is
            loss = float(models.train_step(self.model, self.optimizer, [self.batch(way, pairs)]))
        return watch.report(loss=loss)

    def score(self, way, pairs):
        """Answers as pairs without a template: packed rows and lm_head on the answers' rows, or padded and in full."""
        sums = []
        with Watch() as watch, torch.inference_mode():
            for begin in range(0, len(pairs), BATCH):
                sums += getattr(self, "score_" + way)(pairs[begin:begin + BATCH])
        return watch.report(logprob_sum=sums)

    def score_packed(self, pairs):
        batch = Single(pairs)
        logits = self.model.get_output_embeddings()(batch.hidden(self.model))
        logprob = torch.log_softmax(logits, dim=-1).gather(1, batch.target.unsqueeze(1)).squeeze(1)
        return torch.zeros(len(pairs)).index_add_(0, batch.owner, logprob).tolist()

    def score_padded(self, pairs):
        ids, mask, labels = models.Padded.side(pairs, 1, "cpu", None)
        logprob = torch.log_softmax(self.model(input_ids=ids, attention_mask=mask).logits[:, :-1], dim=-1)
        target = labels[:, 1:]
        logprob = logprob.gather(2, target.clamp(min=0).unsqueeze(2)).squeeze(2)
        return (logprob * (target >= 0)).sum(dim=1).tolist()

    def generate(self, prompts, tokens):
        longest = max(len(prompt) for prompt in prompts)
        ids = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts])
        mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        self.model.eval()
        with Watch() as watch, torch.inference_mode():
            out = self.model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=tokens, do_sample=False,
                                      use_cache=True, pad_token_id=0)
        self.model.train()
        return watch.report(ids=out[:, longest:].tolist())

    def reload(self):
        """Steps have moved the weights; what follows is compared again."""
        self.model = models.load_model(self.folder, torch.float32, "cpu")
        self.optimizer = models.make_optimizer(self.model)
        return {}

    def profile(self, way, pairs):
        with torch.autograd.profiler.profile() as profile:
            self.step(way, pairs)
        rows = sorted(profile.key_averages(), key=lambda row: -row.self_cpu_time_total)
        total = sum(row.self_cpu_time_total for row in rows)
        return {"operators": [{"op": row.key, "calls": row.count, "ms": row.self_cpu_time_total / 1e3,
                               "share": row.self_cpu_time_total / total} for row in rows[:12]]}


class Single(models.Packed):
    """Packed sequences of one answer each."""

    @staticmethod
    def segments(pairs, shared):
        out = []
        for i, (prompt, answer) in enumerate(pairs):
            ids = prompt + answer[:-1]
            out.append((ids, list(range(len(ids))), torch.ones(len(ids), len(ids)).tril().bool(),
                        [(len(prompt) - 1 + k, token, i) for k, token in enumerate(answer)]))
        return out

    def __init__(self, pairs):
        super().__init__(pairs, "cpu")


def blas_name():
    """Which kernels OpenBLAS runs, where torch uses it."""
    import ctypes
    try:
        library = ctypes.CDLL("libblas.so.3")
        library.openblas_get_config.restype = library.openblas_get_corename.restype = ctypes.c_char_p
        return "%s, kernels of %s" % (library.openblas_get_config().decode().strip(),
                                      library.openblas_get_corename().decode())
    except (OSError, AttributeError):
        return "unknown"


def main():
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever libraries print is not an answer
    transformers.logging.set_verbosity_error()
    worker = Worker()
    for line in sys.stdin:
        request = json.loads(line)
        answer = getattr(worker, request.pop("do"))(**request)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
