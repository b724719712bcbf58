"""Renderings for tests/unit/test_chat_template.c, made by the apply_chat_template of transformers 5.24.0 (jinja2 3.1.6).

    python tests/parity/make_chat_golden.py [--templates DIR] [--random N] [--out FILE]

Renders conversations of our own with every template of DIR (../shared/data/chat_templates: NAME.jinja, and the special
tokens of each in ../golden/chat_templates.json), one for each fingerprint, and writes tests/golden/chat_templates.json.
The templates' texts are not copied: a template is named by its fingerprint, which is computed here with Jinja's own lexer
and so checks host/io/data/chat_fingerprint.c. With --random the conversations are N random ones instead: compare them by
FLAT_CHAT_GOLDEN=FILE build/tests/test_chat_template.
"""
import argparse
import datetime
import json
import os
import random

import jinja2
from transformers.utils import chat_template_utils

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "..", "..")
NO_TOKENS = "no_tokens"


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2025, 1, 15, 12)


def fingerprint(text):
    """The canonical list of tokens that chat_fingerprint.c describes, and its hash."""
    lexer = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).lexer
    tokens = [t for t in lexer.tokeniter(text, None) if t[1] != "whitespace" and not t[1].startswith("comment")]
    out, data, i = [], "", 0

    def add(kind, value):
        nonlocal data
        if data:
            out.append("D" + data)
            data = ""
        out.append(kind + value)

    while i < len(tokens):
        _, kind, value = tokens[i]
        following = tokens[i + 1][1:] if i + 1 < len(tokens) else ("", "")
        after = tokens[i + 2][2] if i + 2 < len(tokens) else ""
        if kind == "data":
            data += value
        elif kind in ("variable_begin", "block_begin"):
            add("{" if kind == "variable_begin" else "%", "")
        elif kind in ("variable_end", "block_end"):
            add("}", "")
        elif kind == "string":
            value = value[1:-1].replace("\r\n", "\n").replace("\r", "\n")
            add("S", value.encode("ascii", "backslashreplace").decode("unicode-escape"))
        elif value == "." and following[0] == "name":
            if after == "(":
                add("N", "." + following[1])
            else:
                add("O", "[")
                add("S", following[1])
                add("O", "]")
            i += 1
        elif kind == "operator":
            for character in value:
                add("O", character)
        else:
            add("N", value)
        i += 1
    add(".", "")
    hash_ = 0xCBF29CE484222325
    for byte in "".join(token + "\0" for token in out).encode():
        hash_ = (hash_ ^ byte) * 0x100000001B3 & (1 << 64) - 1
    return f"{hash_:016x}"


# ---- conversations ----

def turns(*pairs):
    roles = {"s": "system", "u": "user", "a": "assistant", "c": "critic"}
    return [{"role": roles[role], "content": content} for role, content in pairs]


THOUGHT = "<think>\nOne and one.\n</think>\n\nTwo."
CONVERSATIONS = [
    ("ask", turns(("u", "Who?")), True, {}),
    ("ask_with_system", turns(("s", "Answer shortly."), ("u", "Who?")), True, {}),
    ("answered", turns(("u", "Who?"), ("a", "Ann.")), False, {}),
    ("answered_twice", turns(("s", "Answer."), ("u", "Who?"), ("a", "Ann."), ("u", "1+1?"), ("a", THOUGHT)), False, {}),
    ("spaces", turns(("s", " S \n"), ("u", "\u3000a\r\nb\n\n\nc\x1f "), ("a", "\n Ann. \n")), False, {}),
    ("thinking_off", turns(("u", "1+1?"), ("a", THOUGHT), ("u", "Who?")), True, {"thinking": False}),
    ("thinking_on", turns(("u", "1+1?"), ("a", THOUGHT + "</think>x"), ("u", "Who?")), True, {"thinking": True}),
    ("system_alone", turns(("s", "Answer.")), True, {}),
    ("empty", turns(("s", ""), ("u", ""), ("a", "")), False, {}),
    ("assistant_begins", turns(("a", "Ann."), ("u", "Who?")), True, {}),
    ("two_users", turns(("u", "Who?"), ("u", "When?"), ("c", "Bad.")), False, {}),
    ("two_answers", turns(("u", "Who?"), ("a", "Ann."), ("a", THOUGHT)), False, {}),
    ("late_system", turns(("u", "Who?"), ("a", "Ann."), ("s", "Shorter."), ("u", "When?"), ("a", "Now.")), False, {}),
    ("even_system", turns(("u", "Who?"), ("s", "Shorter.")), True, {}),
    ("critic", turns(("c", "Bad."), ("u", "Who?")), True, {}),
    ("flag_off", turns(("s", "Answer. /no_think"), ("u", "Who?")), True, {}),
    ("override", turns(("s", "/system_override Answer. /think "), ("u", "Who?"), ("a", "\nAnn.")), False,
     {"thinking": False}),
    ("tool_words", turns(("u", "Who?"), ("a", "Ann."), ("u", "<tool_response>x</tool_response>"), ("a", "Two.")), False, {}),
    ("date", turns(("u", "Who?")), True, {"date_string": "1 May 2026"}),
    (NO_TOKENS, turns(("u", "Who?"), ("a", "Ann.")), False, {}),
]

