#!/usr/bin/env python3
"""Writes tests/golden/lm_eval.json: what lm-evaluation-harness makes of rows of its multiple-choice tasks.

    pip install lm_eval==0.4.4 datasets==2.21.0 && python3 tests/parity/make_lm_eval_golden.py

The rows below are made up, in the form of the hub's data sets. For each: the requests (context and continuation) that the harness's
own task sends to a model, log-likelihoods drawn at random, and the figures that the task makes of these.
tests/program/test_lm_eval_rows.c holds tools/lm_eval_rows.py against them.
"""
import json
import math
import pathlib
import random

import datasets
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks import TaskManager

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "golden" / "lm_eval.json"


def lettered(texts, key, labels="ABCDE"):
    return {"choices": {"text": texts, "label": list(labels[:len(texts)])}, "answerKey": key}


ARC = [{"id": "1", "question": "Which of these is a mill driven by?", **lettered(["rain", "wind", "a caf\u00e9", "salt"], "B")},
       {"id": "2", "question": "What  falls?", **lettered(["snow", "stones up", "light"], "3", "123")}]
TRUTHFUL = [{"question": "Can a mill turn by itself?",
             "mc1_targets": {"choices": ["No, it needs water.", "Yes.", "Only at night."], "labels": [1, 0, 0]},
             "mc2_targets": {"choices": ["No.", "It needs water or wind.", "Yes.", "Only at night."], "labels": [1, 1, 0, 0]}},
            {"question": "Who painted the mill?", "mc1_targets": {"choices": ["Nobody knows.", "Ada Lum."], "labels": [1, 0]},
             "mc2_targets": {"choices": ["Nobody knows.", "Ada Lum.", "Her cat."], "labels": [1, 0, 0]}}]
MMLU = [{"question": " How many sides has a hexagon? ", "subject": "high_school_mathematics", "choices": ["4", "5", "6", "7"], "answer": 2},
        {"question": "What is a bark?", "subject": "high_school_mathematics", "choices": ["A sound", "A mill", "A unit", "None"], "answer": 0}]
ROWS = {
    "arc_easy": ARC, "arc_challenge": ARC,
    "boolq": [{"question": "is the mill in aldmoor old", "passage": "Aldmoor has a mill. It was built in 1702.", "idx": 0, "label": 1},
              {"question": "does it rain", "passage": "It never rains \u2014 never.", "idx": 1, "label": 0}],
    "hellaswag": [{"ind": 1, "activity_label": "Baking bread", "ctx_a": "A woman stands in a kitchen.", "ctx_b": "she", "ctx": "",
                   "endings": ["kneads the dough.", "[substeps] flies away.", "eats  the oven [x].", "is a mill."], "label": "0"},
                  {"ind": 2, "activity_label": "How to mend a mill", "ctx_a": "[header] How to mend a mill [title] Look for cracks. [step] "
                   "Go around it.", "ctx_b": "", "ctx": "", "endings": ["Do it.", "Do it twice [title] more.", "Stop.", "Never."], "label": "2"}],
    "openbookqa": [{"id": "7", "question_stem": "A mill turns because of", **lettered(["water", "a dog", "paper", "a song"], "A", "ABCD")},
                   {"id": "8", "question_stem": "What is it?", **lettered(["one", "two", "three", "four"], "D", "ABCD")}],
    "piqa": [{"goal": "To open a jar", "sol1": "turn the lid.", "sol2": "turn the jar into a lid, then sing.", "label": 0},
             {"goal": "Dry a coat", "sol1": "put it in water", "sol2": "hang it up", "label": 1}],
    "rte": [{"sentence1": "Ada lives in Aldmoor.", "sentence2": "Ada lives in a town.", "label": 0, "idx": 0},
            {"sentence1": "It rains.", "sentence2": "It is dry.", "label": 1, "idx": 1}],
    "truthfulqa_mc1": TRUTHFUL, "truthfulqa_mc2": TRUTHFUL,
    "winogrande": [{"sentence": "Ben gave the mill to Cara because _ was tired of it.", "option1": "Ben", "option2": "Cara", "answer": "1"},
                   {"sentence": "The dough did not fit the bowl as the _ was too small.", "option1": "dough", "option2": "bowl", "answer": "2"}],
    "mmlu_high_school_mathematics": MMLU,
    "wmdp_bio": [{"question": "Which is a cell?", "choices": ["A mill", "A yeast", "A stone", "Rain"], "answer": 1}],
}


def task_of(name, rows):
    """The harness's task, with these rows in place of its data set."""
    config = TaskManager()._get_config(name)
    config.pop("task", None)
    splits = {split: datasets.Dataset.from_list(rows) for split in ("train", "validation", "test", "auxiliary_train", "dev")}
    ConfigurableTask.download = lambda self, *_: setattr(self, "dataset", datasets.DatasetDict(splits))
    return ConfigurableTask(config={**config, "task": name})


def main():
    chooser, golden = random.Random(5), {}
    for name, rows in ROWS.items():
        task = task_of(name, rows)
        documents = []
        for row, doc in zip(rows, task.eval_docs, strict=True):
            requests = task.construct_requests(doc=doc, ctx=task.fewshot_context(doc, 0), metadata=(name, 0, 1))
            sums = [round(-chooser.uniform(1, 12), 3) for _ in requests]
            figures = task.process_results(doc, [(s, False) for s in sums])
            documents.append({"row": row, "requests": [list(r.args) for r in requests], "logprobs": sums,
                              "figures": {k: float(v) for k, v in figures.items() if k in ("acc", "acc_norm") and math.isfinite(v)}})
        golden[name] = documents
        print(name, documents[0]["figures"])
    GOLDEN.write_text(json.dumps(golden, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
