"""Tokenizer folders of every combination of small files, and the ids that AutoTokenizer gives for them.

    python tests/parity/make_tokenizer_cases.py [--fixtures] [--count N --seed TEXT --out FILE]
                                                     pip install transformers==5.24.0 sentencepiece protobuf

Writes tests/golden/tokenizer_cases.jsonl: first the texts, then a folder a line: "base", a folder of tests/golden/tokenizer
whose vocabulary files it has, without the parts of tokenizer.json that "without" names; "config", "special" and "added", its
tokenizer_config.json, special_tokens_map.json and added_tokens.json; "model", its config.json; and a hash (fnv1a) of
the "ids" of each text and of all "texts" that they are decoded to, or "refuse", what AutoTokenizer
raises, or "unsupported": a class with a form of vocabulary that flat does not read for it. With --fixtures it also writes
the bases that transformers makes itself. tests/unit/test_tokenizer_cases.c reads the file.
"""
import argparse
import json
import os
import random
import shutil
import struct
import tempfile

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="critical")

from transformers import AutoTokenizer  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
GOLDEN = os.path.join(HERE, "..", "golden", "tokenizer")
TARGET = os.path.join(HERE, "..", "golden", "tokenizer_cases.jsonl")
TEXTS = ["Hello world", " the lighthouse  keeper", "ships a.b the sea  ship", "aXb", "12345 sea 7", "<s>hi</s> there", "a <s> b </s>", "x<new>y <new> z",
         " <new2>  <|im_end|> a", "\u2581the \u2581", "trailing  ", "we've 'RE \u00bd e\u0301 \u00e9", "\n\n  ship",
         "a<|endoftext|>b <pad> the", "the theory ofthe", "[INST] keeper [/INST]", " ", "ships\u2581ship <unk>"]
BY_LINES = ["gpt2", "llama2", "llama3", "metaspace", "qwen2", "smollm2", "saved_5", "saved_5_llama", "odd"]
BY_FILES = ["gpt2_files", "opt_files", "phi_files"]
PIECES = ["sentencepiece", "pieces", "pieces_bare"]
CLASSES = ["LlamaTokenizer", "LlamaTokenizerFast", "PreTrainedTokenizerFast", "TokenizersBackend", "GPT2Tokenizer",
           "GPT2TokenizerFast", "Qwen2Tokenizer", "CodeGenTokenizer", "CodeGenTokenizerFast", "NoSuchTokenizer"]
NO_PIECES = ["GPT2Tokenizer", "CodeGenTokenizer", "Qwen2Tokenizer"]
NATURAL = {"gpt2": ["GPT2Tokenizer"], "llama2": ["LlamaTokenizer", "LlamaTokenizerFast"],
           "llama3": ["PreTrainedTokenizerFast"], "metaspace": ["LlamaTokenizer", "LlamaTokenizerFast"],
           "qwen2": ["Qwen2Tokenizer"], "smollm2": ["GPT2Tokenizer"], "saved_5": ["TokenizersBackend"],
           "saved_5_llama": ["LlamaTokenizer"], "odd": ["PreTrainedTokenizerFast"], "gpt2_files": ["GPT2Tokenizer"],
           "opt_files": ["GPT2Tokenizer"], "phi_files": ["CodeGenTokenizer"],
           "sentencepiece": ["LlamaTokenizer"], "pieces": ["LlamaTokenizer"], "pieces_bare": ["LlamaTokenizer"]}
MODELS = {"gpt2": "gpt2", "llama3": "llama", "qwen2": "qwen2", "smollm2": "llama", "gpt2_files": "gpt2", "opt_files": "opt",
          "phi_files": "phi"}
NAMED = ["bos_token", "eos_token", "unk_token", "pad_token"]
WORDS = ["<s>", "</s>", "<|endoftext|>", "<unk>", "<pad>", "<new>", "<new2>", "<|im_end|>", "the", "<|begin_of_text|>"]


def fnv1a(data, value=0x811C9DC5):
    for byte in data:
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value


def token(rng, text, typed=True):
    """An AddedToken as the files spell it."""
    out = {"content": text, "lstrip": rng.random() < 0.3, "normalized": rng.random() < 0.3, "rstrip": rng.random() < 0.3,
           "single_word": rng.random() < 0.2}
    return {"__type": "AddedToken", **out} if typed else out