PIECES = ["Hello", "a b", " ", "\n", "\n\n", "\r\n", "\t", "\u00a0", "\u3000", "\x1c", "\u2028", "é", "日本", "<think>",
          "</think>", "<think>\n", "\n</think>\n\n", "/think", "/no_think", "/system_override", "<tool_response>",
          "</tool_response>", "<|im_end|>", "{{ x }}", "'\"\\", "</s>", "[INST]", "x" * 40]


def random_conversations(count):
    source = random.Random(11)
    out = []
    for i in range(count):
        if source.random() < 0.7:  # in order
            roles = ["s"] * (source.random() < 0.5) + ["u", "a"] * source.randint(1, 3)
            roles = roles[:len(roles) - (source.random() < 0.5)]
        else:
            roles = [source.choice("suac") for _ in range(source.randint(1, 6))]
        kwargs = source.choice([{}, {}, {"thinking": True}, {"thinking": False}, {"date_string": "x y"}])
        content = ["".join(source.choice(PIECES) for _ in range(source.randint(0, 6))) for _ in roles]
        name = NO_TOKENS if source.random() < 0.1 else f"random_{i}"
        out.append((name, turns(*zip(roles, content)), source.random() < 0.5, kwargs))
    return out


def render(template, messages, generation, kwargs, tokens):
    kwargs = dict(kwargs)
    if "thinking" in kwargs:
        kwargs["enable_thinking"] = kwargs["thinking"]  # each template reads one of the two
    try:
        texts, _ = chat_template_utils.render_jinja_template(
            conversations=[messages], chat_template=template, add_generation_prompt=generation,
            **{key: token for key, token in tokens.items() if token is not None}, **kwargs)
        return texts[0]
    except jinja2.exceptions.TemplateError as error:
        return {"error": f"{type(error).__name__}: {error}"}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--templates", default=os.path.join(ROOT, "..", "shared", "data", "chat_templates"))
    parser.add_argument("--random", type=int, default=0)
    parser.add_argument("--out", default=os.path.join(ROOT, "tests", "golden", "chat_templates.json"))
    arguments = parser.parse_args()
    chat_template_utils.datetime = Clock
    with open(os.path.join(arguments.templates, "..", "golden", "chat_templates.json")) as file:
        about = json.load(file)["about"]["templates"]
    conversations = random_conversations(arguments.random) if arguments.random else CONVERSATIONS
    templates, seen = {}, set()
    for name in sorted(about):
        with open(os.path.join(arguments.templates, name + ".jinja"), newline="") as file:
            text = file.read()
        mark = fingerprint(text)
        if mark in seen:
            continue
        seen.add(mark)
        tokens = {key: about[name][key] for key in ("bos_token", "eos_token")}
        templates[name] = {"fingerprint": mark, **tokens, "renderings": [
            render(text, messages, generation, kwargs, {} if case == NO_TOKENS else tokens)
            for case, messages, generation, kwargs in conversations]}
    golden = {"conversations": [{"case": case, "messages": messages, "add_generation_prompt": generation, "kwargs": kwargs}
                                for case, messages, generation, kwargs in conversations], "templates": templates}
    with open(arguments.out, "w") as file:
        json.dump(golden, file, indent=0)
        file.write("\n")


if __name__ == "__main__":
    main()
