"""Expected ids for tests/unit/test_tokenizer.c, made by Hugging Face's `tokenizers` (pip install -r requirements.txt) and, where a
class of transformers has a say in how a folder is read, by AutoTokenizer (pip install transformers==5.24.0 sentencepiece protobuf).

    python tests/parity/make_tokenizer_golden.py [--shared DIR] [--fixtures]

Writes tests/golden/tokenizer/expected/*: per tokenizer `<name>.json` with the ids and decoded texts of the readable
cases (cases.json), the count and hash of the long ones, and `<name>.txt` with one hash a generated string (its ids and
both decodings) and then one a random id list (its decodings). With --fixtures it also trains the small tokenizers
under tests/golden/tokenizer/ on corpus.txt anew. The real vocabularies are read from DIR (../shared/data) and not
copied. `next_string` here and in the C test must stay the same.
"""
import argparse
import json
import os
import struct

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = os.path.dirname(os.path.abspath(__file__))
GOLDEN = os.path.join(HERE, "..", "golden", "tokenizer")
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
TEKKEN = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
          r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
          r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
MARK = "\u2581"
REAL_STRINGS, SMALL_STRINGS, ID_LISTS = 10000, 1500, 300
MASK = (1 << 64) - 1


# ---- generated strings: the same in tests/unit/test_tokenizer.c ----

class Random:
    """splitmix64"""

    def __init__(self, seed):
        self.state = seed

    def next(self, n):
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return (z ^ (z >> 31)) % n


# First code point and number of blocks whose assignment is old and complete.
BLOCKS = [(0x0, 0x80), (0x80, 0x180), (0x300, 0x70), (0x391, 0x11), (0x400, 0x100), (0x5D0, 0x1B), (0x620, 0x40),
          (0x905, 0x35), (0xE01, 0x3A), (0x1100, 0x100), (0x1E00, 0x100), (0x2000, 0x65), (0x2150, 0x3C),
          (0x2460, 0xA0), (0x3000, 0x40), (0x3041, 0x56), (0x4E00, 0x5000), (0xAC00, 0x2BA4), (0xF900, 0x16E),
          (0xFF01, 0x5E), (0x10400, 0x50), (0x1D400, 0x55), (0x1F600, 0x50), (0x20000, 0x100)]


def next_string(random, fragments):
    out = []
    for _ in range(1 + random.next(12)):
        kind = random.next(8)
        if kind < 6:
            out.append(fragments[random.next(len(fragments))])
        elif kind == 6:
            first, size = BLOCKS[random.next(len(BLOCKS))]
            out.append(chr(first + random.next(size)))
        else:
            out.append(chr(random.next(128)) * (1 + random.next(4)))
    return "".join(out)


def fnv1a(data, value=0x811C9DC5):
    for byte in data:
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value


def hash_ids(ids):
    return fnv1a(b"".join(struct.pack("<I", i) for i in ids))


# ---- the real tokenizers, from their raw files ----

def gpt2_pipeline(tokenizer):
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


def qwen2_pipeline(tokenizer):
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(QWEN2), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


def special(text):
    return AddedToken(text, normalized=False, special=True)


def from_files(folder, pipeline, tokens):
    tokenizer = Tokenizer(models.BPE.from_file(os.path.join(folder, "vocab.json"), os.path.join(folder, "merges.txt")))
    pipeline(tokenizer).add_tokens([special(t) for t in tokens])
    return tokenizer


def llama_pipeline(tokenizer, legacy=True):
    if legacy:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(MARK), normalizers.Replace(" ", MARK)])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(MARK, prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence([decoders.Replace(MARK, " "), decoders.ByteFallback(), decoders.Fuse(),
                                           decoders.Strip(" ", 1, 0)])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B",
                                                             special_tokens=[("<s>", 1)])
    return tokenizer


def from_transformers(folder):
    """The backend of what AutoTokenizer makes of a folder's files."""
    from transformers import AutoTokenizer
    return AutoTokenizer.from_pretrained(folder).backend_tokenizer


# ---- small tokenizers of our own ----

def corpus():
    with open(os.path.join(GOLDEN, "corpus.txt"), encoding="utf-8") as stream:
        return stream.read().splitlines(keepends=True)


