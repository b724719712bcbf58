#!/usr/bin/env python3
"""Forget quality by the second to fifth of TOFU's wrong answers alone.

    other_answers.py RETAIN_EVAL NAME=TOFU_EVAL ...     logs of flat eval --suite tofu; needs SciPy

FLAT with answers of its own kind was taught the first wrong answer of each row, and TOFU's test compares with all five. Prints a
row per log: the p-value of the two-sample Kolmogorov-Smirnov test between the truth ratios of the model and of the one that never
saw the rows, with five answers (TOFU's forget quality) and with four.
"""
import json
import math
import sys

from scipy.stats import ks_2samp


def truth_ratios(path, first):
    with open(path) as file:
        log = json.load(file)
    right, wrong = (log[f"forget_Q_A_{kind}_Prob"]["value_by_index"] for kind in ("PARA", "PERT"))
    mean = lambda losses: sum(losses) / len(losses)
    return [math.exp(-mean(wrong[row]["avg_loss"][first:])) / (math.exp(-right[row]["avg_loss"]) + 1e-10) for row in right]


print("run,five answers,the other four")
for run in sys.argv[2:]:
    name, path = run.split("=", 1)
    values = [ks_2samp(truth_ratios(sys.argv[1], first), truth_ratios(path, first)).pvalue for first in (0, 1)]
    print(",".join([name] + [f"{value:.4g}" for value in values]))
