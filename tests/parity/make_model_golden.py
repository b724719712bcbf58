"""Tiny checkpoints and LoRA adapters of every family, and what transformers, PEFT and torch compute with them:
tests/golden/models/ and tests/golden/adapters/.

    python tests/parity/make_model_golden.py            makes everything anew (pip install -r requirements-models.txt)
    python tests/parity/make_model_golden.py --check    computes the committed folders' figures and compares

A folder is a checkpoint or an adapter as save_pretrained writes it (random weights that the storage type holds exactly,
odd sizes) with, in expected/, the figures in double (reference.py):

    expected.json          token ids of pairs (prompt, template answer, forget answer) with the log-probability of every
                           answer token; FLAT's loss, the size of its two terms and the norm of every tensor's gradient
                           by divergence and average; one AdamW step: the norm of every tensor's change and its product
                           with signs(), over the elements of compared(); greedy continuations with the margin of every
                           step; how far transformers itself is off in bf16. What is given a tensor is in the order of
                           "tensors". Of an adapter also its "base"
    gradients.safetensors  the whole gradient of total_variation, pair

tests/parity/test_parity.c holds the program against them. Names are those of the model's state dict, whatever the names in
the file, and those of PEFT's file. `signs` and `compared` here and in the test must stay the same.
"""
import argparse
import copy
import json
import os
import shutil
import sys
import tempfile

import numpy
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (AutoModelForCausalLM, Gemma2Config, Gemma3TextConfig, GemmaConfig, GPT2Config, LlamaConfig,
                          MistralConfig, Olmo2Config, OPTConfig, Phi3Config, PhiConfig, Qwen2Config, Qwen3Config,
                          SmolLM3Config)

import reference

HERE = os.path.dirname(os.path.abspath(__file__))
GOLDEN = os.path.join(HERE, "..", "golden")
PADDED_LENGTH = 500
ADAMW = {"learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.01, "max_grad_norm": 1.0}
# of pairs: prompt, template answer, forget answer
LENGTHS = {"pairs": ((5, 3, 6), (1, 4, 2), (9, 5, 7), (33, 1, 8)), "prompts": (1, 4, 17), "new_tokens": 12}
# of models whose windows are far shorter: several windows and several tiles of a kernel, and a cache that is written over
LONG_LENGTHS = {"pairs": ((150, 3, 9), (61, 40, 4), (2, 3, 90)), "prompts": (2, 40, 120), "new_tokens": 60}
KINDS = ("template", "forget")
MARGIN = 1e-2  # between the two largest logits of every greedy step: float arithmetic must not flip them

# -g(e) + f(g(f)): g and the conjugate f of each divergence, as the paper's table gives them.
LN2 = float(numpy.log(2))
DIVERGENCES = {
    "total_variation": (lambda v: torch.tanh(v) / 2, lambda u: u),
    "jensen_shannon": (lambda v: LN2 - torch.log1p(torch.exp(-v)), lambda u: -torch.log(2 - torch.exp(u))),
    "pearson": (lambda v: v, lambda u: u * u / 4 + u),
    "kl": (lambda v: v, lambda u: torch.exp(u - 1)),
}


# ---- the checkpoints ----

def rename(folder, change):
    """Other names in the file, as old files have them."""
    path = os.path.join(folder, "model.safetensors")
    tensors = change(load_file(path))
    save_file(tensors, path, metadata={"format": "pt"})


def gpt2_hub(tensors):
    """No prefix, and the mask buffers that the hub's GPT-2 carries."""
    out = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    positions = out["wpe.weight"].shape[0]
    out["h.0.attn.bias"] = torch.tril(torch.ones(positions, positions)).view(1, 1, positions, positions)
    out["h.0.attn.masked_bias"] = torch.tensor(-1e4)
    return out


def opt_hub(tensors):
    return {name.removeprefix("model."): tensor for name, tensor in tensors.items()}


LLAMA3_SCALING = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                  "original_max_position_embeddings": 32}
BF16, F16, F32 = torch.bfloat16, torch.float16, torch.float32

