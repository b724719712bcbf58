"""Expected ids for tests/unit/test_example.c, made by transformers 5.24.0 from the tokenizers of tests/golden/tokenizer.

    python tests/parity/make_example_golden.py [--templates ../shared/data/chat_templates]

Writes tests/golden/examples.json. Of texts: encode(prompt + answer), an end of sequence where none ends it, and where the
answer begins: after encode(prompt) without an end of sequence that the tokenizer appends. Of chat templates: what
apply_chat_template makes of prompt and conversation, up to what ends the answer's turn. Of running text: the pieces of
MUSE (each a beginning of sequence and max_length - 1 ids, the last filled up from the first).
"""
import argparse
import json
import os

from transformers import PreTrainedTokenizerFast

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "..", "..")
GOLDEN = os.path.join(ROOT, "tests", "golden")
APPENDS = {"type": "TemplateProcessing",
           "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                      {"SpecialToken": {"id": "</s>", "type_id": 0}}],
           "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
           "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]},
                              "</s>": {"id": "</s>", "ids": [2], "tokens": ["</s>"]}}}


def load(name, config, post_processor=None):
    with open(os.path.join(GOLDEN, "tokenizer", name, "tokenizer.json")) as file:
        tree = json.load(file)
    if post_processor:
        tree["post_processor"] = post_processor
    path = os.path.join(GOLDEN, "tokenizer.tmp.json")
    with open(path, "w") as file:
        json.dump(tree, file)
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=path, **config)
    os.remove(path)
    return tokenizer


def text_case(tokenizer, prompt, answer):
    """prompt: what is before the answer's first character that is a target."""
    ids, begin = tokenizer(prompt + answer)["input_ids"], tokenizer(prompt)["input_ids"]
    if len(begin) and tokenizer("x")["input_ids"][-1] == tokenizer.eos_token_id:
        begin = begin[:-1]
    merged = ids[:len(begin)] != begin
    if ids[-1] != tokenizer.eos_token_id:
        ids = ids + [tokenizer.eos_token_id]
    return {"ids": ids, "answer_begin": max(len(begin), 1), "merged": merged}


def chat_case(tokenizer, template, messages, stop, **kwargs):
    render = lambda turns, generation, tokenize: tokenizer.apply_chat_template(
        turns, chat_template=template, add_generation_prompt=generation, tokenize=tokenize, return_dict=False, **kwargs)
    prompt, text = render(messages[:-1], True, False), render(messages, False, False)
    assert text.startswith(prompt)
    end = text.index(stop, len(prompt)) + len(stop) if stop else len(text)
    ids = tokenizer(text[:end], add_special_tokens=False)["input_ids"]
    assert ids == render(messages, False, True)[:len(ids)]  # what follows the stop token does not change what is before it
    begin = render(messages[:-1], True, True)
    if not stop:
        ids = ids + [tokenizer.eos_token_id]
    return {"ids": ids, "answer_begin": len(begin), "merged": ids[:len(begin)] != begin}


