/* The small convolution that C tests share. */

#ifndef SMALL_H
#define SMALL_H

#include "expect.h"

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
