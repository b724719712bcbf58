"""Scores and greedy continuations of two models whose logits are combined: tests/golden/whp.json

    python tests/parity/make_whp_golden.py

z - alpha max(0, r - z), z the tiny model of tests/golden/eval, r the same with every weight times SCALE in float32, rounded to
bfloat16 (which `flat combine --merge_method linear` makes for tests/program/test_whp.c). In double, without a cache; every
greedy step has a margin of at least MARGIN between the two largest combined logits. Needs torch and transformers 5.
"""
import json
import os

import torch

import make_eval_golden as suite

SCALE = 1.25
ALPHAS = [0.5, 2.0]
MARGIN = 5e-4
NEW_TOKENS = 16


class Pair:
    """A model of combined logits."""

    def __init__(self, model, reinforced, alpha):
        self.model, self.reinforced, self.alpha = model, reinforced, alpha

    def __call__(self, input_ids):
        out = self.model(input_ids=input_ids)
        z, r = out.logits, self.reinforced(input_ids=input_ids).logits
        out.logits = z - self.alpha * (r - z).clamp(min=0)
        return out


def main():
    torch.manual_seed(0)
    model, tokenizer = suite.load()
    reinforced, _ = suite.load()
    with torch.no_grad():
        for p in reinforced.parameters():
            p.copy_((p.float() * SCALE).to(torch.bfloat16).double())
    rows = [{"prompt": r["prompt"].strip(), "answer": " " + r["answer"]} for r in
            map(json.loads, open(os.path.join(suite.FOLDER, "qa_facts.jsonl")))]
    rows += [{"prompt": suite.prompt_of(r["question"]), "answer": " " + r["answer"]} for r in
             map(json.loads, open(os.path.join(suite.FOLDER, "qa_forget.jsonl")))][:4]
    pairs = [suite.encode_pair(tokenizer, row["prompt"], row["answer"]) for row in rows]
    out = {"scale": SCALE, "rows": rows, "ids": [ids for ids, _ in pairs], "answer_begin": [begin for _, begin in pairs],
           "alphas": []}
    for alpha in ALPHAS:
        pair = Pair(model, reinforced, alpha)
        results = []
        for row in rows:
            lp = suite.score(pair, tokenizer, row["prompt"], row["answer"])[0]
            text = suite.generate(pair, tokenizer, row["prompt"], NEW_TOKENS)[1]
            results.append({"logprob_sum": float(lp.sum()), "prob_mean": float(torch.tensor(lp).exp().mean()), "text": text})
        out["alphas"].append({"alpha": alpha, "results": results})
    assert suite.smallest_margin > MARGIN, suite.smallest_margin
    path = os.path.join(suite.HERE, "..", "golden", "whp.json")
    with open(path, "w") as file:
        json.dump(out, file)
        file.write("\n")
    print("smallest margin", suite.smallest_margin)


main()
