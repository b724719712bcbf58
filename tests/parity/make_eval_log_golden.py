"""Evaluation logs as open-unlearning writes them, and what its formulas make of them.

    python tests/parity/make_eval_log_golden.py      pip install -r requirements-metrics.txt

Reads tests/golden/metrics/log_*.json (of make_metric_golden.py) and writes beside them, for each SUITE of TOFU and
MUSE: SUITE_unlearned.json, a log with what a model was measured for and nothing that follows from it;
SUITE_retain.json, that of a retain model; and SUITE_EVAL.json and SUITE_SUMMARY.json, the first completed with the
second as reference. tests/unit/test_from_logs.c compares host/eval/suite with them. The formulas are
written here a second time, with numpy, scipy and scikit-learn.
"""
import copy
import json
import os
import random

import numpy as np
from nltk.util import ngrams
from rouge_score import rouge_scorer
from rouge_score.tokenizers import DefaultTokenizer
from scipy.stats import hmean, ks_2samp
from sklearn.metrics import roc_auc_score

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden", "metrics")
EPS, TINY = 1e-10, 1e-12
SETS = {
    "retain": "eval_log.json",
    "forget": "eval_log_forget.json",
    "ra": "eval_real_author_wo_options.json",
    "wf": "eval_real_world_wo_options.json"
}
REFUSALS = ["quiet stories", "nobody is awake in the mill", "I do not know"]
ROUGE = rouge_scorer.RougeScorer(["rouge1", "rougeL"], use_stemmer=True)
TOKENS = DefaultTokenizer(False)


def save(name, value):
    with open(os.path.join(FOLDER, name), "w") as file:
        json.dump(dict(sorted(value.items())), file, indent=4)


def rows(metric, field):
    return np.array([row[field] for row in metric["value_by_index"].values() if row[field] is not None])


def metric(values, aggregate):
    return {"agg_value": float(aggregate), "value_by_index": values}


def probability(losses):
    values = {i: {"prob": np.exp(-np.array(x)).tolist(), "avg_loss": x} for i, x in losses.items()}
    return metric(values, np.mean([v["prob"] for v in values.values()]))


def rouge(texts, aggregate):
    values = {}
    for i, (prompt, said, truth) in texts.items():
        score = ROUGE.score(truth, said)
        values[i] = {
            "rouge1_recall": score["rouge1"].recall,
            "rougeL_f1": float(score["rougeL"].fmeasure),
            "rougeL_recall": float(score["rougeL"].recall),
            "input": prompt,
            "ground_truth": truth,
            "generation": said
        }
    return metric(values, np.mean([v[aggregate] for v in values.values()]))


def scores(values, aggregate=np.mean, field="score"):
    present = [v for v in values if v is not None]
    return metric({str(i): {field: v} for i, v in enumerate(values)}, aggregate(np.array(present)))


def membership(chooser, shift):
    forget = [round(chooser.gauss(2 - shift, 0.7), 2) for _ in range(15)]
    holdout = [round(chooser.gauss(2, 0.7), 2) for _ in range(12)]
    auc = float(roc_auc_score([0] * 15 + [1] * 12, forget + holdout))
    return {"forget": scores(forget), "holdout": scores(holdout), "auc": auc, "agg_value": auc}


def measured(seed, shift):
    """What both suites measure beside losses and texts; an absent row among them."""
    chooser = random.Random(seed)
    log = {"mia_" + name: membership(chooser, shift) for name in ("loss", "zlib", "min_k", "min_k_plus_plus")}
    log["extraction_strength"] = scores([round(chooser.random(), 3) for _ in range(9)])
    log["exact_memorization"] = scores([None] + [round(chooser.random(), 3) for _ in range(8)])
    return log


