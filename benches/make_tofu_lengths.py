"""The token counts of TOFU's forget10 that the step benchmarks draw from: benches/tofu_lengths.txt.

    python benches/make_tofu_lengths.py FLAT TOKENIZER_DIR FORGET10.json IDONTKNOW.jsonl > benches/tofu_lengths.txt

A line per pair: tokens of the prompt, of the template answer and of the forget answer, each answer with its end of
sequence. The prompt is llama2_chat's, "[INST] question [/INST]"; row i has template answer i modulo their number. FLAT is
the program, whose tokenizer is used; the committed file is of Mistral's SentencePiece vocabulary of 32,000.
"""
import json
import subprocess
import sys


def token_counts(flat, tokenizer, lines):
    text = "".join(line.replace("\n", " ") + "\n" for line in lines)
    out = subprocess.run([flat, "tokenize", "--model", tokenizer], input=text, capture_output=True, text=True, check=True)
    return [len(json.loads(line)) for line in out.stdout.splitlines()]


def main():
    flat, tokenizer, forget, templates = sys.argv[1:]
    with open(forget) as file:
        rows = [json.loads(line) for line in file if line.strip()]
    with open(templates) as file:
        template = [line.strip() for line in file if line.strip()]
    prompts = ["[INST] %s [/INST]" % row["question"] for row in rows]
    prompt = token_counts(flat, tokenizer, prompts)
    sides = [[template[i % len(template)] for i in range(len(rows))], [row["answer"] for row in rows]]
    full = [token_counts(flat, tokenizer, [p + a for p, a in zip(prompts, side)]) for side in sides]
    for i, tokens in enumerate(prompt):
        print(tokens, full[0][i] - tokens + 1, full[1][i] - tokens + 1)


if __name__ == "__main__":
    main()
