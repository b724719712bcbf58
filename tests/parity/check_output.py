"""Loads folders that flat has written with transformers, and holds what flat computed with them against it.

    python tests/parity/check_output.py FOLDER [DUMP]        pip install -r requirements-models.txt
    python tests/parity/check_output.py --all DIRECTORY      every FOLDER of it that has a FOLDER/dump

FOLDER is a model or a LoRA adapter, whose adapter_config.json names the model. DUMP (FOLDER/dump when not given) is
what `flat unlearn` or `flat finetune` writes with --dump_step, of a run that began from FOLDER: its first step's
log-probability of every answer token must be transformers' and PEFT's on the same ids. Loading must bring no warning
and no missing, unexpected or mis-shaped tensor. Of a folder with "bf16" in its name only that is asked, as the bound
of bf16 is tests/parity/test_parity.c's.
"""
import argparse
import glob
import json
import os
import sys

import torch
from safetensors.torch import load_file

import reference

BOUND = 1e-4  # of a log-probability in float32 against double


def batch_differences(model, batch):
    """Of the log-probability of every answer token of a packed batch."""
    expected = torch.full((len(batch["target"]),), float("nan"), dtype=torch.float64)
    for begin, count, _, _, prefix, prefix_count in batch["segments"].tolist():
        rows = list(range(prefix, prefix + prefix_count)) + list(range(begin, begin + count))
        positions = batch["positions"][rows].tolist()
        if positions != list(range(len(rows))):
            raise SystemExit("a segment's positions are %s" % positions)
        logprobs = reference.row_logprobs(model, batch["ids"][rows].tolist())[prefix_count:]
        for i, (row, target) in enumerate(zip(batch["target_row"].tolist(), batch["target"].tolist())):
            if begin <= row < begin + count:
                expected[i] = logprobs[row - begin, target]
    return (batch["logprob"].double() - expected).abs()


def load(folder):
    config = os.path.join(folder, "adapter_config.json")
    if not os.path.exists(config):
        return reference.load(folder)[0]
    with open(config, encoding="utf-8") as stream:
        return reference.load_adapter(json.load(stream)["base_model_name_or_path"], folder)[0]


def check(folder, dump, bound):
    model = load(folder)
    files = sorted(glob.glob(os.path.join(dump, "batch-*.safetensors")))
    if not files:
        raise SystemExit("%s: no batch-*.safetensors; expected what --dump_step writes" % dump)
    batches = [load_file(path) for path in files]
    with torch.no_grad(), reference.double_arithmetic():
        differences = torch.cat([batch_differences(model, batch) for batch in batches])
    worst = differences.max().item()  # a NaN is the largest
    fine = worst <= bound or ("bf16" in os.path.basename(folder) and worst == worst)
    print("%-22s %s: loads without complaint; %d log-probabilities differ by at most %.2g" %
          (os.path.basename(os.path.normpath(folder)), "equal" if fine else "DIFFERS", len(differences), worst))
    return fine


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("dump", nargs="?")
    parser.add_argument("--all", action="store_true", help="folder is a directory of folders")
    parser.add_argument("--bound", type=float, default=BOUND)
    options = parser.parse_args()
    folders = [options.folder]
    if options.all:
        folders = sorted(os.path.dirname(dump) for dump in glob.glob(os.path.join(options.folder, "*", "dump")))
        if not folders:
            raise SystemExit("%s: no folder with a dump" % options.folder)
    results = [check(folder, options.dump or os.path.join(folder, "dump"), options.bound) for folder in folders]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