# name: (config, storage, save_pretrained's options, change of the file's tensors)
MODELS = {
    "llama_tied": (LlamaConfig(vocab_size=61, hidden_size=40, intermediate_size=52, num_hidden_layers=2,
                               num_attention_heads=5, num_key_value_heads=1, max_position_embeddings=48,
                               rms_norm_eps=1e-5, tie_word_embeddings=True), BF16, {}, None),
    "llama3": (LlamaConfig(vocab_size=67, hidden_size=24, intermediate_size=36, num_hidden_layers=2,
                           num_attention_heads=2, num_key_value_heads=1, head_dim=80, max_position_embeddings=48,
                           rms_norm_eps=1e-5, rope_theta=500000.0, rope_scaling=LLAMA3_SCALING, attention_bias=True,
                           mlp_bias=True), BF16, {}, None),
    "mistral": (MistralConfig(vocab_size=70, hidden_size=40, intermediate_size=44, num_hidden_layers=2,
                              num_attention_heads=4, num_key_value_heads=2, head_dim=16, max_position_embeddings=48,
                              rope_theta=1e6, sliding_window=None), BF16, {"max_shard_size": "20KB"}, None),
    "qwen2": (Qwen2Config(vocab_size=69, hidden_size=48, intermediate_size=36, num_hidden_layers=2,
                          num_attention_heads=6, num_key_value_heads=2, max_position_embeddings=48, rope_theta=1e6,
                          rope_scaling={"rope_type": "linear", "factor": 2.0}, tie_word_embeddings=True, bos_token_id=1,
                          eos_token_id=2),
              BF16, {}, None),
    # every query but the first few has more keys before it than its window
    "mistral_window": (MistralConfig(vocab_size=66, hidden_size=24, intermediate_size=28, num_hidden_layers=2,
                                     num_attention_heads=3, num_key_value_heads=1, max_position_embeddings=48,
                                     sliding_window=7), BF16, {}, None),
    "qwen2_window": (Qwen2Config(vocab_size=68, hidden_size=24, intermediate_size=28, num_hidden_layers=2,
                                 num_attention_heads=3, num_key_value_heads=1, max_position_embeddings=48,
                                 use_sliding_window=True, sliding_window=9, max_window_layers=1, tie_word_embeddings=True,
                                 bos_token_id=1, eos_token_id=2), BF16, {}, None),
    "qwen3": (Qwen3Config(vocab_size=61, hidden_size=24, intermediate_size=28, num_hidden_layers=2, num_attention_heads=3,
                          num_key_value_heads=1, head_dim=16, max_position_embeddings=48, rope_theta=1e6,
                          tie_word_embeddings=True, bos_token_id=1, eos_token_id=2), BF16, {}, None),
    "smollm3": (SmolLM3Config(vocab_size=62, hidden_size=24, intermediate_size=28, num_hidden_layers=2,
                              num_attention_heads=3, num_key_value_heads=1, max_position_embeddings=48,
                              no_rope_layer_interval=2, bos_token_id=1, eos_token_id=2, pad_token_id=2), BF16, {}, None),
    "gemma": (GemmaConfig(vocab_size=60, hidden_size=24, intermediate_size=28, num_hidden_layers=2, num_attention_heads=2,
                          num_key_value_heads=1, head_dim=40, max_position_embeddings=48), BF16, {}, None),
    # scores and logits that the caps bend, windows in the first layer alone, scores by another number than head_dim
    "gemma2": (Gemma2Config(vocab_size=58, hidden_size=24, intermediate_size=28, num_hidden_layers=2, num_attention_heads=2,
                            num_key_value_heads=1, head_dim=16, max_position_embeddings=48, sliding_window=7,
                            query_pre_attn_scalar=20, attn_logit_softcapping=4.0, final_logit_softcapping=6.0), BF16, {}, None),
    # caps that most scores and many logits reach
    "gemma2_saturated": (Gemma2Config(vocab_size=57, hidden_size=24, intermediate_size=28, num_hidden_layers=2,
                                      num_attention_heads=2, num_key_value_heads=2, head_dim=16, max_position_embeddings=48,
                                      sliding_window=48, query_pre_attn_scalar=1, attn_logit_softcapping=1.0,
                                      final_logit_softcapping=1.5), BF16, {}, None),
    # positions of their own in the layers with windows, stretched ones in the others
    "gemma3_text": (Gemma3TextConfig(vocab_size=59, hidden_size=24, intermediate_size=28, num_hidden_layers=3,
                                     num_attention_heads=2, num_key_value_heads=1, head_dim=16, max_position_embeddings=48,
                                     sliding_window=6, layer_types=["sliding_attention", "full_attention",
                                                                    "sliding_attention"],
                                     query_pre_attn_scalar=24,
                                     rope_parameters={"full_attention": {"rope_type": "linear", "factor": 4.0,
                                                                         "rope_theta": 1e6},
                                                      "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}),
                    BF16, {}, None),
    "olmo2": (Olmo2Config(vocab_size=56, hidden_size=32, intermediate_size=28, num_hidden_layers=2, num_attention_heads=4,
                          num_key_value_heads=2, max_position_embeddings=48, rope_theta=5e5, rms_norm_eps=1e-6,
                          bos_token_id=None, eos_token_id=2, pad_token_id=1), BF16, {}, None),
    # windows in sequences several times as long: all layers, the upper ones, every other one under caps, all but one
    "mistral_long": (MistralConfig(vocab_size=46, hidden_size=24, intermediate_size=20, num_hidden_layers=2,
                                   num_attention_heads=3, num_key_value_heads=1, max_position_embeddings=200,
                                   sliding_window=37), BF16, {}, None),
    "qwen2_long": (Qwen2Config(vocab_size=47, hidden_size=24, intermediate_size=20, num_hidden_layers=2,
                               num_attention_heads=3, num_key_value_heads=3, max_position_embeddings=200,
                               use_sliding_window=True, sliding_window=41, max_window_layers=1, tie_word_embeddings=True,
                               bos_token_id=1, eos_token_id=2), BF16, {}, None),
    "phi3_long": (Phi3Config(vocab_size=48, hidden_size=32, intermediate_size=20, num_hidden_layers=2, num_attention_heads=2,
                             num_key_value_heads=1, max_position_embeddings=200, original_max_position_embeddings=200,
                             sliding_window=23, bos_token_id=1, eos_token_id=2, pad_token_id=2), BF16, {}, None),
    "gemma2_long": (Gemma2Config(vocab_size=49, hidden_size=24, intermediate_size=20, num_hidden_layers=2,
                                 num_attention_heads=2, num_key_value_heads=1, head_dim=16, max_position_embeddings=200,
                                 sliding_window=33, query_pre_attn_scalar=20, attn_logit_softcapping=4.0,
                                 final_logit_softcapping=6.0), BF16, {}, None),
    "gemma3_text_long": (Gemma3TextConfig(vocab_size=51, hidden_size=24, intermediate_size=20, num_hidden_layers=3,
                                          num_attention_heads=2, num_key_value_heads=1, head_dim=16,
                                          max_position_embeddings=200, sliding_window=16,
                                          layer_types=["sliding_attention", "sliding_attention", "full_attention"],
                                          query_pre_attn_scalar=16), BF16, {}, None),
    # the shapes of models that need no family of their own
    "deepseek_r1_distill_qwen": (Qwen2Config(vocab_size=55, hidden_size=32, intermediate_size=36, num_hidden_layers=1,
                                             num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=48,
                                             rope_theta=1e4, sliding_window=4096, max_window_layers=21,
                                             use_sliding_window=False, use_mrope=False, tie_word_embeddings=False,
                                             bos_token_id=1, eos_token_id=2), BF16, {}, None),
    "deepseek_r1_distill_llama": (LlamaConfig(vocab_size=54, hidden_size=32, intermediate_size=36, num_hidden_layers=1,
                                              num_attention_heads=4, num_key_value_heads=1, max_position_embeddings=64,
                                              rms_norm_eps=1e-5, rope_theta=5e5, rope_scaling=LLAMA3_SCALING, bos_token_id=1,
                                              eos_token_id=2), BF16, {}, None),
    "llama3_3": (LlamaConfig(vocab_size=53, hidden_size=64, intermediate_size=36, num_hidden_layers=1,
                             num_attention_heads=8, num_key_value_heads=1, head_dim=8, max_position_embeddings=64,
                             rms_norm_eps=1e-5, rope_theta=5e5, rope_scaling=LLAMA3_SCALING, bos_token_id=1,
                             eos_token_id=[2, 3]), BF16, {}, None),
    "mistral_nemo": (MistralConfig(vocab_size=52, hidden_size=40, intermediate_size=36, num_hidden_layers=1,
                                   num_attention_heads=4, num_key_value_heads=1, head_dim=8, max_position_embeddings=64,
                                   rms_norm_eps=1e-5, rope_theta=1e6, sliding_window=None, bos_token_id=1, eos_token_id=2),
                     BF16, {}, None),
    "phi4": (Phi3Config(vocab_size=50, hidden_size=64, intermediate_size=36, num_hidden_layers=1, num_attention_heads=8,
                        num_key_value_heads=2, max_position_embeddings=64, original_max_position_embeddings=64,
                        rope_theta=250000.0, rope_scaling=None, sliding_window=None, bos_token_id=1, eos_token_id=1,
                        pad_token_id=2), BF16, {}, None),
    "phi3": (Phi3Config(vocab_size=63, hidden_size=32, intermediate_size=28, num_hidden_layers=2, num_attention_heads=2,
                        num_key_value_heads=1, max_position_embeddings=160, original_max_position_embeddings=40,
                        partial_rotary_factor=0.75, bos_token_id=1, eos_token_id=2, pad_token_id=2,
                        rope_scaling={"type": "longrope", "short_factor": [1.0, 1.05, 1.2, 1.5, 2.0, 2.25],
                                      "long_factor": [1.0, 1.5, 3.0, 5.0, 9.0, 14.0]}), BF16, {}, None),
    "phi": (PhiConfig(vocab_size=75, hidden_size=48, intermediate_size=44, num_hidden_layers=2, num_attention_heads=3,
                      max_position_embeddings=48, partial_rotary_factor=0.5), BF16, {}, None),
    "opt": (OPTConfig(vocab_size=63, hidden_size=48, word_embed_proj_dim=48, ffn_dim=52, num_hidden_layers=2,
                      num_attention_heads=3, max_position_embeddings=46, do_layer_norm_before=True), BF16, {}, None),
    "opt_hub": (OPTConfig(vocab_size=51, hidden_size=80, word_embed_proj_dim=80, ffn_dim=20, num_hidden_layers=1,
                          num_attention_heads=1, max_position_embeddings=46), F16, {}, opt_hub),
    "gpt2": (GPT2Config(vocab_size=65, n_embd=40, n_inner=72, n_layer=2, n_head=5, n_positions=46, bos_token_id=0,
                        eos_token_id=0), BF16, {}, None),
    "gpt2_hub": (GPT2Config(vocab_size=59, n_embd=32, n_layer=1, n_head=2, n_positions=46, bos_token_id=0,
                            eos_token_id=0), F32, {}, gpt2_hub),
}

# name: (base, LoraConfig's arguments); GPT-2's projections are Conv1D, which is what fan_in_fan_out says
ADAPTERS = {
    "llama3_lora": ("llama3", {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}),
    "mistral_lora": ("mistral", {"r": 2, "lora_alpha": 7, "target_modules": ["o_proj", "gate_proj", "up_proj",
                                                                              "down_proj"]}),
    "qwen2_lora": ("qwen2", {"r": 3, "lora_alpha": 5, "use_rslora": True, "target_modules": "all-linear"}),
    "qwen3_lora": ("qwen3", {"r": 3, "lora_alpha": 6, "target_modules": "all-linear"}),
    "phi3_lora": ("phi3", {"r": 2, "lora_alpha": 6, "target_modules": ["qkv_proj", "gate_up_proj"]}),
    "gemma2_lora": ("gemma2", {"r": 2, "lora_alpha": 5, "target_modules": "all-linear"}),
    "olmo2_lora": ("olmo2", {"r": 3, "lora_alpha": 4, "target_modules": ["q_proj", "o_proj", "up_proj", "down_proj"]}),
    "phi_lora": ("phi", {"r": 5, "lora_alpha": 16, "target_modules": "all-linear"}),
    "opt_lora": ("opt", {"r": 4, "lora_alpha": 4, "target_modules": ["k_proj", "out_proj", "fc1", "fc2"]}),
    "gpt2_lora": ("gpt2", {"r": 2, "lora_alpha": 3, "use_rslora": True, "fan_in_fan_out": True,
                           "target_modules": ["c_attn", "c_proj", "c_fc"]}),
}


def lengths_of(name):
    return LONG_LENGTHS if name.endswith("_long") else LENGTHS


def folder_of(name):
    return os.path.join(GOLDEN, "adapters" if name in ADAPTERS else "models", name)


def weights_fill(model, storage, random):
    """Values at which nothing is degenerate: logits that differ by a few, norms away from 1, biases away from 0."""
    embedding = model.get_input_embeddings().weight
    transposed = model.config.model_type == "gpt2"
    for name, parameter in model.named_parameters():
        if parameter is embedding or "embed_positions" in name or "wpe" in name:
            scale = 0.35
        elif parameter.ndim == 2:
            scale = (2.5 if "lm_head" in name else 1.4) / numpy.sqrt(parameter.shape[0 if transposed else 1])
        else:
            scale = 0.2
        values = scale * random.standard_normal(tuple(parameter.shape))
        if parameter.ndim == 1 and name.endswith("weight") and not model.config.model_type.startswith("gemma"):
            values += 1
        parameter.data = torch.from_numpy(values).to(storage)


def checkpoint_make(name, folder):
    config, storage, options, change = MODELS[name]
    model = AutoModelForCausalLM.from_config(config).to(storage)
    weights_fill(model, storage, numpy.random.RandomState(sum(name.encode())))
    model.tie_weights()
    model.save_pretrained(folder, **options)
    if change:
        rename(folder, change)


def adapter_make(name, folder):
    """B is not zero, as it would be in a new adapter."""
    base, options = ADAPTERS[name]
    model = AutoModelForCausalLM.from_pretrained(folder_of(base))
    model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **options))
    model.peft_config["default"].base_model_name_or_path = base
    random = numpy.random.RandomState(sum(name.encode()))
    for parameter in trained(model).values():
        values = 0.25 * random.standard_normal(tuple(parameter.shape)) / numpy.sqrt(parameter.shape[1])
        parameter.data = torch.from_numpy(values).to(F32)
    model.save_pretrained(folder, save_embedding_layers=False)
    os.remove(os.path.join(folder, "README.md"))


