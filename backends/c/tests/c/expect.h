/* Checks for the C tests, and the small convolution that they share. */

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

enum { CHANNELS = 16, SIDE = 12, INPUT = CHANNELS * SIDE * SIDE, FILTER = CHANNELS * CHANNELS * 9 };

static float filter_values[FILTER], bias_values[CHANNELS], input_values[INPUT];

static void fill_values(void)
{
    for (int i = 0; i < FILTER; i++) {
        filter_values[i] = (float)(i % 11) * 0.125f - 0.5f;
    }
    for (int i = 0; i < CHANNELS; i++) {
        bias_values[i] = (float)i * 0.25f - 1.0f;
    }
    for (int i = 0; i < INPUT; i++) {
        input_values[i] = (float)(i % 17) * 0.25f - 2.0f;
    }
}

/* A 3x3 convolution with padding 1 and bias. Its algorithm is forced, so that it needs a workspace on every machine. */
static ck_conv_desc small_desc(void)
{
    ck_conv_desc desc;
    EXPECT_STATUS(ck_conv_desc_init(&desc, sizeof desc, &error), CK_STATUS_SUCCESS, "");
    desc.batch = 1;
    desc.channels = desc.out_channels = CHANNELS;
    desc.height = desc.width = SIDE;
    desc.kernel_h = desc.kernel_w = 3;
    desc.pad_top = desc.pad_bottom = desc.pad_left = desc.pad_right = 1;
    desc.has_bias = 1;
    desc.algorithm = CK_ALGORITHM_IM2COL_GEMM;
    return desc;
}

static ck_weights small_weights(void)
{
    ck_weights weights = {0};
    weights.filter = filter_values;
    weights.filter_len = FILTER;
    weights.bias = bias_values;
    weights.bias_len = CHANNELS;
    return weights;
}

#endif
