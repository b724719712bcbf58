"""Loads a folder with lm-evaluation-harness and holds its log-likelihoods against those of `flat score`.

    python tests/parity/check_lm_eval.py FLAT FOLDER      pip install lm_eval==0.4.4 transformers==4.45.1 datasets==2.21.0

Three pairs of context and continuation go through HFLM.loglikelihood, as every multiple-choice task sends them. HFLM
leaves special tokens out unless told add_bos_token; flat puts them as the tokenizer does, and counts the end of sequence
that it appends to an answer, which is left out here.
"""
import json
import os
import subprocess
import sys
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from lm_eval.api.instance import Instance  # noqa: E402
from lm_eval.models.huggingface import HFLM  # noqa: E402

PAIRS = [("Once upon a time, there was a little girl named", " Lily. She loved to play outside in the park."),
         ("Question: Where would you find the Eiffel Tower?\nAnswer:", " Paris"),
         ("The cat was sad because", " she could not find her toy.")]
BOUND = 1e-3  # of a sum of log-probabilities, float32 on both sides


def theirs(folder):
    model = HFLM(pretrained=folder, device="cpu", dtype="float32", batch_size=1, add_bos_token=True)
    requests = [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(PAIRS)]
    return [value for value, _ in model.loglikelihood(requests, disable_tqdm=True)]


def ours(flat, folder):
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8") as stream:
        for prompt, answer in PAIRS:
            stream.write(json.dumps({"prompt": prompt, "answer": answer}) + "\n")
        stream.flush()
        output = subprocess.run([flat, "score", "--model", folder, "--data", stream.name, "--tokens", "--quiet"],
                                encoding="utf-8", stdout=subprocess.PIPE, check=True).stdout
    return [sum(json.loads(line)["token_logprobs"][:-1]) for line in output.splitlines()]


def main():
    flat, folder = sys.argv[1:]
    failed = False
    for (prompt, answer), a, b in zip(PAIRS, theirs(folder), ours(flat, folder)):
        failed |= not abs(a - b) <= BOUND
        print("%-60r lm_eval %.5f  flat %.5f  difference %.1e" % (prompt + answer[:8], a, b, abs(a - b)))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