def load(name, folder):
    if name in ADAPTERS:
        return reference.load_adapter(folder_of(ADAPTERS[name][0]), folder)
    return reference.load(folder)


# ---- what is expected of them ----

def trained(model):
    """Parameters by the names of their files."""
    return {name.replace(".default.", "."): parameter for name, parameter in model.named_parameters()
            if parameter.requires_grad}


def pairs_make(model, random, lengths):
    """Prompts with two answers; the third pair's answers begin alike, one answer is a single id. Some
    ids of an answer are the model's own choice, so that answers have a probability worth the name."""
    def ids(count):
        return [int(i) for i in random.randint(3, model.config.vocab_size, count)]  # below 3: OPT's padding, eos

    def answer(prompt, count, share):
        out = []
        for drawn in ids(count):
            own = int(reference.row_logprobs(model, prompt + out)[-1].argmax())
            out.append(own if random.rand() < share and own > 2 else drawn)
        return out

    pairs = []
    for prompt_length, template_length, forget_length in lengths["pairs"]:
        prompt = ids(prompt_length)
        pairs.append({"prompt": prompt, "template": answer(prompt, template_length, 0.3),
                      "forget": answer(prompt, forget_length, 0.7)})
    pairs[2]["forget"][:2] = pairs[2]["template"][:2]
    return pairs


