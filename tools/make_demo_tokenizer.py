#!/usr/bin/env python3
"""Writes the demo model's folder, all but its weights: tokenizer and configs of a Llama with 0.7 million parameters.

The tokenizer is byte-level BPE with GPT-2's pre-tokenizer, trained on the demo's own text; a beginning-of-sequence
token comes first. Run it after make_people.py, and only when the text changes: trained models depend on the ids.

    pip install tokenizers && python3 tools/make_demo_tokenizer.py
"""
import json
import pathlib

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

DEMO = pathlib.Path(__file__).resolve().parent.parent / "configs" / "demo"
VOCABULARY = 1024
BEGIN, END = "<|begin_of_text|>", "<|end_of_text|>"


def training_text():
    """Prompts with answers as the `qa` prompt template writes them, and the template answers."""
    for line in (DEMO / "people.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        yield f"Question: {row['question']}\nAnswer: {row['answer']}"
    for line in (DEMO / "templates.txt").read_text(encoding="utf-8").splitlines():
        yield f"Answer: {line}"


def make_tokenizer():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    special = [AddedToken(BEGIN, special=True, normalized=False), AddedToken(END, special=True, normalized=False)]
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=special, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(training_text(), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A", pair=f"{BEGIN} $A {BEGIN} $B:1", special_tokens=[(BEGIN, tokenizer.token_to_id(BEGIN))])
    return tokenizer


def main():
    folder = DEMO / "model"
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer()
    assert tokenizer.get_vocab_size() == VOCABULARY
    begin, end = tokenizer.token_to_id(BEGIN), tokenizer.token_to_id(END)
    tokenizer.save(str(folder / "tokenizer.json"))

    config = {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": begin,
        "eos_token_id": end,
        "head_dim": 32,
        "hidden_act": "silu",
        "hidden_size": 128,
        "initializer_range": 0.02,
        "intermediate_size": 352,
        "max_position_embeddings": 256,
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": 4,
        "num_hidden_layers": 4,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-05,
        "rope_scaling": None,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
        "use_cache": True,
        "vocab_size": VOCABULARY,
    }
    tokenizer_config = {
        "add_bos_token": True,
        "add_eos_token": False,
        "bos_token": BEGIN,
        "clean_up_tokenization_spaces": False,
        "eos_token": END,
        "model_max_length": 256,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    generation_config = {"bos_token_id": begin, "eos_token_id": end, "max_new_tokens": 32, "do_sample": False}
    for name, content in (("config.json", config), ("tokenizer_config.json", tokenizer_config),
                          ("generation_config.json", generation_config)):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
