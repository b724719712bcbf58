"""What transformers makes of a config.json in which one key is absent, null, 0 or another value.

    python tests/parity/make_config_cases.py [FAMILY...]      pip install torch transformers==5.24.0

Writes tests/golden/config_cases.jsonl. The first line of a family has its base config and what the model made of it
computes with; every further line a change ("set", "drop", "generation": a generation_config.json beside it) and what is then
different ("expect"), or "refuse": transformers raises ("error"), or the model uses what flat does not have ("unsupported").
Every key that the family reads is varied; every key of another family is set to a value that would change the arithmetic
there. What a model computes with is read off its modules, not off its config; small ones run once.
tests/unit/test_config.c reads the file.
"""
import json
import os
import sys
import tempfile
import warnings

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="critical")
warnings.simplefilter("ignore")

import torch  # noqa: E402
from transformers import AutoConfig, AutoModelForCausalLM  # noqa: E402

TARGET = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden", "config_cases.jsonl")
ABSENT = object()

SIZES = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
BASES = {
    "llama": {**SIZES, "intermediate_size": 48, "num_key_value_heads": 1},
    "mistral": {**SIZES, "intermediate_size": 48, "num_key_value_heads": 1},
    "qwen2": {**SIZES, "intermediate_size": 48, "num_key_value_heads": 1},
    "qwen3": {**SIZES, "intermediate_size": 48, "num_key_value_heads": 1, "head_dim": 16},
    "smollm3": {**SIZES, "intermediate_size": 48, "num_key_value_heads": 1, "bos_token_id": 1, "eos_token_id": 2,
                "pad_token_id": 2},
    "phi3": {**SIZES, "intermediate_size": 48, "num_key_value_heads": 1, "eos_token_id": 2, "pad_token_id": 2},
    "gemma": {**SIZES, "intermediate_size": 48, "num_key_value_heads": 1, "head_dim": 16},
    "gemma2": {**SIZES, "intermediate_size": 48, "num_key_value_heads": 1, "head_dim": 16},
    "gemma3_text": {**SIZES, "intermediate_size": 48, "num_key_value_heads": 1, "head_dim": 16, "sliding_window_pattern": 2},
    "olmo2": {**SIZES, "intermediate_size": 48, "num_key_value_heads": 1, "eos_token_id": 2},
    "phi": {**SIZES, "intermediate_size": 48},
    "opt": {**SIZES, "ffn_dim": 48},
    "gpt2": {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 2, "bos_token_id": 1, "eos_token_id": 1},
}

# key: values beside absent, null and 0
COMMON = {
    "vocab_size": [80], "hidden_size": [64], "num_hidden_layers": [1], "num_attention_heads": [1, 4],
    "max_position_embeddings": [96], "initializer_range": [0.5], "tie_word_embeddings": [True, False],
    "dtype": ["float16", "bfloat16", "float64"], "torch_dtype": ["bfloat16"], "bos_token_id": [3, 80],
    "eos_token_id": [3, 80, [3, 4], []], "pad_token_id": [5, 64, -1],
}
GATED = {"intermediate_size": [40], "num_key_value_heads": [2], "head_dim": [24, 12], "hidden_act": ["swish", "gelu"],
         "rms_norm_eps": [1e-5]}


def without(table, key):
    return {k: v for k, v in table.items() if k != key}


GEMMA2 = {"hidden_activation": ["gelu_pytorch_tanh", "relu"], "attention_bias": [True], "sliding_window": [16],
          "query_pre_attn_scalar": [24], "final_logit_softcapping": [20.0], "use_bidirectional_attention": [True, False],
          "layer_types": [["full_attention", "full_attention"], ["full_attention", "sliding_attention"], ["full_attention"]]}
