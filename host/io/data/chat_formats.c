/* chat_formats.c - the known chat templates: what each writes, as tags and rules. The language is that of chat_format.h.
 *
 * A row is named for the models that use it; its fingerprints are those of the published texts that render alike. Where
 * tags differ only by role they are given once, as `any`. A new template is a new row (the message that refuses it has its
 * fingerprint), or a fingerprint more where it renders as one of these.
 */
#include <string.h>

#include "chat_defaults.h"
#include "chat_format.h"
#include "chat_template.h"

#define ALTERNATE "Conversation roles must alternate user/assistant/user/assistant/..."
#define ALTERNATE_AFTER_SYSTEM \
    "After the optional system message, conversation roles must alternate user/assistant/user/assistant/..."
#define USER_AND_ASSISTANT RAISE("Only user and assistant roles are supported!")
#define AFTER_SYSTEM_ONLY \
    RAISE("Only user and assistant roles are supported, with the exception of an initial optional system message!")

/* <|im_start|>role ... <|im_end|> */
#define IM(role) "<|im_start|>" role "\n" CONTENT "<|im_end|>" STOP "\n"
#define IM_SYSTEM(text) "<|im_start|>system\n" text "<|im_end|>\n"
#define IM_OPEN "<|im_start|>assistant\n"
/* <|start_header_id|>role<|end_header_id|> ... <|eot_id|> */
#define HEADER(role) "<|start_header_id|>" role "<|end_header_id|>\n\n"
#define HEADER_SYSTEM(text) \
    HEADER("system") "Cutting Knowledge Date: December 2023\nToday Date: " DATE "\n\n" text "<|eot_id|>"
/* <|role|> newline ... */
#define BAR(role, end) "<|" role "|>\n" CONTENT end
/* <start_of_turn>role ... <end_of_turn> */
#define TURN(role, text) "<start_of_turn>" role "\n" text "<end_of_turn>" STOP "\n"
#define GRANITE(role, text) "<|start_of_role|>" role "<|end_of_role|>" text "<|end_of_text|>" STOP "\n"
#define GRANITE_OPEN "<|start_of_role|>assistant<|end_of_role|>"
#define SYS(text) "<<SYS>>\n" text "\n<</SYS>>\n\n"
#define SMOLLM3(date) \
    "<|im_start|>system\n## Metadata\n\nKnowledge Cutoff Date: June 2025\n" date "Reasoning Mode: /" \
    NOT_THINKING("no_") "think\n\n## Custom Instructions\n\n" TEXT(CONTENT "\n\n") \
    NO_TEXT(THINKING(DEFAULT_SMOLLM3) \
            NOT_THINKING("You are a helpful AI assistant named SmolLM, trained by Hugging Face.\n\n"))
#define SMOLLM3_OPEN IM_OPEN NOT_THINKING("<think>\n\n</think>\n")
#define GRANITE_33_DEFAULT \
    "Knowledge Cutoff Date: April 2024. Today's Date: " DATE ". You are Granite, developed by IBM." \
    THINKING(DEFAULT_GRANITE_THINKING) NOT_THINKING(" You are a helpful AI assistant.")

