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

/* What a sequence is to its row. A batch has the sequences of a row in the order random, template, answer, and behind all
 * rows those of the retain set. */
enum role {
    ROLE_ANSWER,   /* the row's own answer: to forget or, with finetune, to learn */
    ROLE_TEMPLATE, /* an answer to give instead: of a list, or the row's alternate */
    ROLE_RETAIN,   /* a row of retain_data, with its own prompt */
    ROLE_RANDOM,   /* the answer of another row */
    ROLES
};
_Static_assert((int)ROLES == (int)SEQUENCE_ROLES, "every role has a term");
#define WITH(role) (1u << (role))
/* "forget", "template", "retain", "random": in what is logged. */
extern const char *const role_names[ROLES];

/* Over what a mean is taken: over all sequences of an optimizer step, or of each micro-batch, and the micro-batches' means
 * then count alike (as in transformers up to 4.45). */
enum loss_average { LOSS_AVERAGE_STEP, LOSS_AVERAGE_MICRO_BATCH };

/* The sequences of a micro-batch, and those of all micro-batches of its step on all ranks. */
struct loss_scope {
    enum loss_average average;
    const struct batch_sequence *micro_batch, *step;
    int micro_batch_sequences, step_sequences;
    int micro_batches; /* of the step */
    double multiplier; /* of a method that has one */
};

/* What a sum over a micro-batch is multiplied by, so that the sums of a step add up to the mean over the targets of some
 * roles (WITH(...) | ...; of a sequence all but the first `skip`), or over the sequences of one. 0 where there are none. */
double mean_of_tokens(const struct loss_scope *scope, unsigned roles, int skip);
double mean_of_sequences(const struct loss_scope *scope, enum role role);
/* The mean over such sequences of 1 / their targets, which is no weight in itself. */
double mean_of_inverse_lengths(const struct loss_scope *scope, enum role role);

/* A number that is logged of every step: the sum of one total of a role over the sum of another. ROLE_TOTALS: over nothing.
 * Logged while the role has sequences. */
struct logged {
    const char *key;   /* in metrics.jsonl */
    const char *label; /* in the progress line; NULL: not shown there */
    enum role role;
    enum role_total sum, count;
};
enum { METHOD_LOGGED = 12 };

/* Which positions of a sequence are targets. */
enum positions {
    POSITIONS_ANSWER,  /* those that predict the answer */
    POSITIONS_SHIFTED, /* all that predict a token of the sequence */
    POSITIONS_ALL,     /* the last, too, which predicts nothing */
};

/* How a role's targets are held against the distributions of the model that the run starts from (kernels/divergence.h): by KL
 * or by a cross-entropy. Their terms are TOKENS with TOKEN_GIVEN. */
struct distribution_use {
    bool used, cross_entropy;
    bool hidden;           /* not distributions: the hidden states of both (struct hidden_use) */
    enum positions positions;
    double penalty;        /* that the reference's logit of the target is lowered by */
    bool penalises_prompt; /* where the target is none of the answer, column vocab - 100 is lowered in its place */
};

/* A loss of hidden states: those of forget answers are to be one vector, of length `coefficient` in a direction that is drawn from
 * the run's seed, and those of retained ones the starting model's. All terms are TOKENS with TOKEN_GIVEN. */
struct hidden_use {
    int64_t layer; /* whose output: the last layer that is run and trained */
    double coefficient;
};

/* Options of methods that may keep a retain set beside what they forget: the struct of their options begins with these, and
 * their rows with RETAIN_ROWS; of methods that always keep it by KL, with KL_ROWS. L = gamma (forget) + alpha (retain). */
enum retain_loss { RETAIN_NONE, RETAIN_NLL, RETAIN_KL };
enum kl_positions { KL_ANSWER, KL_REAL, KL_TOFU };
struct retain_options {
    enum retain_loss retain_loss;
    double gamma, alpha;
    enum kl_positions kl_positions;
    int64_t kl_padded_length;
};
extern const char *const retain_loss_names[], *const kl_positions_names[];
#define KL_ROWS(owner, gamma_, alpha_)                                                                                  \
    {.name = "gamma", OPTION_FIELD(owner, retain.gamma), .initial = (gamma_), .max = HUGE_VAL,                          \
     .help = "weight of the loss on what is to be forgotten"},                                                          \
    {.name = "alpha", OPTION_FIELD(owner, retain.alpha), .initial = (alpha_), .max = HUGE_VAL,                          \
     .help = "weight of the loss on retain_data"},                                                                      \
    {.name = "kl_positions", OPTION_FIELD(owner, retain.kl_positions), .choices = kl_positions_names, .initial = "answer",  \
     .help = "positions of retain_data that KL is the mean over: those that predict the answer; real, the prompt's and the " \
             "last too; or tofu, the sum over these by rows and kl_padded_length, as TOFU's code has it but for its padding"}, \
    {.name = "kl_padded_length", OPTION_FIELD(owner, retain.kl_padded_length), .initial = "500", .min = 1,              \
     .max = OPTION_COUNT_MAX, .help = "length that rows are taken to be padded to by kl_positions tofu; 500 is TOFU's"}
