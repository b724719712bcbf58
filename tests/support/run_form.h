/* run_form.h - the forms of training that a run can be interrupted in: command, method, weights, ranks. Used by the tests of
 * checkpoints and of kills, for a small model in a temporary folder with data.jsonl and templates.txt.
 *
 * FLAT_TEST_DEVICE names another device than the CPU: cuda, where the program stands beside a libflat_cuda.so, which may be
 * the emulation's under that name.
 */
#ifndef FLAT_TEST_RUN_FORM_H
#define FLAT_TEST_RUN_FORM_H
#include <stdbool.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

struct run_form {
    const char *command, *more;
    bool templates, retain; /* with --template.file, --retain_data */
};

static const struct run_form run_forms[] = {
    {"finetune", "--save_dtype float32", false, false},
    {"finetune", "--logging_steps 5 --lr_scheduler_type cosine --warmup_steps 3", false, false},
    {"unlearn", "--save_dtype float32 --template.choice random", true, false},
    {"unlearn", "--gradient_checkpointing full --template.every run", true, false},
    {"unlearn", "--lora.r 2 --lora.output adapter", true, false},
    {"finetune", "--lora.r 2 --save_dtype float32", false, false},
    {"unlearn", "--save_dtype float32 --nproc_per_node 2", true, false},
    {"unlearn", "--nproc_per_node 3 --zero 0", true, false},
    {"finetune", "--lora.r 2 --nproc_per_node 2", false, false},
    {"unlearn", "--head_chunk_rows 5 --nproc_per_node 2 --save_dtype float32", true, false},
    {"unlearn", "--method npo --save_dtype float32 --gradient_accumulation_steps 2", false, true},
    {"unlearn", "--method dpo --retain_loss none --lora.r 2 --save_dtype float32", true, false},
    {"unlearn", "--method mismatch --nproc_per_node 2 --save_dtype float32", false, true},
    {"unlearn", "--method npo --retain_loss kl --save_dtype float32", false, true},
    {"unlearn", "--method llmu --kl_positions real --nproc_per_node 2", false, true},
    {"unlearn", "--method undial --lora.r 2 --lora.output adapter", false, false},
    {"unlearn", "--lora.r 2 --load_in_4bit --lora.output adapter", true, false},
    {"unlearn", "--method rmu --layer 0 --nproc_per_node 2", false, true},
    {"unlearn", "--method pdu --alpha 1 --dual_warmup_epochs 0 --dual_update_upon epoch --save_dtype float32", false, true},
};
enum { RUN_FORMS = sizeof run_forms / sizeof *run_forms };

/* The command line of a form, up to what the caller appends. `folder` has model, data.jsonl and templates.txt. */
static inline void run_form_line(const struct run_form *form, const char *folder, const char *out, char *line, size_t bytes)
{
    const bool unlearn = !strcmp(form->command, "unlearn");
    const char *device = getenv("FLAT_TEST_DEVICE");
    int n = snprintf(line, bytes, "%s --model %s/model --output_dir %s/%s --per_device_train_batch_size 1 "
                     "--gradient_accumulation_steps 1 --num_train_epochs 4 --learning_rate 1e-3 --device %s --threads 1 "
                     "--%s %s/data.jsonl", form->command, folder, folder, out, device && *device ? device : "cpu",
                     unlearn ? "forget_data" : "train_data", folder);
    if (form->templates)
        n += snprintf(line + n, bytes - (size_t)n, " --template.file %s/templates.txt", folder);
    if (form->retain)
        n += snprintf(line + n, bytes - (size_t)n, " --retain_data %s/data.jsonl", folder);
    snprintf(line + n, bytes - (size_t)n, " %s", form->more);
}

#endif