def named(rng, typed):
    text = rng.choice(WORDS)
    return rng.choice([text, text, token(rng, text, typed), None])


def decoder(rng, tokens):
    """added_tokens_decoder: the file's own tokens, some of them with other flags, and new ones."""
    out = {}
    for item in tokens:
        if rng.random() < 0.8:
            flags = {k: v for k, v in item.items() if k != "id"}
            for flag in ("lstrip", "rstrip", "normalized", "special", "single_word"):
                if rng.random() < 0.15:
                    flags[flag] = not flags[flag]
            out[str(item["id"])] = flags
    following = max([item["id"] for item in tokens] + [499]) + 1 + rng.choice([0, 0, 0, 7])
    for i, text in enumerate(rng.sample(WORDS[5:9], rng.randrange(4))):
        out[str(following + i)] = {**token(rng, text, False), "special": rng.random() < 0.5}
    return out


def case(rng, base, tokens):
    out = {"base": base}
    if rng.random() < 0.9:
        config = {}
        kind = rng.random()
        if kind < 0.55:
            config["tokenizer_class"] = rng.choice(NATURAL[base])
        elif kind < 0.85:
            config["tokenizer_class"] = rng.choice(CLASSES)
        for key in ("add_bos_token", "add_eos_token", "add_prefix_space", "legacy"):
            if rng.random() < 0.35:
                config[key] = rng.choice([True, False])
        for key in NAMED:
            if rng.random() < 0.3:
                config[key] = named(rng, True)
        if rng.random() < 0.12:
            config[rng.choice(["sep_token", "cls_token", "mask_token", "image_token"])] = rng.choice(WORDS)
        if rng.random() < 0.2:
            texts = rng.sample(WORDS, rng.randrange(1, 4))
            config[rng.choice(["additional_special_tokens", "extra_special_tokens"])] = [
                rng.choice([t, token(rng, t)]) for t in texts]
        elif rng.random() < 0.05:
            config["extra_special_tokens"] = {"audio_token": "<new>"}
        if rng.random() < 0.35:
            config["added_tokens_decoder"] = decoder(rng, tokens)
        out["config"] = config
    if rng.random() < 0.25:
        out["special"] = {key: named(rng, False) or "<s>" for key in NAMED if rng.random() < 0.5}
        if rng.random() < 0.3:
            out["special"]["additional_special_tokens"] = rng.sample(WORDS, 2)
    if rng.random() < 0.25:
        first = max([item["id"] for item in tokens] + [499]) + 1
        out["added"] = {t: first + i for i, t in enumerate(rng.sample(WORDS[5:8], rng.randrange(1, 4)))}
        if tokens and rng.random() < 0.5:
            out["added"][tokens[0]["content"]] = tokens[0]["id"]
    model = rng.random()
    if model < 0.6:
        out["model"] = {"model_type": MODELS.get(base, rng.choice(["llama", "llama", "mistral", "phi3"]))}
    elif model < 0.85:
        out["model"] = {"model_type": rng.choice(["llama", "mistral", "qwen2", "phi", "opt", "gpt2", "phi3", "qwen3", "smollm3"])}
    if "model" in out and rng.random() < 0.05:
        out["model"]["tokenizer_class"] = rng.choice(CLASSES[:-1])
    if base in BY_LINES and rng.random() < 0.25:
        parts = ["post_processor", "post_processor", "normalizer"]
        out["without"] = [rng.choice(parts if base in ("llama3", "odd") else parts + ["added_tokens"])]
    return out


def write(path, tree):
    with open(path, "w", encoding="utf-8") as stream:
        json.dump(tree, stream, ensure_ascii=False)


def folder_make(line, folder):
    source = os.path.join(GOLDEN, line["base"])
    for name in ("tokenizer.json", "vocab.json", "merges.txt", "tokenizer.model"):
        if os.path.exists(os.path.join(source, name)):
            shutil.copy(os.path.join(source, name), folder)
    if "without" in line:
        path = os.path.join(folder, "tokenizer.json")
        tree = json.load(open(path, encoding="utf-8"))
        for part in line["without"]:
            tree[part] = [] if part == "added_tokens" else None
        write(path, tree)
    for key, name in (("config", "tokenizer_config.json"), ("special", "special_tokens_map.json"),
                      ("added", "added_tokens.json"), ("model", "config.json")):
        if key in line:
            write(os.path.join(folder, name), line[key])


