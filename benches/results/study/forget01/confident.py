#!/usr/bin/env python3
"""How far tokens moved by how sure the model was of them: confident.py BEFORE.jsonl AFTER.jsonl ...

Each file is what `flat score --tokens` says of the same rows. Tokens are sorted by their probability before; of each class the
mean change of the log-probability, and of the logit log(p / (1 - p)), is printed as a Markdown table, a row per file.
"""
import json
import math
import sys

EDGES = [0, 0.9, 0.99, 0.999, 0.9999, 1]


def logprobs(path):
    with open(path) as file:
        return [value for line in file for value in json.loads(line)["token_logprobs"]]


def logit(logprob):
    return logprob - math.log(-math.expm1(min(logprob, -1e-7)))


before = logprobs(sys.argv[1])
classes = [[i for i, value in enumerate(before) if low <= math.exp(value) < high or (high == 1 and math.exp(value) >= 1)]
           for low, high in zip(EDGES, EDGES[1:])]
print("| | " + " | ".join(f"p from {low:g} to {high:g}: {len(c)} tokens" for low, high, c in zip(EDGES, EDGES[1:], classes)) + " |")
print("|---|" + "---:|" * len(classes))
for path in sys.argv[2:]:
    after = logprobs(path)
    assert len(after) == len(before)
    cells = []
    for c in classes:
        moved = sum(after[i] - before[i] for i in c) / len(c)
        logits = sum(logit(after[i]) - logit(before[i]) for i in c) / len(c)
        cells.append(f"{moved:.3f}, {logits:.2f}")
    print("| " + path.rsplit("/")[-1].removesuffix(".jsonl") + " | " + " | ".join(cells) + " |")
