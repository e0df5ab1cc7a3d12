/* Checks for the C tests. */

#ifndef EXPECT_H
#define EXPECT_H

#include <convkernels.h>

#include <stdio.h>
#include <string.h>

static int checks = 0, failures = 0;

#define EXPECT(condition)                                                                                              \
    do {                                                                                                               \
        checks++;                                                                                                      \
        if (!(condition)) {                                                                                            \
            failures++;                                                                                                \
            printf("%s:%d: expected %s\n", __FILE__, __LINE__, #condition);                                            \
        }                                                                                                              \
    } while (0)

/* The call must return `expected`, and its message must contain `words`. `error` is the struct that the call got. */
#define EXPECT_STATUS(call, expected, words) expect_status(__FILE__, __LINE__, (call), (expected), (words))

static ck_error error;

static void expect_status(const char *file, int line, ck_status got, ck_status expected, const char *words)
{
    checks++;
    if (got != expected || error.status != got || strstr(error.message, words) == NULL ||
        (got == CK_STATUS_SUCCESS) != (error.message[0] == '\0')) {
        failures++;
        printf("%s:%d: expected %s with \"%s\", got %s (%s) with \"%s\"\n", file, line, ck_status_string(expected),
               words, ck_status_string(got), ck_status_string(error.status), error.message);
    }
}

static int report(const char *name)
{
    printf("%s: %d checks, %d failures\n", name, checks, failures);
    return failures == 0 && checks > 0 ? 0 : 1;
}

#endif