def expected(line):
    """The hashes, or what is raised."""
    folder = tempfile.mkdtemp()
    try:
        folder_make(line, folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        out, decoded = [], fnv1a(b"")
        for text in TEXTS:
            ids = tokenizer(text)["input_ids"]
            out.append("%08x" % fnv1a(b"".join(struct.pack("<I", i) for i in ids)))
            decoded = fnv1a(tokenizer.decode(ids, skip_special_tokens=True).encode() if ids else b"", decoded)
        kind = type(tokenizer).__name__
        if line["base"] in BY_FILES and kind == "LlamaTokenizer" or line["base"] in PIECES and kind in NO_PIECES:
            return {"unsupported": kind}
        return {"ids": " ".join(out), "texts": "%08x" % decoded}
    except Exception as problem:
        return {"refuse": type(problem).__name__}
    finally:
        shutil.rmtree(folder)


def pieces_make(name, **normalizer):
    """A SentencePiece model with control and user-defined pieces, and scores that do not follow the ids."""
    from sentencepiece import sentencepiece_model_pb2
    model = sentencepiece_model_pb2.ModelProto()
    with open(os.path.join(GOLDEN, "sentencepiece", "tokenizer.model"), "rb") as stream:
        model.ParseFromString(stream.read())
    del model.pieces[420:]
    for i, piece in enumerate(model.pieces):
        if piece.type == 1:
            piece.score = -((i * 37) % 97)
    for text, kind in (("<pad>", 3), ("ship", 4), ("the sea", 4), ("a.b", 4), ("\u2581keeper", 4), ("zzz", 1)):
        model.pieces.add(piece=text, score=0.0 if kind != 1 else -50.0, type=kind)
    for key, value in normalizer.items():
        setattr(model.normalizer_spec, key, value)
    os.makedirs(os.path.join(GOLDEN, name), exist_ok=True)
    with open(os.path.join(GOLDEN, name, "tokenizer.model"), "wb") as stream:
        stream.write(model.SerializeToString())


def fixtures_make():
    """SentencePiece models, and tokenizer.json as transformers 5 saves it from one, by the two ways that it has."""
    pieces_make("pieces", remove_extra_whitespaces=False)
    pieces_make("pieces_bare", add_dummy_prefix=False)
    for name, model_type, config in (
            ("saved_5", "mistral", {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>",
                                    "unk_token": "<unk>", "add_bos_token": True, "legacy": False}),
            ("saved_5_llama", "llama", {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "legacy": False})):
        folder = tempfile.mkdtemp()
        shutil.copy(os.path.join(GOLDEN, "sentencepiece", "tokenizer.model"), folder)
        write(os.path.join(folder, "tokenizer_config.json"), config)
        write(os.path.join(folder, "config.json"), {"model_type": model_type})
        out = tempfile.mkdtemp()
        AutoTokenizer.from_pretrained(folder).save_pretrained(out)
        os.makedirs(os.path.join(GOLDEN, name), exist_ok=True)
        tree = json.load(open(os.path.join(out, "tokenizer.json"), encoding="utf-8"))
        with open(os.path.join(GOLDEN, name, "tokenizer.json"), "w", encoding="utf-8") as stream:
            json.dump(tree, stream, ensure_ascii=False, separators=(",", ":"))
            stream.write("\n")
        shutil.rmtree(folder)
        shutil.rmtree(out)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--fixtures", action="store_true")
    parser.add_argument("--count", type=int, default=40, help="folders of a base")
    parser.add_argument("--seed", default="", help="other folders than the committed ones")
    parser.add_argument("--out", default=TARGET)
    options = parser.parse_args()
    if options.fixtures:
        fixtures_make()
    with open(options.out, "w", encoding="utf-8") as stream:
        stream.write(json.dumps({"texts": TEXTS}) + "\n")
        for base in BY_LINES + BY_FILES + PIECES:
            rng = random.Random(base + options.seed)
            path = os.path.join(GOLDEN, base, "tokenizer.json")
            tokens = json.load(open(path, encoding="utf-8"))["added_tokens"] if os.path.exists(path) else []
            for _ in range(options.count):
                line = case(rng, base, tokens)
                if base in BY_FILES and "model" not in line and "tokenizer_class" not in line.get("config", {}):
                    continue  # AutoTokenizer does not guess
                stream.write(json.dumps({**line, **expected(line)}, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
