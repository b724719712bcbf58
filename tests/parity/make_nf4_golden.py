#!/usr/bin/env python3
"""LoRA on a base in NF4 by transformers, PEFT and bitsandbytes, on the CPU: tests/golden/nf4.

    python tests/parity/make_nf4_golden.py [--check]    needs what make_model_golden.py does, and bitsandbytes

Writes a tiny Llama, an adapter on all of its projections, and of that in expected/ what make_model_golden.py writes, in double and
of one divergence: log-probabilities, FLAT's loss, and the whole gradient of the adapter. The base is read with load_in_4bit
(bnb_4bit_quant_type nf4, scales not quantized); its figures are computed in double from the weights that bitsandbytes'
dequantize_4bit makes of it. "float32" is how far PEFT's own pass over bitsandbytes' layers, in float, is from these figures, "bf16"
how far transformers with these weights in bf16.
tests/unit/test_nf4_peft.c holds --load_in_4bit against them. bitsandbytes 0.50.2 made the committed files.
"""
import json
import os
import shutil
import sys
import tempfile

import bitsandbytes
import numpy
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig

import make_model_golden as golden
import reference

FOLDER = os.path.join(golden.GOLDEN, "nf4")
BASE = LlamaConfig(vocab_size=67, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
                   num_key_value_heads=2, max_position_embeddings=48, rms_norm_eps=1e-5)
LORA = {"r": 2, "lora_alpha": 3, "target_modules": "all-linear"}
DIVERGENCE, AVERAGE = "total_variation", "pair"


def folders_make(work):
    base, adapter = os.path.join(work, "llama"), os.path.join(work, "llama_lora")
    model = AutoModelForCausalLM.from_config(BASE).to(golden.BF16)
    golden.weights_fill(model, golden.BF16, numpy.random.RandomState(4))
    model.save_pretrained(base)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(task_type="CAUSAL_LM", **LORA))
    model.peft_config["default"].base_model_name_or_path = "llama"
    random = numpy.random.RandomState(5)
    for parameter in golden.trained(model).values():  # B is not zero, as it would be in a new adapter
        values = 0.25 * random.standard_normal(tuple(parameter.shape)) / numpy.sqrt(parameter.shape[1])
        parameter.data = torch.from_numpy(values).to(golden.F32)
    model.save_pretrained(adapter, save_embedding_layers=False)
    os.remove(os.path.join(adapter, "README.md"))


def load_4bit(base, adapter):
    """PEFT's model on bitsandbytes' layers, in float; and the weights that these layers stand for, by name. It trains: in inference
    bitsandbytes packs the layers for products that a CPU has in bf16."""
    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=False,
                                bnb_4bit_compute_dtype=torch.float32)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="eager", quantization_config=config,
                                                 device_map="cpu")
    weights = {name + ".weight": bitsandbytes.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
               for name, layer in model.named_modules() if isinstance(layer, bitsandbytes.nn.Linear4bit)}
    assert len(weights) == 7 * BASE.num_hidden_layers and "lm_head.weight" not in weights
    return PeftModel.from_pretrained(model, adapter, is_trainable=True).train(), weights


def load_plain(base, adapter, weights):
    """The same in double and in float, with ordinary layers of these weights."""
    models = []
    for model in reference.load(base):
        with torch.no_grad():
            for name, weight in weights.items():
                model.get_parameter(name).copy_(weight)
        models.append(PeftModel.from_pretrained(model, adapter, is_trainable=True).eval())
    return models[0].double(), models[1]


def step(model, pairs):
    """(answers' log-probabilities, loss, size of its terms, gradients) of one batch."""
    model.zero_grad()
    answers = [golden.probabilities(model, pairs, kind) for kind in golden.KINDS]
    loss, size = golden.flat_loss(*answers, DIVERGENCE, AVERAGE)
    loss.backward()
    return answers, loss.item(), size, {name: parameter.grad.double() for name, parameter in golden.trained(model).items()}


def expected_compute(base, adapter):
    quantized, weights = load_4bit(base, adapter)
    double, plain = load_plain(base, adapter, weights)
    with reference.double_arithmetic():
        with torch.no_grad():
            pairs = golden.pairs_make(double, numpy.random.RandomState(6), golden.LENGTHS)
        answers, loss, size, gradients = step(double, pairs)
    float_answers, float_loss, _, float_gradients = step(quantized, pairs)
    off = {"logprob": max((a - b).abs().max().item() for mine, theirs in zip(float_answers, answers) for a, b in zip(mine, theirs)),
           "loss": abs(float_loss - loss) / size,
           "gradient": max(((float_gradients[name] - g).norm() / g.norm()).item() for name, g in gradients.items())}
    assert max(off.values()) < 2e-5, off
    for kind, values in zip(golden.KINDS, answers):
        for pair, mine in zip(pairs, values):
            pair[kind + "_logprobs"] = [golden.rounded(v.item()) for v in mine]
    expected = {"base": "../nf4/llama", "load_in_4bit": True, "pairs": pairs, "tensors": list(gradients),
                "flat": [{"divergence": DIVERGENCE, "average": AVERAGE, "loss": loss, "terms": size,
                          "grad_norms": [golden.rounded(g.norm()) for g in gradients.values()]}],
                "bf16": golden.bf16_errors(plain, pairs, gradients), "float32": {key: float("%.3g" % value) for key, value in off.items()}}
    return expected, {name: gradient.to(torch.float32) for name, gradient in gradients.items()}


def check():
    base, adapter = os.path.join(FOLDER, "llama"), os.path.join(FOLDER, "llama_lora")
    expected, gradients = expected_compute(base, adapter)
    with open(os.path.join(adapter, "expected", "expected.json"), encoding="ascii") as stream:
        committed = json.load(stream)
    stored = load_file(os.path.join(adapter, "expected", "gradients.safetensors"))
    wrong = abs(committed["flat"][0]["loss"] - expected["flat"][0]["loss"]) > 1e-11 or committed["tensors"] != expected["tensors"] or \
        any(((stored[name] - g).norm() / g.norm()).item() > 1e-6 for name, g in gradients.items())
    print("nf4: loss %.9f, as committed: %s" % (expected["flat"][0]["loss"], "no" if wrong else "yes"))
    return wrong


def main():
    if sys.argv[1:] == ["--check"]:
        sys.exit(check())
    with tempfile.TemporaryDirectory() as work:
        folders_make(work)
        adapter = os.path.join(work, "llama_lora")
        expected, gradients = expected_compute(os.path.join(work, "llama"), adapter)
        golden.expected_write(adapter, expected, gradients)
        shutil.rmtree(FOLDER, ignore_errors=True)
        shutil.copytree(work, FOLDER, copy_function=shutil.copyfile)
    print("loss %.9f, float32 off by %s" % (expected["flat"][0]["loss"], expected["float32"]))


if __name__ == "__main__":
    main()