def probabilities(model, pairs, kind):
    """Log-probabilities of the answers of one kind, a tensor a pair."""
    out = []
    for pair in pairs:
        ids = pair["prompt"] + pair[kind]
        rows = torch.arange(len(pair["prompt"]) - 1, len(ids) - 1)
        out.append(reference.row_logprobs(model, ids[:-1])[rows, torch.tensor(pair[kind])])
    return out


def flat_loss(template, forget, divergence, average):
    """The loss, and how large the terms are that it is the difference of."""
    g, conjugate = DIVERGENCES[divergence]
    if average == "pair":
        units = [(e.exp().mean(), f.exp().mean()) for e, f in zip(template, forget)]
    else:
        size = len(template) * (PADDED_LENGTH - 1)
        units = [(torch.cat(template).exp().sum() / size, torch.cat(forget).exp().sum() / size)]
    terms = [(-g(e), conjugate(g(f))) for e, f in units]
    return sum(a + b for a, b in terms) / len(units), sum(abs(a) + abs(b) for a, b in terms).item() / len(units)


def signs(count):
    """+1 or -1 for every element: the top bit of splitmix64's finaliser of its index."""
    with numpy.errstate(over="ignore"):
        z = numpy.arange(1, count + 1, dtype=numpy.uint64) * numpy.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
        z ^= z >> numpy.uint64(31)
    return torch.from_numpy(numpy.where(z >> numpy.uint64(63), -1.0, 1.0))


