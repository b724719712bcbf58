"""Logits as transformers' generate changes them by generation_config.json before a token is picked.

    python tests/parity/make_generation_rules_golden.py      pip install torch transformers==5.24.0

Writes tests/golden/generation_rules.json: cases with the "config", the ids so far, of which the first "prompt" are the
prompt's, the logits, and what they become; null is minus infinity. tests/unit/test_generation_rules.c reads it.
"""
import json
import os

import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, LogitsProcessorList

TARGET = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden", "generation_rules.json")
VOCAB = 9
CONFIGS = [{}, {"repetition_penalty": 1.3}, {"repetition_penalty": 0.7}, {"repetition_penalty": 1.0}, {"repetition_penalty": None},
           {"no_repeat_ngram_size": 1}, {"no_repeat_ngram_size": 2}, {"no_repeat_ngram_size": 3}, {"no_repeat_ngram_size": 0},
           {"no_repeat_ngram_size": 40}, {"suppress_tokens": [1, 5, 5]}, {"suppress_tokens": []}, {"suppress_tokens": [8, 9, 700]},
           {"repetition_penalty": 1.2, "no_repeat_ngram_size": 2, "suppress_tokens": [0]}]
IDS = [[3], [3, 3], [1, 2, 1, 2, 1], [4, 5, 6, 4, 5, 6, 4, 5], [0, 1, 2, 3, 4, 5, 6, 7, 8]]


def main():
    model = LlamaForCausalLM(LlamaConfig(vocab_size=VOCAB, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
                                         num_attention_heads=1))
    generator, cases = torch.Generator().manual_seed(1), []
    for config in CONFIGS:
        for ids in IDS:
            logits = torch.randn(1, VOCAB, generator=generator) * 3
            processors = model._get_logits_processor(GenerationConfig(**config), len(ids), None, None, LogitsProcessorList())
            changed = processors(torch.tensor([ids]), logits.clone())[0].tolist()
            cases.append(json.dumps({"config": config, "ids": ids, "prompt": 1 + len(cases) % len(ids),
                                     "logits": logits[0].tolist(),
                                     "changed": [None if v == float("-inf") else v for v in changed]}))
    with open(TARGET, "w") as file:
        file.write("[\n" + ",\n".join(cases) + "\n]\n")


if __name__ == "__main__":
    main()
