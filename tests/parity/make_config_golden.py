"""config.json of every family as transformers writes it, in the spelling of version 4 and in that of version 5.

    python tests/parity/make_config_golden.py      pip install transformers==4.45.1, then again with 5.24.0

Writes tests/golden/configs/v4 or v5, by the version that runs it; torch is not needed. The two say the same: version 5
writes dtype for torch_dtype, and rope_parameters for rope_theta, rope_scaling and partial_rotary_factor.
tests/program/test_folders.c reads both.
"""
import os
import shutil

import transformers
from transformers import GPT2Config, LlamaConfig, MistralConfig, OPTConfig, PhiConfig, Qwen2Config

NEW = int(transformers.__version__.split(".")[0]) >= 5
TARGET = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden", "configs", "v5" if NEW else "v4")
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 32}
SIZES = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


def rope(theta, scaling=None, partial=None):
    part = {"partial_rotary_factor": partial} if partial else {}
    if NEW:
        return {"rope_parameters": {"rope_theta": theta, **(scaling or {"rope_type": "default"}), **part}}
    return {"rope_theta": theta, **({"rope_scaling": scaling} if scaling else {}), **part}


def config(kind, **options):
    return kind(**options, **{"dtype" if NEW else "torch_dtype": "bfloat16"})


CONFIGS = {
    "llama3": config(LlamaConfig, **SIZES, intermediate_size=48, num_key_value_heads=1, **rope(5e5, LLAMA3)),
    "mistral": config(MistralConfig, **SIZES, intermediate_size=48, num_key_value_heads=1, head_dim=24,
                      sliding_window=None, max_position_embeddings=96, **rope(1e6)),
    "qwen2": config(Qwen2Config, **SIZES, intermediate_size=48, num_key_value_heads=1, bos_token_id=1,
                    eos_token_id=[2, 3], tie_word_embeddings=True, **rope(1e6, {"rope_type": "linear", "factor": 2.0})),
    "phi": config(PhiConfig, **SIZES, intermediate_size=48, **rope(2e4, partial=0.5)),
    "opt": config(OPTConfig, **SIZES, word_embed_proj_dim=32, ffn_dim=48),
    "gpt2": config(GPT2Config, vocab_size=64, n_embd=32, n_layer=1, n_head=2, bos_token_id=1, eos_token_id=1),
}


def main():
    shutil.rmtree(TARGET, ignore_errors=True)
    for name, value in CONFIGS.items():
        folder = os.path.join(TARGET, name)
        os.makedirs(folder)
        value.to_json_file(os.path.join(folder, "config.json"))


if __name__ == "__main__":
    main()
