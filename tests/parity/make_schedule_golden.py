"""Learning rates of every step by transformers' get_scheduler, for every schedule and many warm-ups.

    python tests/parity/make_schedule_golden.py      pip install torch transformers==5.24.0

Writes tests/golden/schedules.json: {"type", "learning_rate", "warmup_steps", "total", "rates": [total]}, warmup_steps as a
user gives it. tests/unit/test_schedule.c reads it.
"""
import json
import os
from types import SimpleNamespace

import torch
from transformers import TrainingArguments
from transformers.optimization import get_scheduler

TARGET = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden", "schedules.json")
TYPES = ["linear", "cosine", "cosine_with_restarts", "polynomial", "inverse_sqrt", "constant", "constant_with_warmup"]


def rates(kind, learning_rate, warmup_steps, total):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=learning_rate)
    warmup = TrainingArguments.get_warmup_steps(SimpleNamespace(warmup_steps=warmup_steps), total)
    scheduler = get_scheduler(kind, optimizer, num_warmup_steps=warmup, num_training_steps=total)
    out = []
    for _ in range(total):
        out.append(scheduler.get_last_lr()[0])
        optimizer.step()
        try:
            scheduler.step()
        except ZeroDivisionError:  # polynomial, of the step behind the last when all are warm-up
            assert len(out) == total
    return out


def main():
    lines = []
    for kind in TYPES:
        for total in (1, 2, 7, 20):
            for warmup in (0, 1, 3, total, total + 3, 0.03, 0.5, 0.999):
                row = {"type": kind, "learning_rate": 1e-3, "warmup_steps": warmup, "total": total}
                lines.append(json.dumps({**row, "rates": rates(kind, 1e-3, warmup, total)}))
    with open(TARGET, "w") as file:
        file.write("[\n" + ",\n".join(lines) + "\n]\n")


if __name__ == "__main__":
    main()