KEYS = {
    "llama": {**COMMON, **GATED, "attention_bias": [True], "mlp_bias": [True]},
    "mistral": {**COMMON, **GATED, "sliding_window": [16]},
    "qwen2": {**COMMON, **GATED, "use_sliding_window": [True, False], "sliding_window": [16], "max_window_layers": [1],
              "layer_types": [["full_attention", "full_attention"], ["full_attention", "sliding_attention"]]},
    "qwen3": {**COMMON, **GATED, "attention_bias": [True], "use_sliding_window": [True, False], "sliding_window": [16],
              "max_window_layers": [1],
              "layer_types": [["full_attention", "full_attention"], ["full_attention", "sliding_attention"]]},
    "smollm3": {**COMMON, **GATED, "attention_bias": [True], "mlp_bias": [True], "use_sliding_window": [True],
                "sliding_window": [16], "no_rope_layer_interval": [1, 2], "no_rope_layers": [[0, 1], [1, 1]],
                "layer_types": [["full_attention", "sliding_attention"]]},
    "phi3": {**COMMON, **GATED, "sliding_window": [16], "original_max_position_embeddings": [32]},
    "gemma": {**COMMON, **GATED, "hidden_act": ["gelu", "gelu_pytorch_tanh", "relu"], "hidden_activation": ["relu"],
              "attention_bias": [True], "use_bidirectional_attention": [True, False]},
    "gemma2": {**COMMON, **without(GATED, "hidden_act"), **GEMMA2,
               "attn_logit_softcapping": [20.0]},
    "gemma3_text": {**COMMON, **without(GATED, "hidden_act"), **GEMMA2, "sliding_window_pattern": [1, 3],
                    "rope_local_base_freq": [500.0]},
    "olmo2": {**COMMON, **GATED, "attention_bias": [True]},
    "phi": {**COMMON, "intermediate_size": [40], "num_key_value_heads": [1], "head_dim": [24],
            "hidden_act": ["gelu", "relu", "silu", "gelu_pytorch_tanh"], "layer_norm_eps": [1e-6], "qk_layernorm": [True]},
    "opt": {**COMMON, "ffn_dim": [40], "activation_function": ["gelu", "gelu_new"], "enable_bias": [False],
            "do_layer_norm_before": [False, True], "word_embed_proj_dim": [32, 16], "init_std": [0.5],
            "layer_norm_elementwise_affine": [False], "_remove_final_layer_norm": [True]},
    "gpt2": {**COMMON, "n_embd": [64], "n_layer": [1],
             "n_head": [1, 4], "n_positions": [96], "n_inner": [40], "n_ctx": [96], "layer_norm_epsilon": [1e-6],
             "activation_function": ["gelu", "relu"], "scale_attn_weights": [False],
             "scale_attn_by_inverse_layer_idx": [True], "reorder_and_upcast_attn": [True],
             "add_cross_attention": [True]},
}
ROTARY = ("llama", "mistral", "qwen2", "qwen3", "phi", "smollm3", "phi3", "gemma", "gemma2", "gemma3_text", "olmo2")
FLOATS = {"attn_logit_softcapping", "final_logit_softcapping", "initializer_range", "init_std", "rms_norm_eps", "layer_norm_eps",
          "layer_norm_epsilon"}
# what changes the arithmetic where a family has the key
FOREIGN = {"sliding_window": 2, "use_sliding_window": True, "max_window_layers": 0, "attention_bias": True, "mlp_bias": True,
           "head_dim": 24, "num_key_value_heads": 1, "intermediate_size": 40, "partial_rotary_factor": 0.5,
           "rope_theta": 500.0, "rope_scaling": {"rope_type": "linear", "factor": 4.0},
           "rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 500.0},
           "enable_bias": False, "do_layer_norm_before": False, "word_embed_proj_dim": 16, "init_std": 0.5,
           "_remove_final_layer_norm": True, "layer_norm_elementwise_affine": False, "ffn_dim": 40, "d_model": 64,
           "n_embd": 64, "n_layer": 1, "n_head": 4, "n_positions": 96, "n_inner": 40, "n_ctx": 96,
           "scale_attn_weights": False, "scale_attn_by_inverse_layer_idx": True, "reorder_and_upcast_attn": True,
           "rms_norm_eps": 1e-3, "layer_norm_eps": 1e-3, "layer_norm_epsilon": 1e-3, "hidden_act": "relu",
           "activation_function": "relu", "qk_layernorm": True, "layer_types": ["sliding_attention"] * 2,
           "original_max_position_embeddings": 8, "logit_scale": 2.0, "attn_pdrop": 0.5, "use_cache": False, "attention_dropout": 0.5,
           "pretraining_tp": 2, "some_future_key": True}

LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 32}
LINEAR = {"rope_type": "linear", "factor": 4.0}
PLAIN = {"rope_type": "default", "rope_theta": 300.0}
LONG = {"rope_type": "longrope", "short_factor": [1.0 + 0.1 * i for i in range(8)], "long_factor": [2.0] * 8}

ROPE = [{"rope_theta": v} for v in (500.0, 500, None, 0, 1, 0.5, "500")] + [
    {"rope_scaling": None}, {"rope_scaling": {}}, {"rope_parameters": None}, {"rope_parameters": {}},
    {"rope_scaling": LINEAR}, {"rope_scaling": {"type": "linear", "factor": 2.0}},
    {"rope_scaling": {"type": "linear", "rope_type": "default", "factor": 2.0}},
    {"rope_scaling": {"type": "default", "rope_type": "linear", "factor": 2.0}},
    {"rope_scaling": LLAMA3}, {"rope_scaling": {"factor": 2.0}}, {"rope_scaling": {"rope_type": None, "factor": 2.0}},
    {"rope_scaling": LINEAR, "rope_theta": 500.0}, {"rope_parameters": {**LINEAR, "rope_theta": 500.0}},
    {"rope_parameters": LINEAR, "rope_theta": 500.0}, {"rope_parameters": {"rope_theta": 500.0}},
    {"rope_parameters": {"rope_type": "default"}, "rope_theta": 500.0},
    {"rope_parameters": {"rope_type": "default", "rope_theta": 300.0}, "rope_theta": 500.0},
    {"rope_parameters": {"rope_type": "default", "rope_theta": None}},
    {"rope_parameters": {"rope_type": "default", "rope_theta": None}, "rope_theta": 500.0},
    {"rope_scaling": LINEAR, "rope_parameters": {"rope_type": "default", "rope_theta": 300.0}},
    {"rope_scaling": LINEAR, "rope_parameters": {"rope_type": "default", "rope_theta": 300.0}, "rope_theta": 500.0},
    {"rope_scaling": {}, "rope_parameters": {**LINEAR, "rope_theta": 300.0}},
    {"rope_scaling": None, "rope_parameters": {**LINEAR, "rope_theta": 300.0}},
    {"rope_scaling": {"rope_theta": 300.0}, "rope_parameters": LINEAR},
    {"rope_scaling": {"rope_type": "default"}, "rope_parameters": LLAMA3},
    {"rope_scaling": {**LINEAR, "factor": 0.5}}, {"rope_scaling": {**LINEAR, "factor": 0}},
    {"rope_scaling": {**LINEAR, "factor": None}}, {"rope_scaling": without(LINEAR, "factor")},
    {"rope_scaling": {**LINEAR, "factor": 1}}, {"rope_scaling": {**LINEAR, "original_max_position_embeddings": 8}},
    *({"rope_scaling": without(LLAMA3, key)} for key in LLAMA3), *({"rope_scaling": {**LLAMA3, key: None}} for key in LLAMA3),
    *({"rope_scaling": {**LLAMA3, key: 0}} for key in LLAMA3),
    {"rope_scaling": without(LLAMA3, "original_max_position_embeddings"), "max_position_embeddings": 64},
    {"rope_scaling": LLAMA3, "original_max_position_embeddings": 8}, {"rope_scaling": {**LLAMA3, "high_freq_factor": 1.0}},
    {"rope_scaling": {**LLAMA3, "low_freq_factor": 5.0}}, {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}},
    {"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, {"rope_scaling": {"rope_type": "mrope", "factor": 2.0}},
    *({"partial_rotary_factor": v} for v in (0.5, 1.0, 1, None, 0)), {"rope_parameters": {"partial_rotary_factor": 0.5}},
    {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0, "partial_rotary_factor": 0.5}},
    {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0, "partial_rotary_factor": None}},
    {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0, "partial_rotary_factor": 0.25},
     "partial_rotary_factor": 1.0},
    {"rope_scaling": LINEAR, "partial_rotary_factor": 0.5}, {"rope_scaling": LLAMA3, "partial_rotary_factor": 0.5},
    {"rope_scaling": {**LINEAR, "partial_rotary_factor": 0.5}}, {"rope_scaling": {**LINEAR, "partial_rotary_factor": 1.0}},
]


