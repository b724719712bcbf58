"""Which modules PEFT adapts for an adapter_config.json, with which rank and scaling.

    python tests/parity/make_adapter_cases.py      pip install torch transformers==5.24.0 peft==0.21.2

Writes tests/golden/adapter_cases.json: models' configs, and cases with the "model", the adapter's "config", and either
"modules", {path: [rank, scaling]}, "refuse", what PEFT raises, or "unsupported", a feature that flat refuses by name.
tests/unit/test_adapter_config.c reads it.
"""
import json
import os
import tempfile
import warnings

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="critical")
warnings.simplefilter("ignore")

from peft import LoraConfig, PeftConfig, get_peft_model  # noqa: E402
from peft.tuners.lora import LoraLayer  # noqa: E402
from transformers import AutoConfig, AutoModelForCausalLM  # noqa: E402

TARGET = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden", "adapter_cases.json")
SIZES = {"vocab_size": 32, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}
MODELS = {"llama": {"model_type": "llama", **SIZES, "intermediate_size": 24},
          "gpt2": {"model_type": "gpt2", "vocab_size": 32, "n_embd": 16, "n_layer": 3, "n_head": 2, "n_positions": 32}}
QV = ["q_proj", "v_proj"]
CASES = [
    *(("llama", {"target_modules": t}) for t in (
        QV, "all-linear", ["self_attn.q_proj"], ["model.layers.1.mlp.up_proj"], r".*\.q_proj", r"model\.layers\.[02]\..*_proj",
        r".*layers\.\d+\.mlp\.(up|down)_proj", r"q_proj", r".*(q|v)_proj$", r".*nothing")),
    *(("llama", {"target_modules": QV, **more}) for more in (
        {"layers_to_transform": 1}, {"layers_to_transform": [0, 2]}, {"layers_to_transform": []}, {"layers_to_transform": 7},
        {"layers_to_transform": [0], "layers_pattern": "layers"}, {"layers_to_transform": [0], "layers_pattern": ["layers"]},
        {"layers_to_transform": [0], "layers_pattern": "h"}, {"layers_to_transform": [0], "layers_pattern": ""},
        {"exclude_modules": ["v_proj"]}, {"exclude_modules": r".*layers\.0\..*"}, {"exclude_modules": QV},
        {"exclude_modules": []}, {"exclude_modules": ["layers.0.self_attn.q_proj"]},
        {"rank_pattern": {"q_proj": 4}}, {"rank_pattern": {"v_proj": 2, "layers.1.self_attn.v_proj": 6}},
        {"rank_pattern": {"layers.1.self_attn.v_proj": 6, "v_proj": 2}}, {"rank_pattern": {r".*\.2\..*": 3}},
        {"rank_pattern": {"q_pro": 4}}, {"rank_pattern": {"proj": 4}}, {"rank_pattern": {"model.layers.0.self_attn.q_proj": 5}},
        {"alpha_pattern": {"q_proj": 4}}, {"alpha_pattern": {"q_proj": 0}}, {"alpha_pattern": {r"layers\.[01]\..*": 32}},
        {"rank_pattern": {"q_proj": 4}, "alpha_pattern": {"v_proj": 3}}, {"rank_pattern": {"q_proj": 4}, "use_rslora": True},
        {"rank_pattern": {"q_proj": 4}, "alpha_pattern": {"q_proj": 3}, "use_rslora": True}, {"lora_alpha": 0},
        {"rank_pattern": {"^q_proj": 4}}, {"rank_pattern": {"q_proj|v_proj": 4}}, {"rank_pattern": {}})),
    ("llama", {"target_modules": "all-linear", "exclude_modules": ["down_proj"], "rank_pattern": {r"mlp\..*": 2}}),
    ("llama", {"target_modules": "all-linear", "layers_to_transform": [1]}),
    ("llama", {"target_modules": r".*_proj", "layers_to_transform": [1]}),
    ("llama", {"target_modules": r".*"}), ("llama", {"target_modules": r".*(lm_head|q_proj)"}),
    ("llama", {"target_modules": QV, "some_future_flag": 3}), ("llama", {"target_modules": QV, "some_future_flag": None}),
    ("gpt2", {"target_modules": ["c_attn"]}), ("gpt2", {"target_modules": ["attn.c_proj"], "layers_to_transform": [2]}),
    ("gpt2", {"target_modules": r".*h\.[01]\..*c_proj", "alpha_pattern": {"mlp.c_proj": 2}}),
    ("gpt2", {"target_modules": ["c_fc"], "layers_to_transform": [1], "layers_pattern": "h"}),
    ("gpt2", {"target_modules": "all-linear", "rank_pattern": {"c_attn": 2}}),
]


def modules(name, config):
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**MODELS[name]))
    projections = [p for p, _ in model.named_modules() if ".layers." in p or ".h." in p]
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "adapter_config.json"), "w") as file:
            json.dump({"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 8, "lora_alpha": 16, **config}, file)
        peft = get_peft_model(model, PeftConfig.from_pretrained(folder))
    out = {}
    for path, module in peft.base_model.model.named_modules():
        if isinstance(module, LoraLayer):
            out[path] = [module.r["default"], module.scaling["default"]]
    return out, [p for p in out if p not in projections]


def main():
    lines = []
    for name, config in CASES:
        line = {"model": name, "config": config}
        try:
            found, others = modules(name, config)
            line.update({"unsupported": others} if others else {"modules": found})
        except Exception as problem:
            line["refuse"] = type(problem).__name__
        lines.append(json.dumps(line))
    with open(TARGET, "w") as file:
        file.write('{"models": ' + json.dumps(MODELS) + ',\n"cases": [\n' + ",\n".join(lines) + "\n]}\n")


if __name__ == "__main__":
    main()