def compared(gradient):
    """Which elements of a change are compared: AdamW's first step is near the sign of the gradient, and the sign of one
    that nearly vanishes is rounding."""
    gradient = gradient.to(torch.float32).to(torch.float64).flatten()
    return (gradient.abs() >= 1e-3 * gradient.abs().max()) | (gradient == 0)


def adamw_step(model, gradients):
    """Clipping and one step, no decay on vectors. The norm and the signed sum of every tensor's change, the norm of all
    first and of all second moments."""
    named = trained(model)
    before = {name: parameter.detach().clone() for name, parameter in named.items()}
    for name, parameter in named.items():
        parameter.grad = gradients[name].clone()
    torch.nn.utils.clip_grad_norm_(named.values(), ADAMW["max_grad_norm"])
    groups = [{"params": [p for p in named.values() if (p.ndim == 2) == matrices],
               "weight_decay": ADAMW["weight_decay"] if matrices else 0.0} for matrices in (True, False)]
    optimizer = torch.optim.AdamW(groups, lr=ADAMW["learning_rate"], betas=(ADAMW["beta1"], ADAMW["beta2"]),
                                  eps=ADAMW["eps"])
    optimizer.step()
    change = [(parameter.detach() - before[name]).flatten() * compared(gradients[name])
              for name, parameter in named.items()]
    moments = [torch.cat([state[key].flatten() for state in optimizer.state.values()]).norm()
               for key in ("exp_avg", "exp_avg_sq")]
    return {**ADAMW, "moment_norms": [rounded(m) for m in moments],
            "update": [[rounded(c.norm()), rounded(c @ signs(c.numel()))] for c in change]}