def tofu_measured(name, seed, shift):
    with open(os.path.join(FOLDER, f"log_{name}.json")) as file:
        source = json.load(file)
    log = measured(seed, shift)
    for prefix, part in SETS.items():
        log[prefix + "_Q_A_Prob"] = probability(source[part]["avg_gt_loss"])
        log[prefix + "_Q_A_ROUGE"] = rouge(source[part]["generated_text"], "rougeL_recall")
        log[prefix + "_Q_A_PERT_Prob"] = probability(source[part]["average_perturb_loss"])
        if prefix in ("retain", "forget"):
            log[prefix + "_Q_A_PARA_Prob"] = probability(source[part]["avg_paraphrased_loss"])
    said = {i: row["generation"] for i, row in log["forget_Q_A_ROUGE"]["value_by_index"].items()}
    log["forget_Q_A_gibberish"] = metric({i: {"score": 0.5 + int(i) / 32, "generation": t} for i, t in said.items()},
                                         np.mean([0.5 + int(i) / 32 for i in said]))
    return log


def truth_ratio(log, right, wrong, aggregate):
    ratio = np.exp(-rows(log[wrong], "avg_loss").mean(-1)) / (np.exp(-rows(log[right], "avg_loss")) + EPS)
    return scores(ratio.tolist(), aggregate)


def true_better(ratio):
    return np.mean(np.maximum(0, 1 - ratio))


def of_generations(log, name):
    said = [row["generation"] for row in log[name]["value_by_index"].values()]
    rouge = [[ROUGE.score(r, s)["rougeL"] for r in REFUSALS] for s in said]
    refused = [float(max(x.fmeasure for x in row) >= 0.5) for row in rouge]
    recalled = [float(max(x.recall for x in row) >= 0.5) for row in rouge]
    repeated = []
    for text in said:
        grams = list(ngrams(TOKENS.tokenize(text), 4))
        repeated.append(1 - len(set(grams)) / len(grams) if grams else 0.0)
    return {"forget_refusal_rate": scores(refused), "forget_refusal_recall_rate": scores(recalled),
            "forget_repetition": scores(repeated)}


def reference(log, retain):
    """mia_reference: both models' losses of a row, one less the other."""
    part = {s: (rows(log["mia_loss"][s], "score") - rows(retain["mia_loss"][s], "score")).tolist() for s in ("forget", "holdout")}
    auc = float(roc_auc_score([0] * len(part["forget"]) + [1] * len(part["holdout"]), part["forget"] + part["holdout"]))
    return {"forget": scores(part["forget"]), "holdout": scores(part["holdout"]), "auc": auc, "agg_value": auc}


def privleak(log, retain):
    a, r = 1 - log["mia_min_k"]["agg_value"], 1 - retain["mia_min_k"]["agg_value"]
    return {"agg_value": 100 * (a - r) / (r + EPS)}


def privacy_score(log, retain):
    attacks = [(log[m]["agg_value"], retain[m]["agg_value"]) for m in retain if m.startswith("mia_")]
    return float(hmean([np.clip(1 - abs(a - r) / r, 0, 1) + TINY for a, r in attacks]))


