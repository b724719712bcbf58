/* profile.c - the marks around every op and what they add up to; see profile.h. */
#include "profile.h"

#include "device.h"

static void attention_cost(const struct profile *profile, const struct attention_args *a, bool backward, double *bytes,
                           double *flops)
{
    *bytes = (double)(backward ? attention_backward_bytes(a->rows, a->heads, a->kv_heads, a->head_dim, a->dtype)
                               : attention_forward_bytes(a->rows, a->heads, a->kv_heads, a->head_dim, a->dtype));
    *flops = (double)(backward ? attention_backward_flops(profile->visible_keys, a->heads, a->head_dim)
                               : attention_forward_flops(profile->visible_keys, a->heads, a->head_dim));
}

/* Bytes and flops of a call, by the rooms' cards. */
static void call_cost(const struct profile *profile, enum engine_op op, const void *arguments, double *bytes, double *flops)
{
    *bytes = *flops = 0;
    switch (op) {
    case ENGINE_OP_embedding_forward: {
        const struct embedding_args *a = arguments;
        *bytes = (double)embedding_forward_bytes(a->rows, a->cols, a->position_table != NULL, a->dtype);
        break;
    }
    case ENGINE_OP_norm_forward: {
        const struct norm_args *a = arguments;
        *bytes = (double)norm_forward_bytes(a->kind, a->rows, a->cols, a->residual != NULL, a->dtype);
        break;
    }
    case ENGINE_OP_norm_backward: {
        const struct norm_backward_args *a = arguments;
        *bytes = (double)norm_backward_bytes(a->kind, a->rows, a->cols, a->dresidual != NULL, a->dtype, a->grad_dtype);
        break;
    }
    case ENGINE_OP_rope: {
        const struct rope_args *a = arguments;
        *bytes = (double)rope_bytes(a->rows, a->heads, a->rotary_dim, a->dtype);
        break;
    }
    case ENGINE_OP_attention_forward: attention_cost(profile, arguments, false, bytes, flops); break;
    case ENGINE_OP_attention_backward:
        attention_cost(profile, &((const struct attention_backward_args *)arguments)->forward, true, bytes, flops);
        break;
    case ENGINE_OP_linear_forward: {
        const struct linear_args *a = arguments;
        *bytes = (double)linear_bytes(a->rows, a->in, a->out, a->dtype, a->out_dtype);
        *flops = (double)linear_flops(a->rows, a->in, a->out);
        break;
    }
    case ENGINE_OP_linear_backward_input: {
        const struct linear_backward_input_args *a = arguments;
        *bytes = (double)linear_bytes(a->rows, a->out, a->in, a->dtype, a->dtype);
        *flops = (double)linear_flops(a->rows, a->in, a->out);
        break;
    }
    case ENGINE_OP_linear_backward_weight: {
        const struct linear_backward_weight_args *a = arguments;
        *bytes = (double)linear_bytes(a->in, a->rows, a->out, a->dtype, a->grad_dtype);
        *flops = (double)linear_flops(a->rows, a->in, a->out);
        break;
    }
    case ENGINE_OP_activation_forward: {
        const struct activation_args *a = arguments;
        *bytes = (double)activation_forward_bytes(a->kind, a->rows, a->cols, a->dtype);
        break;
    }
    case ENGINE_OP_activation_backward: {
        const struct activation_backward_args *a = arguments;
        *bytes = (double)activation_backward_bytes(a->kind, a->rows, a->cols, a->dtype);
        break;
    }
    case ENGINE_OP_logprob_forward: {
        const struct logprob_args *a = arguments;
        *bytes = (double)logprob_forward_bytes(a->rows, a->cols, a->write_gradient, a->dtype);
        break;
    }
    case ENGINE_OP_logprob_backward: {
        const struct logprob_backward_args *a = arguments;
        *bytes = (double)logprob_backward_bytes(a->rows, a->cols, a->dtype);
        break;
    }
    case ENGINE_OP_row_scale: {
        const struct row_scale_args *a = arguments;
        *bytes = (double)row_scale_bytes(a->rows, a->cols, a->dtype);
        break;
    }
    case ENGINE_OP_cast: {
        const struct cast_args *a = arguments;
        *bytes = (double)cast_bytes(a->n, a->from, a->to);
        break;
    }
    case ENGINE_OP_adamw_norm: {
        const struct adamw_norm_args *a = arguments;
        *bytes = (double)adamw_norm_bytes(a->n, a->grad_dtype);
        break;
    }
    case ENGINE_OP_adamw_step: {
        const struct adamw_args *a = arguments;
        *bytes = (double)adamw_step_bytes(a->n, a->dtype, a->grad_dtype, a->master != NULL);
        break;
    }
    case ENGINE_OP_sample: {
        const struct sample_args *a = arguments;
        *bytes = (double)sample_bytes(a->rows, a->cols, a->dtype);
        break;
    }
    default: break; /* embedding_backward, sequence_loss: small, and their size is in device memory */
    }
}

int profile_marks_read(struct profile *profile, struct device *device)
{
    int op_status = OP_OK;
    for (int i = 0; i < profile->pendings && op_status == OP_OK; i++) {
        double seconds = 0;
        op_status = device->engine->elapsed(device->context, 2 * i, 2 * i + 1, &seconds);
        profile->row[profile->pending[i]].seconds += seconds;
    }
    profile->pendings = 0;
    return op_status;
}

int profile_op_begin(struct profile *profile, struct device *device)
{
    return device->engine->mark(device->context, 2 * profile->pendings);
}

int profile_op_end(struct profile *profile, struct device *device, enum engine_op op, const void *arguments)
{
    int op_status = device->engine->mark(device->context, 2 * profile->pendings + 1);
    if (op_status != OP_OK)
        return op_status;
    double bytes, flops;
    call_cost(profile, op, arguments, &bytes, &flops);
    struct profile_row *row = &profile->row[op];
    row->calls++;
    row->bytes += bytes;
    row->flops += flops;
    profile->pending[profile->pendings++] = op;
    return profile->pendings == PROFILE_PENDING ? profile_marks_read(profile, device) : OP_OK;
}
