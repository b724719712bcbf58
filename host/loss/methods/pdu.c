/* pdu.c - primal-dual unlearning: logits of the forget answers are flattened, under the constraint that the retained rows' loss
 * stays below a bound.
 *
 *     L = gamma (mean over forget answer tokens of (max_v z_v - mean_v z_v)^2) + lambda (NLL(retain) - retain_loss_eps)
 *
 * lambda begins at alpha; once dual_warmup_epochs are over, every step (or epoch) ends with
 *     lambda = max(0, lambda + dual_step_size (NLL(retain) - retain_loss_eps))
 * by the token mean of the step, or the mean over the epoch's steps. open-unlearning's program moves it with every micro-batch,
 * and reads the logits one position later, where an answer token is fed and not where it is predicted.
 */
#include "../method.h"

enum dual_update { DUAL_STEP, DUAL_EPOCH };

struct pdu_options {
    double gamma, alpha, retain_loss_eps, dual_step_size, dual_warmup_epochs;
    enum dual_update dual_update_upon;
};

static const char *const update_names[] = {[DUAL_STEP] = "step", [DUAL_EPOCH] = "epoch", NULL};
static const struct option option_rows[] = {
    {.name = "gamma", OPTION_FIELD(struct pdu_options, gamma), .initial = "1", .max = HUGE_VAL,
     .help = "weight of the loss on what is to be forgotten"},
    {.name = "alpha", OPTION_FIELD(struct pdu_options, alpha), .initial = "100", .max = HUGE_VAL,
     .help = "what lambda, the weight of the loss on retain_data, begins at"},
    {.name = "retain_loss_eps", OPTION_FIELD(struct pdu_options, retain_loss_eps), .initial = "0.3", .max = HUGE_VAL,
     .help = "loss on retain_data that lambda holds it to: somewhat above the start's"},
    {.name = "dual_step_size", OPTION_FIELD(struct pdu_options, dual_step_size), .initial = "5", .max = HUGE_VAL,
     .help = "how far lambda moves for a loss that is 1 above or below"},
    {.name = "dual_warmup_epochs", OPTION_FIELD(struct pdu_options, dual_warmup_epochs), .initial = "5",
     .max = OPTION_COUNT_MAX, .help = "epochs in which lambda stays where it is"},
    {.name = "dual_update_upon", OPTION_FIELD(struct pdu_options, dual_update_upon), .choices = update_names,
     .initial = "step", .help = "whether lambda moves with every step or once an epoch"},
};
static const struct option_group options = {
    OPTION_GROUP("Method pdu", option_rows, struct pdu_options),
    .source = "Source: open-unlearning's PDU; the defaults are its for TOFU (MUSE: alpha 50, dual_step_size 1, retain_loss_eps 1.5 "
              "for News and 0.1 for Books, dual_warmup_epochs 3)"};

static void pdu_terms(const void *values, const struct loss_scope *scope, struct loss_term term[ROLES])
{
    const struct pdu_options *pdu = values;
    term[ROLE_ANSWER] = (struct loss_term){STATISTIC_TOKENS, .token = TOKEN_GIVEN,
                                           .scale = pdu->gamma * mean_of_tokens(scope, WITH(ROLE_ANSWER), 0)};
    term[ROLE_RETAIN] = (struct loss_term){
        STATISTIC_LOGPROB_SUM, .scale = -scope->multiplier * mean_of_tokens(scope, WITH(ROLE_RETAIN), 0)};
}

static double lambda_begin(const void *values)
{
    const struct pdu_options *pdu = values;
    return pdu->alpha;
}

static void lambda_move(const void *values, const double *totals, double epoch, bool ends, struct multiplier *lambda)
{
    const struct pdu_options *pdu = values;
    const double tokens = totals[total_of(ROLE_RETAIN, ROLE_TOKENS)];
    if (epoch > pdu->dual_warmup_epochs) {
        lambda->sum += -totals[total_of(ROLE_RETAIN, ROLE_LOGPROB)] / tokens;
        lambda->steps++;
    }
    if (!lambda->steps || (pdu->dual_update_upon == DUAL_EPOCH && !ends))
        return;
    const double above = lambda->sum / (double)lambda->steps - pdu->retain_loss_eps;
    *lambda = (struct multiplier){.value = fmax(0, lambda->value + pdu->dual_step_size * above)};
}

static double lambda_constant(const void *values, double lambda)
{
    const struct pdu_options *pdu = values;
    return -lambda * pdu->retain_loss_eps;
}

static const struct multiplier_rule rule = {lambda_begin, lambda_move, lambda_constant};

const struct method method_pdu = {
    .name = "pdu",
    .summary = "flattens the logits of forget answers while the loss on retained rows is held to a bound (PDU)",
    .roles = WITH(ROLE_ANSWER) | WITH(ROLE_RETAIN),
    .logit_margin = true,
    .multiplier = &rule,
    .options = &options,
    .logged = {{"prob_forget", "P(forget)", ROLE_ANSWER, ROLE_PROB, ROLE_SEQUENCES},
               {"prob_retain", "P(retain)", ROLE_RETAIN, ROLE_PROB, ROLE_SEQUENCES},
               {"loss_forget", NULL, ROLE_ANSWER, ROLE_LOSS, ROLE_TOTALS},
               {"loss_retain", NULL, ROLE_RETAIN, ROLE_LOSS, ROLE_TOTALS}},
    .terms = pdu_terms,
};