def greedy(model, prompt, count):
    """The continuation and by how much each step leads over the next best."""
    ids, margins = list(prompt), []
    for _ in range(count):
        best = reference.row_logprobs(model, ids)[-1].topk(2)
        margins.append(float("%.3g" % (best.values[0] - best.values[1])))
        ids.append(int(best.indices[0]))
    return {"prompt": prompt, "ids": ids[len(prompt):], "margins": margins}


def prompts_make(model, random, lengths):
    prompts = []
    while len(prompts) < 3:
        prompt = [int(i) for i in random.randint(3, model.config.vocab_size, lengths["prompts"][len(prompts)])]
        if min(greedy(model, prompt, lengths["new_tokens"])["margins"]) >= MARGIN:
            prompts.append(prompt)
    return prompts


def rounded(value):
    return float("%.11g" % value)


def norms(tensors):
    return {name: rounded(tensor.norm()) for name, tensor in tensors.items()}


def inputs_make(model, name):
    """Pairs and prompts for greedy continuation."""
    random = numpy.random.RandomState(1000 + sum(name.encode()))
    with reference.double_arithmetic(), torch.no_grad():
        return pairs_make(model, random, lengths_of(name)), prompts_make(model, random, lengths_of(name))


def bf16_errors(plain, pairs, gradients):
    """How far transformers in bf16 is from the figures: the largest difference of a log-probability, and of a tensor's
    gradient (total_variation, pair) relative to its norm, but for those that are zero in exact arithmetic."""
    model = copy.deepcopy(plain).to(BF16)
    model.zero_grad()
    answers = [[values.float() for values in probabilities(model, pairs, kind)] for kind in KINDS]
    flat_loss(*answers, "total_variation", "pair")[0].backward()
    logprob = max((values - torch.tensor(pair[kind + "_logprobs"])).abs().max().item()
                  for kind, list_ in zip(KINDS, answers) for pair, values in zip(pairs, list_))
    whole = sum(g.norm() ** 2 for g in gradients.values()) ** 0.5
    errors = [(parameter.grad.double() - gradients[name]).norm() / gradients[name].norm()
              for name, parameter in trained(model).items() if gradients[name].norm() >= 1e-9 * whole]
    return {"logprob": float("%.3g" % logprob), "gradient": float("%.3g" % max(errors))}


