"""`flat eval`'s suites on a real model and real data, against what transformers, rouge-score, scipy and scikit-learn make of
the same questions (make_eval_golden.py's formulas, which know nothing of flat). The model and the data are not committed.

    python tests/parity/check_eval.py --model SmolLM2-135M-Instruct --tofu TOFU --muse MUSE [--rows 6] [--suites tofu,muse,qa]

TOFU is the folder with forget01_perturbed.json and the others under their names, MUSE one with knowmem/, verbmem/ and
privleak/. The first --rows rows of each set are taken. The reference computes in double, one question after the other, with a
cache of keys and values; flat computes on the CPU in float. Probabilities and what is made of them must agree to 1e-4, texts
and ROUGE must be equal; a greedy step whose two largest logits are closer than 1e-4 is reported, since float may flip it.
Needs requirements-metrics.txt, torch and transformers 5.
"""
import argparse
import copy
import json
import math
import pathlib
import subprocess
import sys
import tempfile

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import make_eval_golden as golden

ROOT = pathlib.Path(__file__).resolve().parents[2]
BOUND = 1e-4


def read_rows(path):
    text = path.read_text()
    return json.loads(text) if text.lstrip().startswith("[") else [json.loads(line) for line in text.splitlines()]


def write_rows(path, rows, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) if lines else json.dumps(rows))


def lay_out(folder, options):
    """The data as make_eval_golden.py names them."""
    count = options.rows
    for name in ("forget01_perturbed", "retain_perturbed", "real_authors_perturbed", "world_facts_perturbed"):
        write_rows(folder / "tofu" / (name + ".json"), read_rows(options.tofu / (name + ".json"))[:count], True)
    write_rows(folder / "tofu" / "holdout01.json", read_rows(options.tofu / "retain_perturbed.json")[count:2 * count], True)
    for kind in ("forget", "retain"):
        for end in ("qa", "qa_icl"):
            name = f"knowmem/{kind}_{end}.json"
            write_rows(folder / "muse" / name, read_rows(options.muse / name)[:count], False)
    for name in ("verbmem/forget.json", "privleak/forget.json", "privleak/holdout.json"):
        write_rows(folder / "muse" / name, read_rows(options.muse / name)[:count], False)
    rows = read_rows(options.tofu / "forget01_perturbed.json")[:count]
    write_rows(folder / "qa_forget.jsonl", [{"question": r["question"], "answer": r["answer"]} for r in rows], True)
    facts = read_rows(options.tofu / "world_facts_perturbed.json")[:count]
    write_rows(folder / "qa_facts.jsonl", [{"prompt": r["question"] + "\n", "answer": r["answer"]} for r in facts], True)
    (folder / "refusals.txt").write_text("".join(r + "\n" for r in golden.REFUSALS))


def generate(model, tokenizer, prompt, limit=golden.NEW_TOKENS):
    """make_eval_golden's, with a cache."""
    ids, new, past = tokenizer(prompt)["input_ids"], [], None
    feed = ids
    with torch.no_grad():
        while len(new) < limit:
            out = model(input_ids=torch.tensor([feed]), past_key_values=past, use_cache=True)
            past, best = out.past_key_values, torch.topk(out.logits[0, -1], 2)
            golden.smallest_margin = min(golden.smallest_margin, float(best.values[0] - best.values[1]))
            if int(best.indices[0]) == tokenizer.eos_token_id:
                break
            new.append(int(best.indices[0]))
            feed = new[-1:]
    return tokenizer.decode(ids, skip_special_tokens=True), tokenizer.decode(new, skip_special_tokens=True)


def retain_log(log):
    """A log of another model, of the same questions: what it knows of the forget set is a little less."""
    other = copy.deepcopy(log)
    for name in ("forget_Q_A_Prob", "forget_Q_A_PARA_Prob", "forget_Q_A_PERT_Prob"):
        for i, row in enumerate(other[name]["value_by_index"].values()):
            scale = 1.05 + 0.01 * (i % 5)
            losses = row["avg_loss"] if isinstance(row["avg_loss"], list) else [row["avg_loss"]]
            losses = [x * scale for x in losses]
            probs = [math.exp(-x) for x in losses]
            row["avg_loss"], row["prob"] = (losses, probs) if isinstance(row["prob"], list) else (losses[0], probs[0])
    for kind in ("forget", "holdout"):  # apart, so that no difference of the two models' losses is one of rounding
        for i, row in enumerate(other["mia_loss"][kind]["value_by_index"].values()):
            row["score"] *= 1.02 + 0.03 * (i % 4) + 0.01 * (kind == "holdout")
    return other