LONG_ROPE = [{"rope_scaling": LONG, "max_position_embeddings": 64, "original_max_position_embeddings": 32, **more} for more in (
    {}, {"rope_scaling": {**LONG, "rope_type": "su"}}, {"rope_scaling": {"type": "longrope", **without(LONG, "rope_type")}},
    {"rope_scaling": {**LONG, "short_factor": [1.0] * 7}}, {"rope_scaling": without(LONG, "short_factor")},
    {"rope_scaling": {**LONG, "rope_type": "su", "original_max_position_embeddings": 16}},
    {"rope_scaling": {**LONG, "type": "su"}}, {"rope_scaling": {**LONG, "rope_type": "yarn"}},
    {"original_max_position_embeddings": 1}, {"original_max_position_embeddings": 0},
    {"rope_scaling": {**LONG, "attention_factor": 1.5}}, {"rope_scaling": {**LONG, "factor": 3.0}},
    {"partial_rotary_factor": 0.5, "rope_scaling": {**LONG, "short_factor": [1.0] * 4, "long_factor": [2.0] * 4}})]
LAYER_ROPE = [
    {"rope_parameters": {"full_attention": LINEAR}}, {"rope_parameters": {"full_attention": PLAIN}},
    {"rope_parameters": {"sliding_attention": PLAIN}}, {"rope_parameters": {"sliding_attention": None}},
    {"rope_parameters": {"full_attention": {**LINEAR, "rope_theta": 300.0}, "sliding_attention": {**LLAMA3, "rope_theta": 200.0}}},
    {"rope_parameters": {"full_attention": PLAIN, "sliding_attention": PLAIN}, "rope_theta": 500.0, "rope_local_base_freq": 600.0},
    {"rope_parameters": {"full_attention": PLAIN}, "rope_scaling": LINEAR}, {"rope_local_base_freq": 600.0, "rope_theta": 500.0},
    {"rope_parameters": {"full_attention": {"rope_type": "default"}}, "rope_theta": 500.0}, {"rope_local_base_freq": None}]


class Unsupported(Exception):
    pass


def need(condition, what):
    if not condition:
        raise Unsupported(what)


def activation(module, gated):
    kind = {"SiLUActivation": "silu", "SiLU": "silu", "NewGELUActivation": "gelu_tanh", "GELUTanh": "gelu_tanh",
            "GELUActivation": "gelu", "ReLU": "relu"}.get(type(module).__name__)
    need(kind and (kind == "silu") == gated, "activation")
    return kind