const struct chat_format chat_formats[] = {
    /* ChatML, and what was made of it */
    {"chatml", {0x15485e1ff61f2eb8, 0x2ce9ffed40836374}, .any = IM(ROLE), .opening = IM_OPEN},
    {"chatml-system", {0x10c95e38294d83f9}, .user = IM("user"), .assistant = IM("assistant"), .system = IM("system"),
     .other = IM("system"), .opening = IM_OPEN},
    {"chatml-trim", {0x35387446750e70fe}, .order = ALTERNATE, .start = SOME_BOS,
     .any = "<|im_start|>" ROLE "\n" TRIM(CONTENT) "<|im_end|>" STOP "\n", .opening = IM_OPEN},
    {"qwen1.5", {0xdcaf79372ee16a8f}, NO_OPENING_AFTER_ASSISTANT, .no_system = IM_SYSTEM("You are a helpful assistant"),
     .any = "<|im_start|>" ROLE "\n" CONTENT CLOSED("<|im_end|>" STOP "\n"), .opening = IM_OPEN},
    {"qwen2", {0x1ffe4d1a99dbe4bb}, .no_system = IM_SYSTEM("You are a helpful assistant"), .any = IM(ROLE),
     .opening = IM_OPEN},
    {"qwen2-period", {0x3d0cd0acf396ca6d}, .no_system = IM_SYSTEM("You are a helpful assistant."), .any = IM(ROLE),
     .opening = IM_OPEN},
    {"hermes3", {0xa4dcf140239895df}, .start = SOME_BOS, .no_system = IM_SYSTEM("You are a helpful assistant."),
     .any = IM(ROLE), .opening = IM_OPEN},
    {"smollm2", {0x4e94c83ba407d086},
     .no_system = IM_SYSTEM("You are a helpful AI assistant named SmolLM, trained by Hugging Face"), .any = IM(ROLE),
     .opening = IM_OPEN},
    {"qwen2.5", {0xe4c8abb3ab23220d},
     .no_system = IM_SYSTEM("You are Qwen, created by Alibaba Cloud. You are a helpful assistant."), .any = IM(ROLE),
     .other = "", .opening = IM_OPEN},
    {"qwen3-instruct", {0xda2df46084dea39d}, .any = IM(ROLE), .other = "", .opening = IM_OPEN},
    {"qwen3", {0xa2e72e0100b4c204, 0xad3dac70607a260b}, THINKS, .any = IM(ROLE), .other = "",
     .assistant = IM_OPEN CUT_THOUGHT(CONTENT) "<|im_end|>" STOP "\n",
     .answer = IM_OPEN "<think>\n" THOUGHT(CONTENT) "\n</think>\n\n" LSTRIP(CUT_THOUGHT(CONTENT)) "<|im_end|>" STOP "\n",
     .opening = IM_OPEN NOT_THINKING("<think>\n\n</think>\n\n")},
    {"qwq", {0x20a5502f870f3d79}, .any = IM(ROLE), .other = "",
     .assistant = IM_OPEN LSTRIP(AFTER_THOUGHT(CONTENT)) "<|im_end|>" STOP "\n", .last_assistant = IM("assistant"),
     .opening = IM_OPEN "<think>\n"},
    {"smollm3", {0x0b58d83453e9632c}, THINKS | THINK_FLAGS, .no_system = SMOLLM3("Today Date: " DATE "\n"),
     .system = SMOLLM3("Today Date: " DATE "\n"), .override = "<|im_start|>system\n" CONTENT "<|im_end|>\n",
     .later_system = "", .user = IM("user"), .assistant = SMOLLM3_OPEN LSTRIP(CONTENT) "<|im_end|>" STOP "\n",
     .opening = SMOLLM3_OPEN, .date = "%d %B %Y"},
    {"smollm3-early", {0x2640aa46cb86828a}, THINKS | THINK_FLAGS, .no_system = SMOLLM3("") "<|im_end|>\n",
     .system = SMOLLM3("") "<|im_end|>\n", .later_system = "", .user = IM("user"),
     .assistant = SMOLLM3_OPEN LSTRIP(CONTENT) "<|im_end|>" STOP "\n", .opening = SMOLLM3_OPEN},
    {"internlm2", {0xc6154edc401e58e6}, ENDING_AFTER_ASSISTANT, .system = FIRST(SOME_BOS) IM("system"),
     .user = FIRST(SOME_BOS) IM("user"), .any = IM(ROLE), .opening = IM_OPEN, .ending = SOME_EOS},
    {"yi", {0x631802976344261e}, .system = CONTENT, .later_system = "", .user = "<|im_start|>user\n" CONTENT "<|im_end|>\n"
     IM_OPEN, .assistant = CONTENT "<|im_end|>" STOP "\n"},
    {"olmo-functions", {0xc901e8d7225d5e73}, SYSTEM_ANYWHERE,
     .no_system = IM_SYSTEM("You are OLMo, a helpful function-calling AI assistant built by Ai2. Your date cutoff is November "
     "2024, and your model weights are available at https://huggingface.co/allenai. You do not currently have access to any "
     "functions. <functions></functions>"),
     .system = IM_SYSTEM(CONTENT " You do not currently have access to any functions. <functions></functions>"),
     .user = IM("user"), .assistant = IM("assistant"), .last_assistant = IM_OPEN CONTENT SOME_EOS STOP,
     .opening = IM_OPEN},

    /* Llama */
    {"llama2", {0x9df041dea522b802}, .order = ALTERNATE,
     .first_user = BOS "[INST] " TRIM(SYS(SYSTEM) CONTENT) " [/INST]", .user = BOS "[INST] " TRIM(CONTENT) " [/INST]",
     .assistant = " " TRIM(CONTENT) " " EOS STOP},
    {"llama2-default", {0xb11721a2ef364be0}, .order = ALTERNATE,
     .first_user = BOS "[INST] " TRIM(SYS(SYSTEM) CONTENT) " [/INST]", .later_system = SYS(TRIM(CONTENT)),
     .user = BOS "[INST] " TRIM(CONTENT) " [/INST]", .assistant = " " TRIM(CONTENT) " " EOS STOP},
    {"llama2-trim", {0x5655446649cbe1ed}, .order = ALTERNATE,
     .first_user = BOS "[INST] " TRIM(SYS(TRIM(SYSTEM)) CONTENT) " [/INST]",
     .user = BOS "[INST] " TRIM(CONTENT) " [/INST]", .assistant = " " TRIM(CONTENT) " " EOS STOP},
    {"llama2-any", {0x842bc6f9d7bc27e6}, SYSTEM_JOINS_USER, .system = BOS "[INST] " CONTENT " [/INST]",
     .first_user = BOS "[INST] " SYS(SYSTEM) CONTENT " [/INST]", .later_system = USER_AND_ASSISTANT,
     .other = USER_AND_ASSISTANT, .user = BOS "[INST] " TRIM(CONTENT) " [/INST]",
     .assistant = " " TRIM(CONTENT) " " EOS STOP},
    {"llama3", {0x1e0cbefae82c8ac2}, .start = BOS, .any = HEADER(ROLE) TRIM(CONTENT) "<|eot_id|>" STOP,
     .opening = HEADER("assistant")},
    {"llama3-first", {0xfd88bf368c64a046}, .start = BOS, .any = HEADER(ROLE) TRIM(CONTENT) "<|eot_id|>" STOP,
     .opening = HEADER("assistant"), .ending = HEADER("assistant")},
    {"llama3-trim", {0x7911dfa534d6fa36}, .order = ALTERNATE, .start = SOME_BOS,
     .any = HEADER(ROLE) TRIM(CONTENT) "<|eot_id|>" STOP, .opening = HEADER("assistant")},
    {"llama3.1", {0x11d97682b2738030}, DATE_STRING, .start = SOME_BOS, .no_system = HEADER_SYSTEM(""),
     .system = HEADER_SYSTEM(TRIM(CONTENT)), .later_system = HEADER("system") TRIM(CONTENT) "<|eot_id|>",
     .any = HEADER(ROLE) TRIM(CONTENT) "<|eot_id|>" STOP, .opening = HEADER("assistant"), .date = "26 Jul 2024"},
    {"llama3.2", {0x7a8f140da1380e94}, DATE_STRING, .start = SOME_BOS, .no_system = HEADER_SYSTEM(""),
     .system = HEADER_SYSTEM(TRIM(CONTENT)), .later_system = HEADER("system") TRIM(CONTENT) "<|eot_id|>",
     .any = HEADER(ROLE) TRIM(CONTENT) "<|eot_id|>" STOP, .opening = HEADER("assistant"), .date = "%d %b %Y"},

    /* Mistral */
    {"mistral", {0x337319f1fea039ee}, ORDER_FIRST, .order = ALTERNATE_AFTER_SYSTEM, .start = SOME_BOS,
     .user = "[INST] " CONTENT "[/INST]", .last_user = "[INST] " SYSTEM "\n\n" CONTENT "[/INST]",
     .assistant = " " TRIM(CONTENT) EOS STOP, .later_system = AFTER_SYSTEM_ONLY, .other = AFTER_SYSTEM_ONLY},
    {"mistral-nemo", {0x09fa7c2e550e1951}, ORDER_FIRST, .order = ALTERNATE_AFTER_SYSTEM, .start = SOME_BOS,
     .user = "[INST]" CONTENT "[/INST]", .last_user = "[INST]" SYSTEM "\n\n" CONTENT "[/INST]",
     .assistant = CONTENT EOS STOP, .later_system = AFTER_SYSTEM_ONLY, .other = AFTER_SYSTEM_ONLY},
    {"mistral-v0.2", {0x375ccc224218d277}, .order = ALTERNATE_AFTER_SYSTEM, .start = SOME_BOS,
     .user = " [INST] " CONTENT " [/INST]", .first_user = " [INST] " SYSTEM "\n\n" CONTENT " [/INST]",
     .assistant = " " CONTENT EOS STOP, .later_system = AFTER_SYSTEM_ONLY, .other = AFTER_SYSTEM_ONLY},
    {"mistral-v0.2-first", {0x4f1f8e28101c7ac8}, .order = ALTERNATE, .start = SOME_BOS, .system = RAISE(ALTERNATE),
     .user = "[INST] " CONTENT " [/INST]", .assistant = CONTENT EOS STOP, .later_system = USER_AND_ASSISTANT,
     .other = USER_AND_ASSISTANT},
    {"mistral-v0.1-first", {0x8cc41d958310238b}, .order = ALTERNATE, .start = SOME_BOS, .system = RAISE(ALTERNATE),
     .user = "[INST] " CONTENT " [/INST]", .assistant = CONTENT EOS STOP " ", .later_system = USER_AND_ASSISTANT,
     .other = USER_AND_ASSISTANT},
    {"mixtral-8x22b", {0x448883751b98f4a6}, .order = ALTERNATE, .start = SOME_BOS, .system = RAISE(ALTERNATE),
     .user = " [INST] " CONTENT " [/INST]", .assistant = " " CONTENT " " EOS STOP, .later_system = USER_AND_ASSISTANT,
     .other = USER_AND_ASSISTANT},
    {"mistral-trim", {0xdf2d186b296bf77d}, .order = ALTERNATE, .start = BOS, .system = TRIM(CONTENT) "\n\n",
     .later_system = "", .user = "[INST] " TRIM(CONTENT) " [/INST]", .assistant = " " TRIM(CONTENT) EOS STOP},
    {"mistral-any", {0xba5a8f185ffcbb1d}, SYSTEM_JOINS_USER, .start = SOME_BOS, .system = "[INST] " CONTENT " [/INST]",
     .first_user = "[INST] " SYSTEM " " CONTENT " [/INST]", .later_system = USER_AND_ASSISTANT,
     .other = USER_AND_ASSISTANT, .user = "[INST] " CONTENT " [/INST]", .assistant = CONTENT EOS STOP},
    {"mistral-large-2411", {0x1b5f3edf2411f7f1}, .start = SOME_BOS, .system = "[SYSTEM_PROMPT] " CONTENT "[/SYSTEM_PROMPT]",
     .user = "[INST] " CONTENT "[/INST]", .assistant = " " CONTENT EOS STOP,
     .other = RAISE("Only user, system and assistant roles are supported!")},
    {"mistral-small-3.2", {0xe73c9d0fd794eaf4}, ORDER_FIRST, .order = ALTERNATE_AFTER_SYSTEM, .start = SOME_BOS,
     .no_system = "[SYSTEM_PROMPT]" DEFAULT_MISTRAL_SMALL_CURRENT_DATE DATE DEFAULT_MISTRAL_SMALL "[/SYSTEM_PROMPT]",
     .system = "[SYSTEM_PROMPT]" CONTENT "[/SYSTEM_PROMPT]", .user = "[INST]" CONTENT "[/INST]",
     .assistant = CONTENT EOS STOP, .other = RAISE("Only system, user, assistant, and tool roles are supported!"),
     .date = "%Y-%m-%d"},
    {"ministral-3-reasoning", {0xb993412a27e81d60}, ORDER_FIRST | ORDER_OF_KNOWN,
     .order = "After the optional system message, conversation roles must alternate user and assistant roles except for tool "
              "calls and results.",
     .start = SOME_BOS, .no_system = "[SYSTEM_PROMPT]" DEFAULT_MINISTRAL "[/SYSTEM_PROMPT]",
     .system = "[SYSTEM_PROMPT]" CONTENT "[/SYSTEM_PROMPT]", .user = "[INST]" CONTENT "[/INST]",
     .assistant = NO_TEXT(RAISE("Assistant message must have a string or a list of chunks in content or a list of tool calls."))
                  CONTENT SOME_EOS STOP,
     .later_system = RAISE("Only user, assistant and tool roles are supported, got " ROLE "."),
     .other = RAISE("Only user, assistant and tool roles are supported, got " ROLE ".")},
    {"fusionnet", {0x3c38108a8075f554}, FIRST_TWO_USERS, .system = "[INST] " SYS(CONTENT), .first_user = CONTENT " [/INST]",
     .user = BOS "[INST] " CONTENT " [/INST]", .assistant = " " CONTENT " " EOS STOP},

    /* Gemma */
    {"gemma", {0x73c591258793ec67}, .order = ALTERNATE, .start = SOME_BOS, .system = RAISE("System role not supported"),
     .any = TURN(ROLE, TRIM(CONTENT)), .later_system = TURN("system", TRIM(CONTENT)),
     .assistant = TURN("model", TRIM(CONTENT)), .opening = "<start_of_turn>model\n"},
    {"gemma3", {0xfd814b77f963c8b7}, .order = ALTERNATE, .start = SOME_BOS, .any = TURN(ROLE, TRIM(CONTENT)),
     .first_user = TURN("user", SYSTEM "\n\n" TRIM(CONTENT)), .assistant = TURN("model", TRIM(CONTENT)),
     .opening = "<start_of_turn>model\n"},
    {"gemma-trim", {0x47d40c234d5181cb}, .order = ALTERNATE, .any = TURN(ROLE, TRIM(CONTENT)),
     .first_user = TURN("user", TRIM(TRIM(SYSTEM) "\n\n" CONTENT)), .assistant = TURN("model", TRIM(CONTENT)),
     .opening = "<start_of_turn>model\n"},

    /* Phi */
    {"phi3", {0xba5da329e8ff8ab3}, .any = BAR(ROLE, "<|end|>" STOP "\n"), .other = "", .opening = "<|assistant|>\n",
     .ending = SOME_EOS},
    {"phi3.5", {0x178ca7a53fe21dcf}, .system = TEXT(BAR("system", "<|end|>\n")), .any = BAR(ROLE, "<|end|>" STOP "\n"),
     .other = "", .opening = "<|assistant|>\n", .ending = SOME_EOS},
    {"phi3-any", {0xdb49d78108ba8205}, .start = SOME_BOS, .any = BAR(ROLE, "<|end|>" STOP "\n"),
     .opening = "<|assistant|>\n", .ending = SOME_EOS},
    {"phi3-early", {0x0138d0a880a5f34f}, .start = SOME_BOS, .user = BAR("user", "<|end|>\n<|assistant|>\n"),
     .assistant = CONTENT "<|end|>" STOP "\n"},
    {"phi3-medium", {0x5ed10e1cae40547d}, .user = BAR("user", "<|end|>\n<|assistant|>\n"),
     .assistant = CONTENT "<|end|>" STOP "\n"},
    {"phi3-vision", {0x819edb7604fb5b01}, NO_OPENING_AFTER_ASSISTANT, .any = BAR(ROLE, "<|end|>" STOP "\n"),
     .opening = "<|assistant|>\n"},
    {"phi3-trim", {0xbc54fe347e416766}, .order = ALTERNATE, .any = "<|" ROLE "|>\n" TRIM(CONTENT) "<|end|>" STOP "\n",
     .opening = "<|assistant|>\n"},
    {"phi4", {0xd10ef7166f7d9637}, .any = "<|im_start|>" ROLE "<|im_sep|>" CONTENT "<|im_end|>" STOP, .other = "",
     .opening = "<|im_start|>assistant<|im_sep|>"},
    {"phi4-first", {0x621e74a0fc517193}, .system = "<|im_start|>system<|im_sep|>" CONTENT "<|im_end|>",
     .user = "<|im_start|>user<|im_sep|>" CONTENT "<|im_end|><|im_start|>assistant<|im_sep|>",
     .assistant = CONTENT "<|im_end|>" STOP},
    {"phi4-mini", {0x5889aecd1a18a111}, .any = "<|" ROLE "|>" CONTENT "<|end|>" STOP, .opening = "<|assistant|>",
     .ending = SOME_EOS},
    {"phi4-mini-reasoning", {0xc6568ecc96d2bc29}, SYSTEMS_AT_START,
     .no_system = "<|system|>Your name is Phi, an AI math expert developed by Microsoft.", .system = " " CONTENT,
     .after_systems = "<|end|>", .any = "<|" ROLE "|>" CONTENT "<|end|>" STOP, .opening = "<|assistant|>",
     .ending = SOME_EOS},

    /* <|user|>, <|assistant|> */
    {"zephyr", {0x1ffb1a624e547958}, .any = BAR(ROLE, EOS STOP "\n"), .other = "", .opening = "<|assistant|>\n"},
    {"zephyr-system", {0xeea93fc4a9d51066}, .any = BAR(ROLE, EOS STOP "\n"), .other = BAR("system", EOS "\n"),
     .opening = "<|assistant|>\n"},
    {"zephyr-trim", {0x24257c1c3dd41ffd}, .order = ALTERNATE, .any = "<|" ROLE "|>\n" TRIM(CONTENT) EOS STOP "\n",
     .opening = "<|assistant|>\n"},
    {"olmo2", {0xe997de2cc570a540}, .start = SOME_BOS, .any = BAR(ROLE, "\n"), .other = "",
     .assistant = BAR("assistant", EOS STOP "\n"), .last_assistant = BAR("assistant", EOS STOP),
     .opening = "<|assistant|>\n"},
    {"tulu3", {0xfbb325d0f0801a5a}, .any = BAR(ROLE, "\n"), .other = "", .assistant = BAR("assistant", EOS STOP "\n"),
     .last_assistant = BAR("assistant", EOS STOP), .opening = "<|assistant|>\n"},
    {"h2o-danube", {0x0de8aab71c799fd9}, .system = "<|system|>" CONTENT EOS, .user = "<|prompt|>" CONTENT EOS,
     .assistant = "<|answer|>" CONTENT EOS STOP, .opening = "<|answer|>"},
    {"granite3", {0xf3d2be8b9ffec5f3}, .any = GRANITE(ROLE, CONTENT), .other = "", .opening = GRANITE_OPEN},
    {"granite3.1", {0xeabb9e3286b58bfd}, NO_OPENING_ALONE,
     .no_system = GRANITE("system", "Knowledge Cutoff Date: April 2024.\nToday's Date: " DATE ".\nYou are Granite, developed "
     "by IBM. You are a helpful AI assistant."), .any = GRANITE(ROLE, CONTENT), .opening = GRANITE_OPEN, .date = "%B %d, %Y"},
    {"granite3.3", {0x5aab8a3654302ebd}, NO_OPENING_ALONE,
     .no_system = GRANITE("system", GRANITE_33_DEFAULT), .any = GRANITE(ROLE, CONTENT),
     .opening = GRANITE_OPEN, .date = "%B %d, %Y"},
    {"granite4", {0xce46c898c02953ed}, EMPTY_SYSTEM_IS_NONE,
     .no_system = GRANITE("system", "You are a helpful assistant. Please ensure responses are professional, accurate, and "
     "safe."), .any = GRANITE(ROLE, CONTENT), .other = "", .opening = GRANITE_OPEN},

    /* DeepSeek */
    {"deepseek-llm", {0xbf4b24fbfbb3e5d6}, .start = SOME_BOS, .system = CONTENT "\n\n", .user = "User: " CONTENT "\n\n",
     .assistant = "Assistant: " CONTENT EOS STOP, .opening = "Assistant:"},
    {"deepseek-r1-distill", {0xb9287a0e34fa96e4}, SYSTEM_LAST, .start = SOME_BOS, .system = CONTENT,
     .user = "<｜User｜>" CONTENT, .assistant = "<｜Assistant｜>" AFTER_THOUGHT(CONTENT) "<｜end▁of▁sentence｜>" STOP,
     .opening = "<｜Assistant｜><think>\n"},

    /* Names of roles in words */
    {"alpaca", {0xa5d22392c78b3053}, .order = ALTERNATE, .start = BOS, .system = TRIM(CONTENT) "\n\n", .later_system = "",
     .user = "### Instruction:\n" TRIM(CONTENT) "\n\n", .assistant = "### Response:\n" TRIM(CONTENT) EOS STOP "\n\n",
     .opening = "### Response:\n"},
    {"alpaca-any", {0x908fb1d95775c878}, .start = SOME_BOS, .no_system = "{system_message}\n\n", .system = CONTENT "\n\n",
     .later_system = USER_AND_ASSISTANT, .other = USER_AND_ASSISTANT, .user = "### Instruction:\n" CONTENT "\n\n",
     .assistant = "### Response:\n" CONTENT EOS STOP "\n\n", .opening = "### Response:\n"},
    {"vicuna", {0x3ad06b6d9327ba85}, .system = CONTENT "\n\n", .user = "USER: " CONTENT "\n",
     .any = "ASSISTANT: " CONTENT "</s>" STOP "\n", .opening = "ASSISTANT:"},
    {"vicuna-orca", {0xb14057239f5f393e}, .system = "SYSTEM: " CONTENT "\n", .user = "USER: " CONTENT "\n",
     .any = "ASSISTANT: " CONTENT "</s>" STOP "\n", .opening = "ASSISTANT:"},
    {"vicuna-trim", {0x4a74910b3144f27d}, .order = ALTERNATE, .start = BOS, .system = TRIM(CONTENT) "\n\n",
     .later_system = "", .user = "USER: " TRIM(CONTENT) "\n", .assistant = "ASSISTANT: " TRIM(CONTENT) EOS STOP "\n",
     .opening = "ASSISTANT:"},
    {"vicuna-any", {0x2af79b93c91b4477}, .start = SOME_BOS, .no_system = "{system_message} ", .system = CONTENT " ",
     .later_system = USER_AND_ASSISTANT, .other = USER_AND_ASSISTANT, .user = "USER: " CONTENT " ",
     .assistant = "ASSISTANT: " CONTENT EOS STOP, .opening = "ASSISTANT:"},
    {"vicuna-human", {0x4a93e57bffc94f85}, .start = SOME_BOS, .no_system = "{system_message}\n", .system = CONTENT "\n",
     .later_system = USER_AND_ASSISTANT, .other = USER_AND_ASSISTANT, .user = "### Human: " CONTENT "\n",
     .assistant = "### Assistant: " CONTENT EOS STOP "\n", .opening = "### Assistant:"},
    {"amberchat", {0x2477fd2995fbcb97}, .order = ALTERNATE, .start = BOS, .system = TRIM(CONTENT) "\n", .later_system = "",
     .user = "###Human: " TRIM(CONTENT) "\n", .assistant = "###Assistant: " TRIM(CONTENT) DONE "\n", .opening = "###Assistant:"},
    {"solar", {0x46c711b8ab57cecb}, .system = TEXT("### System:\n" CONTENT "\n\n"), .user = "### User:\n" CONTENT "\n\n",
     .assistant = "### Assistant:\n" CONTENT, .opening = "### Assistant:\n"},
    {"solar-trim", {0x0c4590a53a70000b}, .order = ALTERNATE, .start = SOME_BOS, .any = "### " TITLE ":\n" TRIM(CONTENT) DONE "\n\n",
     .opening = "### Assistant:\n"},
    {"decilm", {0x76f7813166eb542b}, .any = "### " TITLE ":\n" CONTENT DONE "\n", .other = "", .opening = "### Assistant:\n"},
    {"openchat", {0xa8624103c1b0ea01}, .start = SOME_BOS, .any = "GPT4 Correct " TITLE ": " CONTENT "<|end_of_turn|>" STOP,
     .opening = "GPT4 Correct Assistant:"},
    {"falcon", {0x640f406be1d556de}, .order = ALTERNATE,
     .first_user = TRIM(SYSTEM) "\n\nUser: " HALVE_LINES(TRIM(CONTENT)),
     .user = "\n\nUser: " HALVE_LINES(TRIM(CONTENT)), .assistant = "\n\nAssistant: " HALVE_LINES(TRIM(CONTENT)),
     .opening = "\n\nAssistant:"},
    {"falcon-trim", {0x96319b72a365cd42}, .order = ALTERNATE, .system = TRIM(CONTENT),
     .later_system = "\n\n" TITLE ": " TRIM(HALVE_LINES(JOIN_LINES(CONTENT))),
     .any = "\n\n" TITLE ": " TRIM(HALVE_LINES(JOIN_LINES(CONTENT))), .opening = "\n\nAssistant:"},
    {"falcon-rw", {0x8c181f3e92962ba0}, .system = APART(" ") "[SYS] " TRIM(CONTENT), .user = APART(" ") "[INST] " TRIM(CONTENT),
     .assistant = APART(" ") "[RESP] " CONTENT EOS STOP, .any = APART(" "), .opening = " [RESP] "},
    {"alphamonarch", {0xffa4829062af372d}, .any = BOS ROLE "\n" CONTENT EOS STOP "\n", .opening = BOS "assistant\n"},
};
const int chat_format_count = sizeof chat_formats / sizeof *chat_formats;

const struct chat_format *chat_format_find(const char *name)
{
    for (int i = 0; i < chat_format_count; i++)
        if (!strcmp(chat_formats[i].name, name))
            return &chat_formats[i];
    return NULL;
}

int chat_format_recognize(const char *text, size_t length, const struct chat_format **format, uint64_t *fingerprint,
                          struct error *error)
{
    *format = NULL;
    int status = chat_fingerprint(text, length, fingerprint, error);
    for (int i = 0; i < chat_format_count && !status; i++)
        for (int k = 0; k < CHAT_FINGERPRINTS && chat_formats[i].fingerprint[k]; k++)
            if (chat_formats[i].fingerprint[k] == *fingerprint)
                *format = &chat_formats[i];
    return status;
}

const char *chat_format_name(int i)
{
    return i >= 0 && i < chat_format_count ? chat_formats[i].name : NULL;
}

const char *chat_format_name_of(const struct chat_format *format)
{
    return format->name;
}

bool chat_format_writes_date(const struct chat_format *format)
{
    return format->date && strchr(format->date, '%');
}