#define RETAIN_ROWS(owner, loss_, gamma_, alpha_)                                                                       \
    {.name = "retain_loss", OPTION_FIELD(owner, retain.retain_loss), .choices = retain_loss_names, .initial = (loss_),  \
     .help = "what is asked of retain_data: nll is the mean negative log-probability of its answers, kl the divergence of " \
             "the model that the run starts from to the one that is trained"},                                          \
    KL_ROWS(owner, gamma_, alpha_)
/* The retain set's term: by retain_loss, or by KL in any case. */
struct loss_term retain_term(const struct retain_options *retain, const struct loss_scope *scope);
struct loss_term retain_kl_term(const struct retain_options *retain, const struct loss_scope *scope);

/* A factor of its loss that a method moves from step to step, as PDU does the weight of its constraint. Its values are those of
 * all ranks, and of a run that goes on from a checkpoint. */
struct multiplier {
    double value;
    double sum;   /* of what it follows, over the steps since it was moved last */
    int64_t steps;
};
struct multiplier_rule {
    double (*begin)(const void *options);
    /* After a step whose totals (sequence.h) are those of all ranks. epoch: epochs that are over, with a fraction; ends: one
     * has just ended. */
    void (*move)(const void *options, const double *totals, double epoch, bool ends, struct multiplier *multiplier);
    /* What the loss has besides its terms. */
    double (*constant)(const void *options, double multiplier);
};

struct method {
    const char *name, *summary;
    bool for_finetune;   /* offered by finetune; otherwise by unlearn */
    unsigned roles;      /* WITH(...) | ...: the answers that it always trains on */
    bool retains;        /* its options begin with struct retain_options, and with RETAIN_ROWS */
    bool retains_by_kl;  /* they begin with KL_ROWS, and ROLE_RETAIN is in roles */
    bool alternates;     /* template answers are the rows' own alternates, not those of a list */
    bool rest_entropy;   /* the row_value of its terms is the cross-entropy without the target (row_statistics.h) */
    bool logit_margin;   /* the terms of ROLE_ANSWER are TOKEN_GIVEN, of the margin of its logits (kernels/logit_margin.h) */
    const struct multiplier_rule *multiplier; /* NULL: none */
    struct hidden_use (*hidden)(const void *options); /* with ROLE_ANSWER and ROLE_RETAIN; NULL: the loss is one of tokens */
    bool reference_sums; /* needs the log-probabilities of answers and templates under the model that it starts from */
    struct distribution_use (*distribution)(const void *options); /* of ROLE_ANSWER, then its only role beside ROLE_RETAIN;
                                                                   * NULL: none */
    const struct option_group *options; /* its own options: flags of the command line while it is chosen; NULL: none */
    struct logged logged[METHOD_LOGGED]; /* ends with key NULL */
    /* Fills the terms, which are zero, for a micro-batch. options: the method's own struct. */
    void (*terms)(const void *options, const struct loss_scope *scope, struct loss_term term[ROLES]);
};

/* The roles that a method trains on with these options. */
unsigned method_roles(const struct method *method, const void *options);
/* Which of them meet the distribution of the reference, and how. */
struct distribution_use method_distribution(const struct method *method, const void *options, enum role role);

/* All methods of host/loss/methods/, NULL-ended. Made by the build. */
extern const struct method *const methods[];

/* What is said of the method on a command line. */
struct method_options {
    int method;         /* of those for unlearn, in order */
    const void *values; /* the method's own struct */
};
extern const struct option_group method_option_group;
const struct method *method_chosen(const struct method_options *options);

/* What all methods take. */
struct loss_options {
    enum loss_average loss_average;
};
extern const struct option_group loss_option_group;

/* By name; an unknown one is STATUS_USAGE with the known names. */
int method_find(const char *name, bool finetune, const struct method **method, struct error *error);

/* The value of a logged number, given all totals of a step. */
double logged_value(const struct logged *logged, const double *totals);

/* The spec's names of enum divergence, in order; NULL behind the last. */
const char *divergence_name(int divergence);

#endif