class Differences:
    """The largest, by what kind of number it is, and everything that is not equal and should be."""

    def __init__(self):
        self.largest, self.wrong, self.numbers, self.texts = {"probabilities": 0.0, "ROUGE": 0.0}, [], 0, 0

    def compare(self, got, wanted, where):
        if isinstance(wanted, dict):
            if list(got) != list(wanted):
                self.wrong.append(f"{where}: members {sorted(set(got) ^ set(wanted))}")
            for key in wanted:
                if key in got:
                    self.compare(got[key], wanted[key], f"{where}/{key}")
        elif isinstance(wanted, list):
            for i, (x, y) in enumerate(zip(got, wanted, strict=True)):
                self.compare(x, y, f"{where}[{i}]")
        elif isinstance(wanted, str) or wanted is None:
            self.texts += 1
            if got != wanted:
                self.wrong.append(f"{where}: {got!r}, expected {wanted!r}")
        else:
            self.numbers += 1
            kind = "ROUGE" if "ROUGE" in where or "rouge" in where else "probabilities"
            off = abs(got - wanted) / max(1, abs(wanted))
            self.largest[kind] = max(self.largest[kind], off)
            if not off <= (1e-9 if kind == "ROUGE" else BOUND):
                self.wrong.append(f"{where}: {got}, expected {wanted}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--tofu", required=True, type=pathlib.Path)
    parser.add_argument("--muse", required=True, type=pathlib.Path)
    parser.add_argument("--rows", type=int, default=6)
    parser.add_argument("--suites", default="tofu,muse,qa")
    parser.add_argument("--flat", default=ROOT / "build" / "flat")
    options = parser.parse_args()
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float64, attn_implementation="eager").eval()
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    golden.generate, failed = generate, False
    with tempfile.TemporaryDirectory(prefix="flat_eval_") as name:
        folder = pathlib.Path(name)
        golden.FOLDER = str(folder)
        lay_out(folder, options)
        arguments = {"tofu": ["--suite", "tofu", "--forget_data", folder / "tofu/forget01_perturbed.json",
                              "--retain_log", folder / "retain.json"],
                     "muse": ["--suite", "muse", "--data_dir", folder / "muse", "--num_fewshot", str(golden.SHOTS)],
                     "qa": ["--forget_data", folder / "qa_forget.jsonl", "--eval_data", f"facts={folder}/qa_facts.jsonl"]}
        for suite in options.suites.split(","):
            golden.smallest_margin = 1e9
            wanted = getattr(golden, suite)(model, tokenizer)
            if suite == "tofu":
                retain = retain_log(wanted)
                (folder / "retain.json").write_text(json.dumps(retain))
                wanted = golden.tofu_complete(wanted, retain)
            subprocess.run([options.flat, "eval", "--model", options.model, "--prompt_template", "qa", "--max_new_tokens",
                            str(golden.NEW_TOKENS), "--refusals", folder / "refusals.txt", "--device", "cpu", "--quiet", "-o",
                            folder / "out", *arguments[suite]], check=True, stdout=subprocess.DEVNULL)
            found = Differences()
            found.compare(json.loads((folder / "out" / f"{suite.upper()}_EVAL.json").read_text()), dict(sorted(wanted.items())),
                          suite)
            print(f"{suite}: {found.numbers} numbers, {found.texts} texts; largest difference of probabilities and what is made of "
                  f"them {found.largest['probabilities']:.1e}, of ROUGE {found.largest['ROUGE']:.1e}; smallest margin of a "
                  f"greedy step {golden.smallest_margin:.1e}; {len(found.wrong)} wrong", flush=True)
            for line in found.wrong[:20]:
                print("  " + line)
            failed = failed or bool(found.wrong)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