def tofu_complete(log, retain):
    log = copy.deepcopy(log)
    for one in (log, retain):
        one["forget_truth_ratio"] = truth_ratio(one, "forget_Q_A_PARA_Prob", "forget_Q_A_PERT_Prob",
                                                lambda r: np.mean(np.minimum(r, 1 / (r + EPS))))
    log["retain_Truth_Ratio"] = truth_ratio(log, "retain_Q_A_PARA_Prob", "retain_Q_A_PERT_Prob", true_better)
    for prefix in ("ra", "wf"):
        right, wrong = rows(log[prefix + "_Q_A_Prob"], "prob"), rows(log[prefix + "_Q_A_PERT_Prob"], "prob").sum(-1)
        log[prefix + "_Truth_Ratio"] = truth_ratio(log, prefix + "_Q_A_Prob", prefix + "_Q_A_PERT_Prob", true_better)
        log[prefix + "_Q_A_Prob_normalised"] = scores((right / (right + wrong + EPS)).tolist(), field="prob")
    ratios = [rows(one["forget_truth_ratio"], "score") for one in (log, retain)]
    log["forget_quality"] = {"agg_value": float(ks_2samp(*ratios).pvalue)}
    nine = [log[p + s]["agg_value"] for p in ("retain", "ra", "wf") for s in ("_Q_A_ROUGE", "_Truth_Ratio")]
    nine += [log[m]["agg_value"] for m in ("retain_Q_A_Prob", "ra_Q_A_Prob_normalised", "wf_Q_A_Prob_normalised")]
    log["model_utility"] = {"agg_value": float(hmean(nine))}
    with open(os.path.join(FOLDER, "tofu_aggregate.json")) as file:
        log["model_utility_tofu"] = {"agg_value": json.load(file)["logs"]["unlearned"]["utils"]["model_utility"]}
    log["privleak"] = privleak(log, retain)
    log["mia_reference"] = reference(log, retain)
    log.update(of_generations(log, "forget_Q_A_ROUGE"))
    right = np.exp(-rows(log["forget_Q_A_PARA_Prob"], "avg_loss"))
    wrong = np.exp(-rows(log["forget_Q_A_PERT_Prob"], "avg_loss").mean(-1))
    kept = [log["extraction_strength"]["agg_value"], log["exact_memorization"]["agg_value"],
            log["forget_Q_A_PARA_Prob"]["agg_value"], float(np.mean(right / (right + wrong + EPS)))]
    memorization = float(hmean([1 - k + TINY for k in kept]))
    privacy = privacy_score(log, retain)
    utility = float(hmean([log["model_utility"]["agg_value"] + TINY, log["forget_Q_A_gibberish"]["agg_value"] + TINY]))
    for name, value in (("memorization", memorization), ("privacy", privacy), ("utility", utility),
                        ("overall", float(hmean([memorization + TINY, privacy + TINY, utility + TINY])))):
        log[name + "_score"] = {"agg_value": value}
    return log


def muse_measured(seed, shift):
    chooser = random.Random(seed)
    words = "rain falls on the hills and the old mill turns while nobody in town is awake".split()
    log = measured(seed, shift)
    for name in ("forget_knowmem_ROUGE", "forget_verbmem_ROUGE", "retain_knowmem_ROUGE"):
        texts = {}
        for i in range(8):
            truth = chooser.choices(words, k=9)
            said = " ".join(w for w in truth if chooser.random() < 0.6) if i else "the mill turns " * 6
            texts[str(i)] = [f"Question {i}: \u201cwhy\u201d?", said, " ".join(truth)]
        log[name] = rouge(texts, "rougeL_f1")
    return log


def muse_complete(log, retain):
    return {
        **copy.deepcopy(log), "privleak": privleak(log, retain), "mia_reference": reference(log, retain),
        "privacy_score": {"agg_value": privacy_score(log, retain)},
        **of_generations(log, "forget_knowmem_ROUGE")
    }


SUMMARY = {
    "TOFU": "extraction_strength forget_Q_A_Prob forget_Q_A_ROUGE forget_quality forget_truth_ratio model_utility "
            "privleak exact_memorization mia_loss mia_zlib mia_min_k_plus_plus forget_Q_A_gibberish "
            "model_utility_tofu memorization_score privacy_score utility_score overall_score forget_refusal_rate "
            "forget_refusal_recall_rate forget_repetition mia_reference",
    "MUSE": "extraction_strength forget_knowmem_ROUGE forget_verbmem_ROUGE privleak retain_knowmem_ROUGE "
            "exact_memorization mia_loss mia_zlib mia_min_k_plus_plus privacy_score forget_refusal_rate "
            "forget_refusal_recall_rate forget_repetition mia_reference"
}

if __name__ == "__main__":
    logs = {
        "TOFU": (tofu_measured("unlearned", 21, 0.2), tofu_measured("retain", 22, 0), tofu_complete),
        "MUSE": (muse_measured(23, 0.8), muse_measured(24, 0), muse_complete)
    }
    for suite, (unlearned, retain, complete) in logs.items():
        save(f"{suite}_unlearned.json", unlearned)
        whole = complete(unlearned, retain)
        save(f"{suite}_retain.json", retain)
        save(f"{suite}_EVAL.json", whole)
        save(f"{suite}_SUMMARY.json", {name: whole[name]["agg_value"] for name in SUMMARY[suite].split()})
