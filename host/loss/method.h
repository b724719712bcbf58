/* method.h - a training objective: which answers it needs, how their sums become a loss, and what is logged of them.
 *
 * A method is one file host/loss/methods/<method>.c that defines `const struct method method_<method>`; the build lists them.
 * A loss is a sum of one term for each role (kernels/sequence.h): a method says which statistic of the role's sequences
 * goes through which function of kernels/loss_function.h, and with which scale. Loss and slopes are then computed on the
 * device.
 */
#ifndef FLAT_LOSS_METHOD_H
#define FLAT_LOSS_METHOD_H
#include "../../kernels/sequence.h"
#include "../model/batch.h"
#include "../util/error.h"
#include "../util/options.h"

/* What a sequence is to its row. */
enum role {
    ROLE_ANSWER,   /* the row's own answer: to forget or, with finetune, to learn */
    ROLE_TEMPLATE, /* an answer to give instead */
    ROLES
};
_Static_assert((int)ROLES <= (int)SEQUENCE_ROLES, "every role has a term");

/* What a loss may be averaged over: the sequences of a micro-batch, and those of all micro-batches of its optimizer step on
 * all ranks. */
struct loss_scope {
    const struct batch_sequence *micro_batch, *step;
    int micro_batch_sequences, step_sequences;
    int micro_batches; /* of the step */
};

/* Sequences of a role, and their targets. */
int64_t count_sequences(const struct batch_sequence *sequences, int count, enum role role);
int64_t count_tokens(const struct batch_sequence *sequences, int count, enum role role);

/* A number that is logged of every step: the sum of one total of a role over the sum of another. */
struct logged {
    const char *key;   /* in metrics.jsonl */
    const char *label; /* in the progress line; NULL: not shown there */
    enum role role;
    enum role_total sum, count;
};
enum { METHOD_LOGGED = 12 };

struct method {
    const char *name, *summary;
    bool for_finetune;     /* offered by finetune; otherwise by unlearn */
    const struct option_group *options; /* its own options: flags of the command line while it is chosen; NULL: none */
    bool needs_template;   /* a template answer before each row's own */
    struct logged logged[METHOD_LOGGED]; /* ends with key NULL */
    /* Fills the terms, which are zero, for a micro-batch. */
    void (*terms)(const void *options, const struct loss_scope *scope, struct loss_term term[ROLES]);
};

/* All methods of host/loss/methods/, NULL-ended. Made by the build. */
extern const struct method *const methods[];

/* What is said of the method on a command line. */
struct method_options {
    int method;         /* of those for unlearn, in order */
    const void *values; /* the method's own struct */
};
extern const struct option_group method_option_group;
const struct method *method_chosen(const struct method_options *options);

/* By name; an unknown one is STATUS_USAGE with the known names. */
int method_find(const char *name, bool finetune, const struct method **method, struct error *error);

/* The value of a logged number, given all totals of a step. */
double logged_value(const struct logged *logged, const double *totals);

/* The spec's names of enum divergence, in order; NULL behind the last. */
const char *divergence_name(int divergence);

#endif
