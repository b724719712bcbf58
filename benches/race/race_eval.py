#!/usr/bin/env python3
"""Races `flat eval --suite tofu` against transformers on the same machine, model, rows and threads. Builds nothing.

    race_eval.py --model DIR --data forget10_perturbed.json [--rows N] [--batches 8,16,32] [--flat build/flat]
                 [--threads 1] [--rounds 1] [--out FILE]

What both do, in float32, of every row: the log-probability of the answer, the paraphrased and all perturbed answers, and a
greedy continuation of the question of at most 200 tokens. Both print texts; probabilities are compared to 1e-4 and texts word
for word, and how many differ is said.

Theirs is what one writes with transformers: rows sorted by their tokens, batches padded to their longest (answers on the
right, prompts on the left), `model(...)` and cross-entropy of the answers' rows, `model.generate`. A batch size that does not
fit in memory is left out by not naming it. The clock of theirs starts behind the imports and the loading of the model;
ours is the whole process. Every round runs ours and then theirs at each batch size; scores and texts may have different best
ones. CPU seconds are those of all threads, which other work on the machine disturbs less than the wall's.
"""
import argparse
import datetime
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

NEW_TOKENS = 200


class Watch:
    """CPU and wall seconds of this process, or of its children."""

    def __init__(self, who):
        self.who = who

    def cpu(self):
        usage = resource.getrusage(self.who)
        return usage.ru_utime + usage.ru_stime

    def __enter__(self):
        self.start = (time.perf_counter(), self.cpu())
        return self

    def __exit__(self, *_):
        self.seconds, self.cpu_seconds = time.perf_counter() - self.start[0], self.cpu() - self.start[1]