def save(name, tokenizer, edit=None):
    folder = os.path.join(GOLDEN, name)
    os.makedirs(folder, exist_ok=True)
    data = json.loads(tokenizer.to_str())
    if edit:
        edit(data)
    with open(os.path.join(folder, "tokenizer.json"), "w", encoding="utf-8") as stream:
        json.dump(data, stream, ensure_ascii=False, separators=(",", ":"))
        stream.write("\n")


def old_merges(data):
    data["model"]["merges"] = [" ".join(pair) for pair in data["model"]["merges"]]


def train(tokenizer, size, tokens=()):
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=list(tokens), show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
                                  if isinstance(tokenizer.decoder, decoders.ByteLevel) else [])
    tokenizer.train_from_iterator(corpus(), trainer)
    return tokenizer


def llama_model(size, byte_tokens=range(256), **options):
    """A Llama-2 kind vocabulary: <unk>, <s>, </s>, bytes, merges, characters."""
    base = Tokenizer(models.BPE())
    base.normalizer = normalizers.Replace(" ", MARK)
    base.pre_tokenizer = pre_tokenizers.Split(Regex(MARK + "+[^" + MARK + "]*"), behavior="isolated")
    trained = json.loads(train(base, size).to_str())["model"]
    # Characters that the trainer saw stay in; drop those that only byte fallback should reach.
    kept = [t for t in trained["vocab"] if len(t) > 1 or ord(t) < 0x600 or t == MARK]
    kept = [t for t in kept if all(ord(c) < 0x600 or c == MARK for c in t)]
    names = ["<unk>", "<s>", "</s>"] + ["<0x%02X>" % b for b in byte_tokens] + kept
    vocab = {t: i for i, t in enumerate(names)}
    merges = [(a, b) for a, b in trained["merges"] if a in vocab and b in vocab and a + b in vocab]
    return models.BPE(vocab, merges, **{"unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True, **options})


def proto(number, value):
    def number_bytes(n):
        out = bytearray()
        while n >= 0x80:
            out.append(n & 0x7F | 0x80)
            n >>= 7
        return bytes(out + bytes([n]))
    if isinstance(value, int):
        return number_bytes(number << 3) + number_bytes(value)
    if isinstance(value, float):
        return number_bytes(number << 3 | 5) + struct.pack("<f", value)
    return number_bytes(number << 3 | 2) + number_bytes(len(value)) + value


def save_sentencepiece(name, model, config):
    folder = os.path.join(GOLDEN, name)
    os.makedirs(folder, exist_ok=True)
    out = b""
    for i, piece in enumerate(sorted(model["vocab"], key=model["vocab"].get)):
        kind = 2 if i == 0 else 3 if i < 3 else 6 if i < 259 else 1
        score = 0.0 if kind != 1 else -1e9 if set(piece) == {MARK} else float(259 - i)
        out += proto(1, proto(1, piece.encode()) + proto(2, score) + (proto(3, kind) if kind != 1 else b""))
    out += proto(2, proto(3, 2) + proto(35, 1)) + proto(3, proto(1, b"identity") + proto(3, 1))
    with open(os.path.join(folder, "tokenizer.model"), "wb") as stream:
        stream.write(out)
    with open(os.path.join(folder, "tokenizer_config.json"), "w", encoding="utf-8") as stream:
        json.dump(config, stream)
        stream.write("\n")


def odd_tokenizers():
    """Every flag and component that the known families leave out."""
    odd = Tokenizer(llama_model(330, byte_tokens=range(0, 200), fuse_unk=True))
    odd.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace("ab", "b"),
                                           normalizers.Replace(" ", MARK)])
    odd.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(r"\d+"), behavior="contiguous"),
        pre_tokenizers.Split(",", behavior="merged_with_previous"),
        pre_tokenizers.Split("-", behavior="merged_with_next"),
        pre_tokenizers.Split("|", behavior="removed"),
        pre_tokenizers.Split(Regex(r"[^aeiou]"), behavior="contiguous", invert=True),
        pre_tokenizers.Digits(individual_digits=False),
        pre_tokenizers.Metaspace(MARK, prepend_scheme="always", split=True)])
    odd.decoder = decoders.Sequence([decoders.Metaspace(MARK, prepend_scheme="first"), decoders.Strip("e", 1, 0),
                                     decoders.Replace("th", "TH")])
    odd.add_tokens([AddedToken("ship", single_word=True), AddedToken("<left>", lstrip=True, normalized=False),
                    AddedToken("<right>", rstrip=True, normalized=False, special=True),
                    AddedToken("<both>", lstrip=True, rstrip=True, normalized=True),
                    AddedToken("cabin", normalized=True, special=True), AddedToken("<le", normalized=False),
                    AddedToken("keeper", single_word=True, normalized=False), AddedToken("  ", normalized=False),
                    AddedToken("é", normalized=True), AddedToken("the sea", normalized=True)])
    odd.post_processor = processors.Sequence([
        processors.TemplateProcessing(single="<right> <s> $A </s>", special_tokens=[
            ("<s>", 1), ("</s>", 2), ("<right>", odd.token_to_id("<right>"))]),
        processors.ByteLevel()])
    save("odd", odd)
    loose = Tokenizer(llama_model(300, byte_tokens=range(0), fuse_unk=False, byte_fallback=False))
    loose.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(r"^The|\n$|(?<=a)n(?=d)|[\S&]{3,4}\d"),
                             behavior="merged_with_previous"),
        pre_tokenizers.Split(" ", behavior="merged_with_next", invert=True),
        pre_tokenizers.Metaspace(MARK, prepend_scheme="first", split=False)])
    loose.decoder = decoders.Metaspace(MARK, prepend_scheme="always")
    save("loose", loose)  # unknown characters one by one
    empty = Tokenizer(llama_model(300))
    empty.pre_tokenizer = pre_tokenizers.Split(Regex(r"h*|(?<=a)"), behavior="merged_with_next")
    save("empty_match", empty)
    bare = Tokenizer(models.BPE({c: i for i, c in enumerate("abcdefghijklmnopqrstuvwxyz \u00e9")}, []))
    save("bare", bare)    # unknown characters dropped, no decoder
    prefix = train(gpt2_pipeline(Tokenizer(models.BPE())), 300)
    prefix.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(TEKKEN), behavior="removed", invert=True),
        pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=True)])
    save("prefix", prefix)


