/* questions.h - what an evaluation asks a model: prompts, the answers whose probability is wanted, and whether the prompt
 * is to be continued. A suite adds questions, evaluate.h measures them, the suite reads the measurements.
 *
 * All answers of a question follow the same prompt, whose rows they share in a batch.
 */
#ifndef FLAT_EVAL_QUESTIONS_H
#define FLAT_EVAL_QUESTIONS_H
#include "../io/data/example.h"

struct eval_token;
struct eval_answer {
    size_t first; /* of its ids in the list's */
    int32_t length, answer_begin;
    bool keep_tokens; /* what is said of each token is wanted */
    bool keep_entropy; /* entropy is wanted */
    /* measured */
    int32_t num_tokens;
    double logprob_sum, prob_mean; /* prob_mean: FLAT's P */
    double entropy;                /* when wanted: of the next token, mean over the targets, in nats */
    struct eval_token *token;      /* [num_tokens] when wanted */
};

struct eval_token {
    float logprob, standardised; /* standardised: by mean and variance of the position's own distribution, for min-k++ */
    int32_t argmax;              /* the likeliest id there */
};

struct eval_question {
    int set, row;              /* the suite's number of its set; the row there, from 0 */
    int first_answer, answers;
    int64_t max_new_tokens;    /* 0: not continued */
    struct token_list prompt;  /* what is continued */
    char *input;               /* its text; NULL when it is not continued */
    char *generation;          /* measured: the continuation, without special tokens and the space around it */
    int32_t generated;         /* measured: its ids */
};

struct question_list {
    struct tokenizer *tokenizer; /* borrowed */
    const struct prompt *prompt;
    int32_t eos;
    int64_t max_length, context; /* of a prompt and its answer; of what the model can take in */
    struct eval_question *question;
    struct eval_answer *answer;
    int questions, answers;
    size_t question_capacity, answer_capacity;
    struct token_list ids;
    struct example_counts counts;
};

/* Start with {0} and the first fields filled in. Answers go to the question added last; NULL: the row's own. A row of
 * running text that was cut into chunks (dataset_chunk) is its own answer. STATUS_INPUT when nothing of an answer is left
 * to predict, or a prompt leaves no position to continue at. */
int question_add(struct question_list *list, int set, int row, const struct dataset_row *from, int64_t max_new_tokens,
                 struct error *error);
int answer_add(struct question_list *list, const struct dataset_row *from, const char *answer, bool keep_tokens,
               struct error *error);
/* The targets are what follows the first prompt_bytes of a text, or its first id; no end of sequence is added. */
int answer_add_text(struct question_list *list, const char *text, size_t prompt_bytes, bool keep_tokens,
                    struct error *error);
/* A question of a prompt that is there as a text, without a template. */
int question_add_text(struct question_list *list, int set, int row, const struct prompt_text *prompt,
                      int64_t max_new_tokens, struct error *error);
void question_list_free(struct question_list *list);

/* Mean -logprob of an answer's targets. */
double answer_loss(const struct eval_answer *answer);
/* XXH3 over everything that was asked, to tell evaluations apart. */
int question_list_checksum(const struct question_list *list, uint64_t *sum, struct error *error);

#endif
