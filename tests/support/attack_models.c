/* attack_models.c - see attack_models.h. */
#include "attack_models.h"

#include <stdio.h>

#include "program.h"

int attack_models_make(const char *folder)
{
    char start[1000];
    snprintf(start, sizeof start, "%s/start", folder);
    if (eval_model_make(start))
        return -1;
    program_expect_ok(program_line("finetune --model %s/start --train_data " EVAL "/qa_forget.jsonl --output_dir %s/target --max_steps 3 "
                                   "--learning_rate 1e-3 --save_dtype float32 " COMMON, folder, folder));
    program_expect_ok(program_line("finetune --model %s/start --train_data configs/demo/retain.jsonl --output_dir %s/retain --max_steps 20 "
                                   "--per_device_train_batch_size 4 --gradient_accumulation_steps 1 --learning_rate 3e-3 "
                                   "--save_dtype float32 " COMMON, folder, folder));
    program_expect_ok(program_line("unlearn --method grad_ascent --model %s/target " FORGET "--output_dir %s/forgot --max_steps 4 "
                                   "--per_device_train_batch_size 4 --gradient_accumulation_steps 1 --learning_rate 2e-3 "
                                   "--final_eval_rows 0 " COMMON, folder, folder));
    return 0;
}
