"""The run of `flat unlearn` in PyTorch, from the command to the saved folder; run_time.py times it.

    python benches/pytorch/run_pytorch.py MODEL_DIR FORGET.jsonl TEMPLATES.txt OUT_DIR STEPS BATCH WAY DEVICE DTYPE

Loads with transformers, tokenizes (prompt template qa), makes STEPS optimizer steps of BATCH pairs in order, saves.
"""
import json
import sys

import torch
from transformers import AutoTokenizer

import models


def main():
    folder, forget, templates, out, steps, batch, way, device, dtype = sys.argv[1:]
    steps, batch = int(steps), int(batch)
    models.use_threads(0)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = models.load_model(folder, getattr(torch, dtype), device)
    with open(forget) as file:
        rows = [json.loads(line) for line in file if line.strip()]
    with open(templates) as file:
        template = [line.strip() for line in file if line.strip()]

    def encode(prompt, answer):
        first = tokenizer.encode(prompt)
        return first, tokenizer.encode(prompt + answer)[len(first):] + [tokenizer.eos_token_id]

    pairs = []
    for i, row in enumerate(rows):
        prompt = "Question: %s\nAnswer: " % row["question"]
        first, forget_ids = encode(prompt, row["answer"])
        pairs.append((first, encode(prompt, template[i % len(template)])[1], forget_ids))
    optimizer = models.make_optimizer(model)
    for step in range(steps):
        chosen = [pairs[(step * batch + i) % len(pairs)] for i in range(batch)]
        loss = models.train_step(model, optimizer, [models.make_batch(way, chosen, device, getattr(torch, dtype))])
        print("step %d loss %.6g" % (step + 1, float(loss)), file=sys.stderr)
    model.save_pretrained(out, safe_serialization=True)
    tokenizer.save_pretrained(out)


if __name__ == "__main__":
    main()
