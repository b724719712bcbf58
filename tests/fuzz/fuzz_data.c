/* fuzz_data.c - rows in any form. The first byte chooses the ending of the file and what is asked of the rows. */
#include "../../host/io/data/answer_list.h"
#include "../../host/io/data/dataset.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
    static const char *const name[] = {"rows.jsonl", "rows.json", "rows.csv", "rows.tsv", "rows.txt", "rows.jsonl.gz"};
    const struct dataset_options keys = {"question", "answer"};
    struct error error = {0};
    struct dataset rows = {0};
    struct answer_list answers = {0};
    if (!length)
        return 0;
    const char *path = fuzz_file(name[*data % 6], data + 1, length - 1);
    int status = dataset_read(&rows, path, &keys, *data / 6 % 8, &error);
    if (status)
        fuzz_refused(status, &error, STATUS_INPUT);
    else
        FUZZ_CHECK(rows.rows > 0);
    for (int i = 0; i < rows.rows && !status; i++)
        FUZZ_CHECK(!(*data / 6 % 8 & DATASET_ANSWERS) || rows.row[i].answer || rows.row[i].form == ROW_TEXT);
    dataset_free(&rows);
    error = (struct error){0};
    status = answer_list_read(&answers, path, &error);
    if (status)
        fuzz_refused(status, &error, STATUS_INPUT);
    for (int i = 0; i < answers.count; i++)
        FUZZ_CHECK(answers.text[i][0]);
    answer_list_free(&answers);
    unlink(path);
    return 0;
}
