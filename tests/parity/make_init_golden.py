"""How transformers initialises a new model of every family: mean and standard deviation of every tensor.

    python tests/parity/make_init_golden.py      pip install torch transformers==5.24.0

Writes tests/golden/initial_weights.json: of every family a config and, by tensor of the state dict (of the first and the last
layer), [mean, deviation, rows that are zero]. tests/unit/test_weights_random.c compares weights_random with them.
"""
import json
import os

import torch
from transformers import AutoConfig, AutoModelForCausalLM

TARGET = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden", "initial_weights.json")
SIZES = {"vocab_size": 96, "hidden_size": 64, "num_hidden_layers": 8, "num_attention_heads": 4,
         "max_position_embeddings": 128}
CONFIGS = [
    {"model_type": "llama", **SIZES, "intermediate_size": 96, "num_key_value_heads": 2, "initializer_range": 0.1},
    {"model_type": "llama", **SIZES, "intermediate_size": 96, "tie_word_embeddings": True, "pad_token_id": 7,
     "attention_bias": True, "mlp_bias": True},
    {"model_type": "mistral", **SIZES, "intermediate_size": 96, "num_key_value_heads": 2, "pad_token_id": -1},
    {"model_type": "qwen2", **SIZES, "intermediate_size": 96, "num_key_value_heads": 2, "initializer_range": 0.0},
    {"model_type": "phi", **SIZES, "intermediate_size": 96, "pad_token_id": 0},
    {"model_type": "opt", **SIZES, "ffn_dim": 96, "init_std": 0.006},
    {"model_type": "gpt2", "vocab_size": 96, "n_embd": 64, "n_layer": 8, "n_head": 4, "n_positions": 128,
     "initializer_range": 0.05, "pad_token_id": 3},
]


def tensors(config):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))
    out = {}
    for name, value in model.state_dict().items():
        if any(".%d." % layer in name for layer in range(1, 7)):
            continue
        zero = [i for i, row in enumerate(value) if not row.any()] if value.dim() == 2 else []
        kept = value[[i for i in range(len(value)) if i not in zero]].double()
        out[name] = [round(kept.mean().item(), 5), round(kept.std(correction=0).item(), 5), zero]
    return out


def main():
    with open(TARGET, "w") as file:
        rows = [json.dumps({"config": config, "tensors": tensors(dict(config))}) for config in CONFIGS]
        file.write("[\n" + ",\n".join(rows) + "\n]\n")


if __name__ == "__main__":
    main()