def make_fixtures():
    model = llama_model(600)
    llama2 = llama_pipeline(Tokenizer(model))
    llama2.add_tokens([special(t) for t in ("<unk>", "<s>", "</s>")])
    save("llama2", llama2, old_merges)
    meta = llama_pipeline(Tokenizer(model), legacy=False)
    meta.add_tokens([special(t) for t in ("<unk>", "<s>", "</s>", "[INST]", "[/INST]")] + [AddedToken("lighthouse")])
    save("metaspace", meta)
    save_sentencepiece("sentencepiece", json.loads(llama2.to_str())["model"],
                       {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "add_eos_token": False,
                        "bos_token": {"__type": "AddedToken", "content": "<s>", "lstrip": False, "normalized": False, "rstrip": False,
                                      "single_word": False}, "eos_token": "</s>", "legacy": True})

    gpt2 = train(gpt2_pipeline(Tokenizer(models.BPE())), 500, [special("<|endoftext|>")])
    folder = os.path.join(GOLDEN, "gpt2_files")
    os.makedirs(folder, exist_ok=True)
    gpt2.model.save(folder)
    gpt2.add_tokens([AddedToken(" " * n, normalized=True) for n in (31, 8, 4, 3, 2)] +
                    [AddedToken("\t" * n, normalized=True) for n in (4, 2)])
    save("gpt2", gpt2, old_merges)
    qwen2 = train(qwen2_pipeline(Tokenizer(models.BPE())), 500)
    qwen2.add_tokens([special(t) for t in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")] +
                     [AddedToken("caf\u00e9", normalized=True), AddedToken("你好")])
    save("qwen2", qwen2)
    llama3 = qwen2_pipeline(Tokenizer(models.BPE()))
    llama3.normalizer = None
    llama3.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(LLAMA3), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    train(llama3, 500)
    trained = json.loads(llama3.to_str())["model"]
    vocab = dict(trained["vocab"])
    for word in ("\u0120forgotten", "Lighthouse", "\u0120Vi\u00e1\u00bb\u0129t", "1847"):
        vocab.setdefault(word, len(vocab))  # reachable through ignore_merges only
    llama3.model = models.BPE(vocab, [tuple(m) for m in trained["merges"]], ignore_merges=True)
    llama3.add_tokens([special(t) for t in ("<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>")])
    llama3.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=True),
        processors.TemplateProcessing(single="<|begin_of_text|> $A",
                                      special_tokens=[("<|begin_of_text|>", llama3.token_to_id("<|begin_of_text|>"))])])
    save("llama3", llama3)
    smollm2 = gpt2_pipeline(Tokenizer(models.BPE()))
    smollm2.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                                     pre_tokenizers.ByteLevel(add_prefix_space=False)])
    smollm2.post_processor = None
    save("smollm2", train(smollm2, 500, [special("<|endoftext|>"), special("<|im_start|>")]))
    odd_tokenizers()