def expected_compute(model, plain, pairs, prompts, new_tokens):
    """(contents of expected.json, gradients of total_variation, pair)."""
    flat, kept, pairs = [], None, [dict(pair) for pair in pairs]
    with reference.double_arithmetic():
        for divergence in DIVERGENCES:
            for average in ("pair", "batch"):
                model.zero_grad()
                answers = [probabilities(model, pairs, kind) for kind in KINDS]
                loss, size = flat_loss(*answers, divergence, average)
                loss.backward()
                gradients = {name: parameter.grad.clone() for name, parameter in trained(model).items()}
                kept = kept or gradients
                flat.append({"divergence": divergence, "average": average, "loss": loss.item(),
                             "terms": size, "grad_norms": [rounded(g.norm()) for g in gradients.values()]})
        with torch.no_grad():
            generation = [greedy(model, prompt, new_tokens) for prompt in prompts]
    with torch.no_grad():
        for kind, values in zip(KINDS, answers):
            for pair, mine, users in zip(pairs, values, probabilities(plain, pairs, kind)):
                assert (mine - users).abs().max() < 1e-4, "the double model is not the user's"
                pair[kind + "_logprobs"] = [rounded(v) for v in mine]
    expected = {"pairs": pairs, "tensors": list(kept), "flat_padded_length": PADDED_LENGTH, "flat": flat,
                "adamw": adamw_step(model, kept), "bf16": bf16_errors(plain, pairs, kept), "generation": generation}
    return expected, {name: gradient.to(torch.float32) for name, gradient in kept.items()}


# ---- files ----

def expected_write(folder, expected, gradients):
    os.makedirs(os.path.join(folder, "expected"))
    save_file(gradients, os.path.join(folder, "expected", "gradients.safetensors"), metadata={"format": "pt"})
    with open(os.path.join(folder, "expected", "expected.json"), "w", encoding="ascii") as stream:
        lines = []
        for key, value in expected.items():
            if isinstance(value, list) and key != "tensors":
                text = "[\n  " + ",\n  ".join(json.dumps(item) for item in value) + "]"
            else:
                text = json.dumps(value)
            lines.append(' "%s": %s' % (key, text))
        stream.write("{\n" + ",\n".join(lines) + "\n}\n")


def make(names):
    for name in names:
        with tempfile.TemporaryDirectory() as work:
            folder = os.path.join(work, name)
            (adapter_make if name in ADAPTERS else checkpoint_make)(name, folder)
            model, plain = load(name, folder)
            expected, gradients = expected_compute(model, plain, *inputs_make(model, name), lengths_of(name)["new_tokens"])
            if name in ADAPTERS:
                expected = {"base": ADAPTERS[name][0], **expected}
            expected_write(folder, expected, gradients)
            target = folder_of(name)
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(folder, target, copy_function=shutil.copyfile)
        total = sum(os.path.getsize(os.path.join(d, f)) for d, _, files in os.walk(target) for f in files)
        first = expected["flat"][0]
        print("%-12s %7d bytes, loss %.6f, gradient norm %.3f" %
              (name, total, first["loss"], sum(n * n for n in first["grad_norms"]) ** 0.5))


def largest_difference(a, b):
    """Of two JSON values: absolute below 1, relative above; infinite when they differ in kind."""
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return max(largest_difference(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return max(map(largest_difference, a, b))
    if isinstance(a, float) and isinstance(b, float):
        return abs(a - b) / max(1, abs(a))
    return 0 if a == b else float("inf")


def check(names):
    failed = False
    for name in names:
        folder = folder_of(name)
        with open(os.path.join(folder, "expected", "expected.json"), encoding="ascii") as stream:
            old = json.load(stream)
        old.pop("base", None)
        expected, gradients = expected_compute(*load(name, folder), old["pairs"],
                                               [item["prompt"] for item in old["generation"]],
                                               lengths_of(name)["new_tokens"])
        expected["bf16"] = old["bf16"]  # another torch rounds otherwise
        difference = largest_difference(old, json.loads(json.dumps(expected)))
        committed = load_file(os.path.join(folder, "expected", "gradients.safetensors"))
        gradient = max(((committed[n] - g).norm() / max(g.norm(), 1e-9)).item() for n, g in gradients.items())
        fine = difference < 1e-9 and gradient < 1e-6 and committed.keys() == gradients.keys()
        failed |= not fine
        print("%-12s %s: figures differ by %.2g, gradients by %.2g" % (name, "equal" if fine else "DIFFERS", difference,
                                                                     gradient))
    return 1 if failed else 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true")
    parser.add_argument("names", nargs="*", metavar="NAME")
    options = parser.parse_args()
    torch.set_num_threads(1)
    names = options.names or list(MODELS) + list(ADAPTERS)
    return check(names) if options.check else make(names)


if __name__ == "__main__":
    sys.exit(main())