def read_rows(path, count):
    """The first `count` rows of a file of JSON lines; evenly spread ones where `count` is negative."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return rows if not count else rows[:count] if count > 0 else rows[::max(1, len(rows) // -count)][:-count]


# ---- ours ----

def run_flat(options, data, folder):
    with Watch(resource.RUSAGE_CHILDREN) as watch:
        subprocess.run([options.flat, "eval", "--model", options.model, "--suite", "tofu", "--forget_data", data, "-o", folder,
                        "--threads", str(options.threads), "--device", "cpu", "--quiet"], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    log = json.loads((folder / "TOFU_EVAL.json").read_text())
    rows = {name: list(log["forget_" + name]["value_by_index"].values())
            for name in ("Q_A_Prob", "Q_A_PARA_Prob", "Q_A_PERT_Prob", "Q_A_ROUGE")}
    losses = [[a["avg_loss"], b["avg_loss"], *c["avg_loss"]]
              for a, b, c in zip(rows["Q_A_Prob"], rows["Q_A_PARA_Prob"], rows["Q_A_PERT_Prob"], strict=True)]
    return watch, losses, [row["generation"] for row in rows["Q_A_ROUGE"]]


# ---- theirs ----

class Peer:
    def __init__(self, options):
        import torch
        import transformers
        transformers.logging.set_verbosity_error()
        torch.set_num_threads(options.threads)
        self.torch, self.about = torch, {"torch": torch.__version__, "transformers": transformers.__version__}
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(options.model)
        dtype = getattr(torch, options.dtype)
        self.model = transformers.AutoModelForCausalLM.from_pretrained(options.model, dtype=dtype).eval()

    def encode(self, question, answer=None):
        turns = [{"role": "user", "content": question}]
        if answer is not None:
            turns.append({"role": "assistant", "content": answer})
        text = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=answer is None)
        return self.tokenizer(text.rstrip("\n") if answer is not None else text)["input_ids"]

    def padded(self, sequences, left):
        longest, pad = max(map(len, sequences)), self.tokenizer.pad_token_id
        gaps = [longest - len(s) for s in sequences]
        ids = [[pad] * g + s if left else s + [pad] * g for s, g in zip(sequences, gaps)]
        mask = [[0] * g + [1] * len(s) if left else [1] * len(s) + [0] * g for s, g in zip(sequences, gaps)]
        return self.torch.tensor(ids), self.torch.tensor(mask)

    def score(self, rows, batch):
        """Mean loss of every answer of every row."""
        torch = self.torch
        with Watch(resource.RUSAGE_SELF) as watch, torch.inference_mode():
            items = []
            for r, row in enumerate(rows):
                begin = len(self.encode(row["question"]))
                for answer in (row["answer"], row["paraphrased_answer"], *row["perturbed_answer"]):
                    items.append((self.encode(row["question"], answer), begin, r, len(items)))
            order, losses = sorted(items, key=lambda item: -len(item[0])), {}
            for at in range(0, len(order), batch):
                part = order[at:at + batch]
                ids, mask = self.padded([item[0] for item in part], False)
                logits = self.model(input_ids=ids, attention_mask=mask).logits
                for i, (sequence, begin, _, number) in enumerate(part):
                    losses[number] = float(torch.nn.functional.cross_entropy(
                        logits[i, begin - 1:len(sequence) - 1].float(), ids[i, begin:len(sequence)]))
            out = [[] for _ in rows]
            for _, _, r, number in items:
                out[r].append(losses[number])
        return watch, out

    def generate(self, rows, batch):
        with Watch(resource.RUSAGE_SELF) as watch, self.torch.inference_mode():
            prompts = [(self.encode(row["question"]), r) for r, row in enumerate(rows)]
            order, texts = sorted(prompts, key=lambda item: -len(item[0])), [None] * len(rows)
            for at in range(0, len(order), batch):
                part = order[at:at + batch]
                ids, mask = self.padded([item[0] for item in part], True)
                new = self.model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=NEW_TOKENS, do_sample=False)
                for (_, r), text in zip(part, self.tokenizer.batch_decode(new[:, ids.shape[1]:], skip_special_tokens=True)):
                    texts[r] = text
        return watch, texts


def compare(ours, theirs):
    from math import exp
    losses, texts = ours
    return {"largest probability difference": max(abs(exp(-a) - exp(-b)) for x, y in zip(losses, theirs[0], strict=True)
                                                  for a, b in zip(x, y, strict=True)),
            "texts that differ": sum(a.strip() != b.strip() for a, b in zip(texts, theirs[1], strict=True))}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True, type=pathlib.Path)
    parser.add_argument("--rows", type=int, default=0, help="0: all; -N: N, evenly spread")
    parser.add_argument("--batches", default="8,16,32,64", help="of theirs, for scores and texts")
    parser.add_argument("--score_batches", help="of theirs for scores alone, where others are wanted")
    parser.add_argument("--dtype", default="float32", help="of theirs")
    parser.add_argument("--flat", default=pathlib.Path(__file__).resolve().parents[2] / "build" / "flat")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--out", type=pathlib.Path)
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", str(options.threads))
    rows, peer = read_rows(options.data, options.rows), Peer(options)
    result = {"date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"), "command": " ".join(sys.argv),
              "flat": subprocess.run([options.flat, "--version"], capture_output=True, text=True).stdout.strip(),
              "threads": options.threads, "rows": len(rows), "peer": {**peer.about, "dtype": options.dtype},
              "load_at_start": os.getloadavg()[0], "rounds": []}
    with tempfile.TemporaryDirectory(prefix="flat_race_") as name:
        folder = pathlib.Path(name)
        data = folder / "forget10_perturbed.json"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        for number in range(options.rounds):
            watch, *ours = run_flat(options, data, folder / ("out%d" % number))
            one = {"flat": {"seconds": watch.seconds, "cpu_seconds": watch.cpu_seconds}, "score": {}, "generate": {}}
            print("round %d: flat %.1f s, %.1f CPU s" % (number + 1, watch.seconds, watch.cpu_seconds), flush=True)
            theirs = {}
            for what in ("score", "generate"):
                sizes = options.score_batches if what == "score" and options.score_batches else options.batches
                for batch in map(int, sizes.split(",")):
                    watch, theirs[what] = getattr(peer, what)(rows, batch)
                    one[what][batch] = {"seconds": watch.seconds, "cpu_seconds": watch.cpu_seconds}
                    print("  %s at %d: %.1f s, %.1f CPU s" % (what, batch, watch.seconds, watch.cpu_seconds), flush=True)
            best = {key: sum(min(v[key] for v in one[what].values()) for what in theirs) for key in ("seconds", "cpu_seconds")}
            one["ratio"] = {key: best[key] / one["flat"][key] for key in best}
            one["compared"] = compare(ours, (theirs["score"], theirs["generate"]))
            print("  best of theirs / flat: wall %.2f, CPU %.2f; %s" % (*one["ratio"].values(), one["compared"]), flush=True)
            result["rounds"].append(one)
            if options.out:
                options.out.parent.mkdir(parents=True, exist_ok=True)
                options.out.write_text(json.dumps(result, indent=1) + "\n")
    ratios = [one["ratio"]["cpu_seconds"] for one in result["rounds"]]
    print("CPU ratio: median %.2f, from %.2f to %.2f" % (statistics.median(ratios), min(ratios), max(ratios)))


if __name__ == "__main__":
    main()