# ---- expected ids ----

def write_expected(name, tokenizer, cases, strings):
    entries = []
    for case in cases["cases"]:
        ids = tokenizer.encode(case).ids
        entries.append([ids, tokenizer.decode(ids, skip_special_tokens=False), tokenizer.decode(ids)])
    longs = []
    for part, count in cases["long"]:
        ids = tokenizer.encode(part * count).ids
        longs.append([len(ids), hash_ids(ids)])
    folder = os.path.join(GOLDEN, "expected")
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name + ".json"), "w", encoding="utf-8") as stream:
        stream.write('{"cases": [\n')
        stream.write(",\n".join(json.dumps(e, ensure_ascii=False, separators=(",", ":")) for e in entries))
        stream.write('\n], "long": ' + json.dumps(longs) + "}\n")
    random = Random(2024)
    with open(os.path.join(folder, name + ".txt"), "w", encoding="ascii") as stream:
        for _ in range(strings):
            ids = tokenizer.encode(next_string(random, cases["fragments"])).ids
            decoded = "".join(tokenizer.decode(ids, skip_special_tokens=s) for s in (False, True))
            stream.write("%08x\n" % fnv1a(decoded.encode(), hash_ids(ids)))
        size = max(tokenizer.get_vocab().values()) + 1
        for _ in range(ID_LISTS):
            ids = [random.next(size) for _ in range(1 + random.next(20))]
            decoded = "".join(tokenizer.decode(ids, skip_special_tokens=s) for s in (False, True))
            stream.write("%08x\n" % fnv1a(decoded.encode(), hash_ids(ids)))
    print(name, len(entries), "cases,", strings, "strings")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--shared", default=os.path.join(HERE, "..", "..", "..", "shared", "data"))
    parser.add_argument("--fixtures", action="store_true")
    options = parser.parse_args()
    if options.fixtures:
        make_fixtures()
    with open(os.path.join(GOLDEN, "cases.json"), encoding="utf-8") as stream:
        cases = json.load(stream)
    for name in ("llama2", "metaspace", "llama3", "gpt2", "qwen2", "smollm2", "odd", "loose", "empty_match", "bare",
                 "prefix"):
        write_expected(name, Tokenizer.from_file(os.path.join(GOLDEN, name, "tokenizer.json")), cases, SMALL_STRINGS)
    write_expected("sentencepiece", from_transformers(os.path.join(GOLDEN, "sentencepiece")), cases, SMALL_STRINGS)
    write_expected("gpt2_files", from_files(os.path.join(GOLDEN, "gpt2_files"), gpt2_pipeline, ["<|endoftext|>"]),
                   cases, SMALL_STRINGS)
    real = os.path.join(options.shared, "tokenizers")
    if not os.path.isdir(real):
        print("no real vocabularies under", real)
        return
    write_expected("real_gpt2", from_files(os.path.join(real, "gpt2"), gpt2_pipeline, ["<|endoftext|>"]), cases,
                   REAL_STRINGS)
    write_expected("real_qwen2", from_files(os.path.join(real, "qwen2"), qwen2_pipeline,
                                            ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]), cases, REAL_STRINGS)
    write_expected("real_mistral", from_transformers(os.path.join(real, "mistral")), cases, REAL_STRINGS)
    write_expected("real_stories260k", from_transformers(os.path.join(options.shared, "stories260k")), cases,
                   REAL_STRINGS)


if __name__ == "__main__":
    main()