def muse_pieces(tokenizer, text, max_length):
    tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
    step = max_length - 1
    pieces = [[tokenizer.bos_token_id] + tokens[i:i + step] for i in range(0, len(tokens), step)]
    if len(pieces[-1]) < max_length:
        pieces[-1] = (pieces[-1] + pieces[0])[:max_length]
    return pieces


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--templates", default=os.path.join(ROOT, "..", "shared", "data", "chat_templates"))
    arguments = parser.parse_args()
    llama = {"bos_token": "<s>", "eos_token": "</s>"}
    qwen = {"eos_token": "<|im_end|>"}
    llama3 = {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}
    template = lambda name: open(os.path.join(arguments.templates, name + ".jinja")).read()
    question, answer = "Where does the cat sleep?", "On the old mat."
    cases = []

    def add(folder, config, prompt_template, row, expected, **more):
        cases.append({"tokenizer": folder, "config": config, "prompt_template": prompt_template, "row": row, **more, **expected})

    plain = load("llama2", llama)
    appends = load("llama2", llama, APPENDS)
    for tokenizer, more in ((plain, {}), (appends, {"post_processor": APPENDS})):
        add("llama2", llama, "qa", {"question": question, "answer": answer},
            text_case(tokenizer, f"Question: {question}\nAnswer:", " " + answer), **more)
        add("llama2", llama, "phi", {"question": question, "answer": answer},
            text_case(tokenizer, f"Question: {question}\n", "Answer: " + answer), **more)
        add("llama2", llama, "qa", {"prompt": "The cat sat on  \n", "answer": answer},
            text_case(tokenizer, "The cat sat on", "  \n" + answer), **more)
    add("llama2", llama, "plain", {"question": question, "answer": answer}, text_case(plain, question, " " + answer))
    add("llama2", llama, "llama2_chat", {"question": question, "answer": answer},
        text_case(plain, f"[INST] {question} [/INST]", answer))
    add("llama2", llama, "qa", {"prompt": "The old ca", "answer": "t and the mat"}, text_case(plain, "The old ca", "t and the mat"))
    add("llama2", llama, "qa", {"prompt": "", "answer": answer}, text_case(plain, "", answer))
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    system = [{"role": "system", "content": "Be brief."}]
    add("llama2", llama, "llama2", {"question": question, "answer": answer},
        chat_case(plain, template("llama-2-7b-chat"), turns, "</s>"))
    add("llama2", llama, "llama2", {"messages": system + turns}, chat_case(plain, template("llama-2-7b-chat"), system + turns, "</s>"))
    add("llama2", llama, "mistral", {"messages": turns + turns},
        chat_case(plain, template("mistral-7b-instruct-v0.3"), turns + turns, "</s>"))
    add("llama2", llama, "solar", {"messages": turns}, chat_case(plain, template("solar-10.7b-instruct"), turns, ""))
    add("llama2", llama, "zephyr", {"messages": turns}, chat_case(plain, template("zephyr-7b-beta"), turns, "</s>"))
    chatml = load("qwen2", qwen)
    add("qwen2", qwen, "chatml", {"messages": turns}, chat_case(chatml, template("chatml-base"), turns, "<|im_end|>"))
    add("qwen2", qwen, "qwen2.5", {"question": question, "answer": answer},
        chat_case(chatml, template("qwen2.5-0.5b-instruct"), turns, "<|im_end|>"))
    add("qwen2", qwen, "qwen3", {"messages": system + turns + turns},
        chat_case(chatml, template("qwen3-0.6b"), system + turns + turns, "<|im_end|>"))
    add("qwen2", qwen, "qwen3", {"question": question, "answer": answer},
        chat_case(chatml, template("qwen3-0.6b"), turns, "<|im_end|>", enable_thinking=False), thinking="off")
    three = load("llama3", llama3)
    add("llama3", llama3, "llama3", {"messages": turns}, chat_case(three, template("llama-3-instruct"), turns, "<|eot_id|>"))
    add("llama3", llama3, "llama3.1", {"question": question, "answer": answer},
        chat_case(three, template("llama-3.1-8b-instruct"), turns, "<|eot_id|>"))
    with open(os.path.join(GOLDEN, "tokenizer", "corpus.txt")) as file:
        corpus = file.read()
    pieces = muse_pieces(plain, corpus, 50)
    golden = {"cases": cases, "pieces": {"max_length": 50, "count": len(pieces), "targets": sum(len(p) - 1 for p in pieces),
                                         "first": pieces[0], "last": pieces[-1]}}
    with open(os.path.join(GOLDEN, "examples.json"), "w") as file:
        file.write("{\"cases\": [\n" + ",\n".join(json.dumps(case) for case in cases) + "],\n\"pieces\": " +
                   json.dumps(golden["pieces"]) + "}\n")


if __name__ == "__main__":
    main()