def attention_sizes(rows_q, rows_k, head_dim):
    need(head_dim and head_dim % 8 == 0 and head_dim <= 256, "head_dim")
    return {"num_attention_heads": rows_q // head_dim, "num_key_value_heads": rows_k // head_dim, "head_dim": head_dim}


def rotary(model):
    rope = type(model.model.rotary_emb)(model.config)
    if model.config.model_type == "phi3" and model.config.rope_parameters["rope_type"] == "longrope":
        return [float("%.8g" % f) for f in rope.inv_freq.double().tolist()], rope.attention_scaling
    need(model.config.rope_parameters["rope_type"] in ("default", "linear", "llama3") and rope.attention_scaling == 1, "rope")
    need(len(rope.inv_freq), "no rotation")
    return [float("%.8g" % f) for f in rope.inv_freq.double().tolist()], 1


def rotary_by_layer(model):
    """Frequencies of layers without and with windows; [] of a kind that no layer is of."""
    rope, out = type(model.model.rotary_emb)(model.config), []
    for kind in ("full_attention", "sliding_attention"):
        need(model.config.rope_parameters[kind]["rope_type"] in ("default", "linear", "llama3"), "rope")
        frequencies = getattr(rope, kind + "_inv_freq", None)
        out.append([] if frequencies is None else [float("%.8g" % f) for f in frequencies.double().tolist()])
    return out


def of_more(model):
    """What families beside Llama's first kin have: windows and positions by layer, fused tensors, caps."""
    config, layer = model.config, model.model.layers[0]
    attention, mlp, kind = layer.self_attn, layer.mlp, model.config.model_type
    types = (getattr(config, "layer_types", None) or []) if kind in ("smollm3", "gemma2", "gemma3_text") else []
    windows = [i for i, t in enumerate(types) if t == "sliding_attention"]
    if kind == "phi3":
        need(attention.head_dim > 0, "head_dim")
        kv = (attention.qkv_proj.out_features - attention.o_proj.in_features) // 2
        up, inputs = mlp.gate_up_proj.out_features // 2, attention.qkv_proj.in_features
        windows = range(config.num_hidden_layers) if config.sliding_window is not None else []
    else:
        kv, up, inputs = attention.k_proj.out_features, mlp.up_proj.out_features, attention.q_proj.in_features
    need(not windows or config.sliding_window, "a window of 0")
    need(not getattr(config, "use_bidirectional_attention", None), "both directions")
    norm = layer.post_attention_layernorm
    need(kind != "gemma3_text" or config.attn_logit_softcapping is None, "a cap that is not applied")
    gelu, act = kind.startswith("gemma"), mlp.activation_fn if kind == "phi3" else mlp.act_fn
    out = {"hidden_size": inputs, "intermediate_size": up,
           **attention_sizes(attention.o_proj.in_features, kv, attention.head_dim),
           "norm_eps": getattr(norm, "variance_epsilon", None) if hasattr(norm, "variance_epsilon") else norm.eps,
           "activation": {"gelu_tanh": "geglu_tanh"}[activation(act, False)] if gelu else activation(act, True),
           "sliding_window": config.sliding_window if windows else 0, "windows": list(windows),
           "scale": attention.scaling}
    if kind != "phi3":
        out.update(attention_bias=attention.q_proj.bias is not None, o_bias=attention.o_proj.bias is not None,
                   mlp_bias=mlp.up_proj.bias is not None)
    if kind == "smollm3":
        out["unrotated"] = [i for i, l in enumerate(model.model.layers) if not l.self_attn.use_rope]
    if gelu and kind != "gemma":
        out.update(attention_cap=config.attn_logit_softcapping or 0, final_cap=config.final_logit_softcapping or 0)
        need(config.final_logit_softcapping is None or config.final_logit_softcapping > 0, "a cap of 0")
        need(config.attn_logit_softcapping is None or config.attn_logit_softcapping > 0, "a cap of 0")
    if kind == "gemma3_text":
        out["frequencies"], out["sliding_frequencies"] = rotary_by_layer(model)
    else:
        out["frequencies"], out["rope_length"] = rotary(model)
    return out


def of_gated(model):
    layer = model.model.layers[0]
    attention, mlp = layer.self_attn, layer.mlp
    windows = [getattr(l.self_attn, "sliding_window", None) for l in model.model.layers]
    if model.config.model_type == "mistral":
        windows = [model.config.sliding_window] * len(windows)
    need(0 not in windows, "a window of 0")
    windows = [w or 0 for w in windows]
    return {"hidden_size": attention.q_proj.in_features, "intermediate_size": mlp.up_proj.out_features,
            **attention_sizes(attention.q_proj.out_features, attention.k_proj.out_features, attention.head_dim),
            "norm_eps": layer.input_layernorm.variance_epsilon, "activation": activation(mlp.act_fn, True),
            "attention_bias": attention.q_proj.bias is not None, "o_bias": attention.o_proj.bias is not None,
            "mlp_bias": mlp.up_proj.bias is not None, "sliding_window": max(windows, default=0),
            "windows": [i for i, w in enumerate(windows) if w], "frequencies": rotary(model)[0]}


def of_phi(model):
    layer = model.model.layers[0]
    attention = layer.self_attn
    need(not attention.qk_layernorm, "qk_layernorm")
    return {"hidden_size": attention.q_proj.in_features, "intermediate_size": layer.mlp.fc1.out_features,
            **attention_sizes(attention.q_proj.out_features, attention.k_proj.out_features, attention.head_dim),
            "norm_eps": layer.input_layernorm.eps, "activation": activation(layer.mlp.activation_fn, False),
            "sliding_window": 0, "frequencies": rotary(model)[0]}


def of_opt(model):
    decoder, layer = model.model.decoder, model.model.decoder.layers[0]
    need(decoder.project_in is None and decoder.final_layer_norm is not None and layer.do_layer_norm_before and
         layer.self_attn_layer_norm.elementwise_affine, "OPT-350M")
    rows = layer.self_attn.q_proj.out_features
    return {"hidden_size": rows, "intermediate_size": layer.fc1.out_features,
            **attention_sizes(rows, rows, layer.self_attn.head_dim), "norm_eps": layer.self_attn_layer_norm.eps,
            "activation": activation(layer.activation_fn, False), "sliding_window": 0,
            "attention_bias": layer.self_attn.q_proj.bias is not None}


def of_gpt2(model):
    block = model.transformer.h[0]
    attention = block.attn
    need(attention.scale_attn_weights and not attention.scale_attn_by_inverse_layer_idx and
         not attention.reorder_and_upcast_attn and not hasattr(block, "crossattention"), "attention")
    rows = attention.c_attn.weight.shape[1] // 3
    return {"hidden_size": rows, "intermediate_size": block.mlp.c_fc.nf, **attention_sizes(rows, rows, attention.head_dim),
            "norm_eps": block.ln_1.eps, "activation": activation(block.mlp.act, False), "sliding_window": 0}


def initial_deviation(model, config):
    """Of the embedding, by the rule that the model's class applies."""
    torch.manual_seed(0)
    module = torch.nn.Embedding(300, 300)
    model._init_weights(module)
    return float("%.1g" % module.weight.std().item())


MORE = ("smollm3", "phi3", "gemma", "gemma2", "gemma3_text", "olmo2")


def of_model(model):
    config = model.config
    out = {"gpt2": of_gpt2, "opt": of_opt, "phi": of_phi, **dict.fromkeys(MORE, of_more)}.get(config.model_type, of_gated)(model)
    need(out["intermediate_size"] > 0 and out["hidden_size"] > 0, "sizes")
    dtype = str(config.dtype or torch.float32).removeprefix("torch.")
    need(dtype in ("float32", "bfloat16", "float16"), "dtype")
    need(config.max_position_embeddings > 0, "no positions")
    generation = model.generation_config
    if os.path.exists(os.path.join(config.name_or_path, "generation_config.json")):
        generation = type(generation).from_pretrained(config.name_or_path)
    eos = generation.eos_token_id
    out.update(vocab_size=model.get_input_embeddings().num_embeddings, num_hidden_layers=config.num_hidden_layers,
               max_position_embeddings=config.max_position_embeddings,
               untied=not config.tie_word_embeddings, dtype=dtype,
               deviation=initial_deviation(model, config),
               bos_token_id=generation.bos_token_id,
               eos_token_id=[] if eos is None else eos if isinstance(eos, list) else [eos],
               padding_row=model.get_input_embeddings().padding_idx)
    if config.model_type == "gpt2":
        need(model.transformer.wpe.num_embeddings == out["max_position_embeddings"], "positions")
    return out


def runs(config):
    """A small model makes finite logits, of tokens that no case has as padding: a row of zeros has no RMS without an epsilon."""
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager").eval()
    with torch.no_grad():
        logits = model(torch.tensor([[4, 6, 7]]), use_cache=False).logits
    if not torch.isfinite(logits).all():
        raise ValueError("not finite")


def read_whole(tree):
    """Not where transformers ignores what whoever wrote it meant: flat refuses that by name."""
    if tree["model_type"] == "gemma3_text":
        need(not {*(tree.get("rope_parameters") or {})} - {"full_attention", "sliding_attention"}, "positions that are ignored")
        scaling = tree.get("rope_scaling") or {}
        need("type" not in scaling or "rope_type" in scaling, "a scaling that is ignored")


def outcome(tree, generation, folder):
    """What the model of a config.json computes with, or why there is none."""
    with open(os.path.join(folder, "config.json"), "w") as file:
        json.dump(tree, file)
    path = os.path.join(folder, "generation_config.json")
    if os.path.exists(path):
        os.remove(path)
    if generation is not None:
        with open(path, "w") as file:
            json.dump(generation, file)
    try:
        config = AutoConfig.from_pretrained(folder)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
        out = of_model(model)
        if sum(p.numel() for p in model.parameters()) < 10_000_000:
            runs(config)
        read_whole(tree)
        return out, None
    except Unsupported as reason:
        return None, "unsupported: %s" % reason
    except Exception as problem:  # whatever transformers raises is its refusal
        return None, "error: %s" % type(problem).__name__


def changes(family):
    keys = KEYS[family]
    for key, values in keys.items():
        yield {key: ABSENT}
        for value in (None, 0.0 if key in FLOATS else 0, *values):
            yield {key: value}
    if family in ROTARY:
        yield from ROPE
    if family in ("qwen2", "qwen3"):
        for more in ({}, {"sliding_window": 16}, {"sliding_window": None}, {"sliding_window": 0}, {"max_window_layers": 2},
                     {"layer_types": ["full_attention"] * 2}, {"layer_types": ["sliding_attention"] * 2},
                     {"layer_types": ["sliding_attention"]}, {"layer_types": ["other", "full_attention"]},
                     {"layer_types": ["full_attention", "sliding_attention"], "sliding_window": None}):
            yield {"use_sliding_window": True, "max_window_layers": 1, **more}
    if family == "phi3":
        yield from LONG_ROPE
    if family == "gemma3_text":
        yield from LAYER_ROPE
    if family == "gemma2":
        yield {"rope_parameters": {"full_attention": PLAIN, "sliding_attention": PLAIN}}
    own = {*keys, *(key for change in ROPE for key in change if family in ROTARY)}
    for key, value in FOREIGN.items():
        if key not in own:
            yield {key: value}
    if family == "gpt2":
        for name, older in (("n_embd", "hidden_size"), ("n_layer", "num_hidden_layers"), ("n_head", "num_attention_heads"),
                            ("n_positions", "max_position_embeddings"), ("n_positions", "n_ctx")):
            yield {name: ABSENT, older: KEYS["gpt2"][name][0]}
            yield {name: KEYS["gpt2"][name][0], older: 32 if "pos" in older or "ctx" in older else 1}
            yield {name: KEYS["gpt2"][name][0], older: None}


GENERATION = [{}, *({key: value} for key in ("bos_token_id", "eos_token_id") for value in (None, 0, 5, 80)),
              {"eos_token_id": [5, 6]}, {"eos_token_id": []}, {"bos_token_id": 5, "eos_token_id": 6}]


def lines(family):
    with tempfile.TemporaryDirectory() as folder:
        base = {"model_type": family, **BASES[family]}
        normal, problem = outcome(base, None, folder)
        assert normal, problem
        yield {"family": family, "base": base, "expect": normal}
        seen = set()
        every = [*((change, None) for change in changes(family)),
                 *((change, generation) for generation in GENERATION for change in ({}, {"eos_token_id": 3}))]
        for change, generation in every:
            drop = [k for k, v in change.items() if v is ABSENT]
            put = {k: v for k, v in change.items() if v is not ABSENT}
            tree = {**{k: v for k, v in base.items() if k not in drop}, **put}
            text = json.dumps([tree, generation])
            if text in seen:
                continue
            seen.add(text)
            expect, problem = outcome(tree, generation, folder)
            line = {**({"drop": drop} if drop else {}), **({"set": put} if put else {}),
                    **({} if generation is None else {"generation": generation})}
            if problem:
                yield {**line, "refuse": problem}
            else:
                yield {**line, "expect": {k: v for k, v in expect.items() if v != normal[k]}}


def main(families):
    """All families anew, or some, whose lines replace those that are there."""
    kept, family = {}, None
    if families:
        with open(TARGET) as file:
            for line in file:
                family = json.loads(line).get("family", family)
                kept.setdefault(family, []).append(line)
    text = "".join("".join(kept[f]) if families and f not in families else
                   "".join(json.dumps(line) + "\n" for line in lines(f)) for f in BASES if not families or f in kept or f in families)
    with open(TARGET, "w") as file:
        file.write(text)


if __name__ == "__main__":
    main(sys.argv[1:])
