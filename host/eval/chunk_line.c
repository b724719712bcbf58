/* chunk_line.c - see chunk_line.h. */
#include "chunk_line.h"

#include <stdlib.h>
#include <string.h>

#include "../io/json/json.h"

static int answer_print(const struct eval_answer *answer, struct buffer *out, struct error *error)
{
    int status = buffer_printf(out, error, "[%d, ", (int)answer->num_tokens);
    if (!status)
        status = json_python_print_number(answer->logprob_sum, out, error);
    if (!status)
        status = buffer_append(out, ", ", 2, error);
    if (!status)
        status = json_python_print_number(answer->prob_mean, out, error);
    if (!status && answer->keep_entropy)
        status = buffer_append(out, ", ", 2, error);
    if (!status && answer->keep_entropy)
        status = json_python_print_number(answer->entropy, out, error);
    for (int32_t t = 0; t < answer->num_tokens && answer->keep_tokens && !status; t++) {
        const struct eval_token *token = &answer->token[t];
        status = buffer_append(out, t ? ", " : ", [", t ? 2 : 3, error);
        if (!status)
            status = json_python_print_number(token->logprob, out, error);
        if (!status)
            status = buffer_append(out, ", ", 2, error);
        if (!status)
            status = json_python_print_number(token->standardised, out, error);
        if (!status)
            status = buffer_printf(out, error, ", %d", (int)token->argmax);
    }
    return status ? status : buffer_printf(out, error, "%s", answer->keep_tokens ? "]]" : "]");
}

static int generation_print(const struct eval_question *question, struct buffer *out, struct error *error)
{
    int status = buffer_printf(out, error, "[%d, ", (int)question->generated);
    if (!status)
        status = json_print_string(question->generation, strlen(question->generation), out, error);
    return status ? status : buffer_append(out, "]", 1, error);
}

int chunk_line_print(const struct question_list *list, const struct eval_chunk *chunk, int number, struct buffer *out,
                     struct error *error)
{
    bool first = true;
    int status = buffer_printf(out, error, "{\"chunk\": %d, \"%s\": [", number, chunk->continued ? "continued" : "scored");
    for (int i = 0; i < chunk->questions && !status; i++) {
        const struct eval_question *question = &list->question[chunk->question[i]];
        for (int a = 0; a < (chunk->continued ? 1 : question->answers) && !status; a++) {
            status = buffer_append(out, ", ", first ? 0 : 2, error);
            first = false;
            if (!status)
                status = chunk->continued ? generation_print(question, out, error)
                                          : answer_print(&list->answer[question->first_answer + a], out, error);
        }
    }
    return status ? status : buffer_append(out, "]}\n", 3, error);
}

static int damaged(struct error *error)
{
    return error_set(error, STATUS_INPUT, "not the results of these questions; remove the file to begin anew");
}

static int answer_read(struct eval_answer *answer, const cJSON *value, struct error *error)
{
    const cJSON *sum = cJSON_GetArrayItem(value, 1), *mean = cJSON_GetArrayItem(value, 2);
    const cJSON *entropy = answer->keep_entropy ? cJSON_GetArrayItem(value, 3) : NULL;
    const cJSON *tokens = cJSON_GetArrayItem(value, answer->keep_entropy ? 4 : 3);
    const int32_t num_tokens = answer->length - answer->answer_begin;
    if (!cJSON_IsNumber(sum) || !cJSON_IsNumber(mean) || (int32_t)value->child->valuedouble != num_tokens ||
        (answer->keep_entropy && !cJSON_IsNumber(entropy)) ||
        answer->keep_tokens != (cJSON_IsArray(tokens) && cJSON_GetArraySize(tokens) == 3 * num_tokens))
        return damaged(error);
    answer->num_tokens = num_tokens;
    answer->logprob_sum = sum->valuedouble;
    answer->prob_mean = mean->valuedouble;
    answer->entropy = entropy ? entropy->valuedouble : 0;
    free(answer->token);
    answer->token = NULL;
    if (!answer->keep_tokens)
        return STATUS_OK;
    if (!(answer->token = memory_array((size_t)num_tokens, sizeof *answer->token, error)))
        return STATUS_MEMORY;
    const cJSON *number = tokens->child;
    for (int32_t t = 0; t < num_tokens; t++, number = number->next->next->next)
        answer->token[t] = (struct eval_token){(float)number->valuedouble, (float)number->next->valuedouble,
                                               (int32_t)number->next->next->valuedouble};
    return STATUS_OK;
}

static int generation_read(struct eval_question *question, const cJSON *value, struct error *error)
{
    const cJSON *text = cJSON_GetArrayItem(value, 1);
    if (!cJSON_IsString(text) || !cJSON_IsNumber(value->child))
        return damaged(error);
    free(question->generation);
    question->generated = (int32_t)value->child->valuedouble;
    question->generation = memory_string(text->valuestring, error);
    return question->generation ? STATUS_OK : STATUS_MEMORY;
}

int chunk_line_read(struct question_list *list, const struct eval_chunk *chunks, int count, const char *text,
                    size_t length, int *number, struct error *error)
{
    cJSON *tree = json_parse_python(text, length, "results", error);
    int64_t which = -1;
    if (!tree)
        return error->status;
    int status = json_integer(json_member(tree, "chunk"), &which) && which >= 0 && which < count ? STATUS_OK : damaged(error);
    const struct eval_chunk *chunk = status ? NULL : &chunks[which];
    const cJSON *list_of = chunk ? json_member(tree, chunk->continued ? "continued" : "scored") : NULL;
    const cJSON *value = list_of ? list_of->child : NULL;
    for (int i = 0; chunk && i < chunk->questions && !status; i++) {
        struct eval_question *question = &list->question[chunk->question[i]];
        for (int a = 0; a < (chunk->continued ? 1 : question->answers) && !status; a++) {
            if (!cJSON_IsArray(value) || !cJSON_IsNumber(value->child))
                status = damaged(error);
            else
                status = chunk->continued ? generation_read(question, value, error)
                                          : answer_read(&list->answer[question->first_answer + a], value, error);
            value = status ? NULL : value->next;
        }
    }
    if (!status && value)
        status = damaged(error);
    *number = (int)which;
    cJSON_Delete(tree);
    return status;
}
