/* Gradients and transposed convolutions: against plain loops, and with hostile arguments. */

#include "expect.h"

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

/* A strided convolution in two groups, from the LARGE to the SMALL tensor. */
enum { BATCH = 2, GROUPS = 2, LARGE_C = 6, SMALL_C = 4, LARGE = 9, SMALL = 5, KERNEL = 3, STRIDE = 2, PAD = 1 };
enum {
    LARGE_LEN = BATCH * LARGE_C * LARGE * LARGE,
    SMALL_LEN = BATCH * SMALL_C * SMALL * SMALL,
    PER_GROUP = LARGE_C / GROUPS,
    WEIGHTS = SMALL_C * PER_GROUP * KERNEL * KERNEL
};

static float large[LARGE_LEN], small[SMALL_LEN], weights[WEIGHTS], bias[LARGE_C];

static void fill_tensors(void)
{
    for (int i = 0; i < LARGE_LEN; i++) {
        large[i] = (float)(i * 7 % 19) * 0.125f - 1.0f;
    }
    for (int i = 0; i < SMALL_LEN; i++) {
        small[i] = (float)(i * 5 % 23) * 0.125f - 1.25f;
    }
    for (int i = 0; i < WEIGHTS; i++) {
        weights[i] = (float)(i * 3 % 13) * 0.25f - 1.5f;
    }
    for (int i = 0; i < LARGE_C; i++) {
        bias[i] = (float)i - 2.0f;
    }
}

/* One product of the convolution: places in the small tensor, in the weights and in the large tensor. */
typedef void (*term)(size_t in_small, size_t in_weights, size_t in_large);

static void for_all_terms(term call)
{
    for (int n = 0; n < BATCH; n++) {
        for (int o = 0; o < SMALL_C; o++) {
            for (int at = 0; at < SMALL * SMALL * PER_GROUP * KERNEL * KERNEL; at++) {
                const int kx = at % KERNEL, ky = at / KERNEL % KERNEL, i = at / (KERNEL * KERNEL) % PER_GROUP;
                const int pixel = at / (KERNEL * KERNEL * PER_GROUP), y = pixel / SMALL, x = pixel % SMALL;
                const int row = y * STRIDE + ky - PAD, column = x * STRIDE + kx - PAD;
                const int c = o / (SMALL_C / GROUPS) * PER_GROUP + i;
                if (row < 0 || column < 0 || row >= LARGE || column >= LARGE) {
                    continue;
                }
                call((size_t)((n * SMALL_C + o) * SMALL * SMALL + pixel),
                     (size_t)(((o * PER_GROUP + i) * KERNEL + ky) * KERNEL + kx),
                     (size_t)(((n * LARGE_C + c) * LARGE + row) * LARGE + column));
            }
        }
    }
}

static double expected_large[LARGE_LEN], expected_weights[WEIGHTS];

static void add_to_large(size_t in_small, size_t in_weights, size_t in_large)
{
    expected_large[in_large] += (double)small[in_small] * (double)weights[in_weights];
}

static void add_to_weights(size_t in_small, size_t in_weights, size_t in_large)
{
    expected_weights[in_weights] += (double)small[in_small] * (double)large[in_large];
}

/* No element of the tensors is larger. */
#define LARGEST 2.0

/* Within the rounding errors of a sum of so many products. Transforms add a small factor. */
static void expect_close(const float *got, const double *expected, size_t len, int terms)
{
    const double bound = 8.0 * FLT_EPSILON * (double)terms * LARGEST * LARGEST;
    for (size_t i = 0; i < len; i++) {
        if (!(fabs((double)got[i] - expected[i]) <= bound)) {
            printf("element %zu: expected %.9g within %.1e, got %.9g\n", i, expected[i], bound, (double)got[i]);
            EXPECT(!"close");
            return;
        }
    }
    EXPECT(len > 0);
}

enum { DATA_TERMS = SMALL_C / GROUPS * KERNEL * KERNEL, PIXEL_TERMS = BATCH * SMALL * SMALL };

static ck_conv_desc strided_desc(void)
{
    ck_conv_desc desc;
    EXPECT_STATUS(ck_conv_desc_init(&desc, sizeof desc, &error), CK_STATUS_SUCCESS, "");
    desc.batch = BATCH;
    desc.channels = LARGE_C;
    desc.out_channels = SMALL_C;
    desc.height = desc.width = LARGE;
    desc.kernel_h = desc.kernel_w = KERNEL;
    desc.stride_h = desc.stride_w = STRIDE;
    desc.pad_top = desc.pad_bottom = desc.pad_left = desc.pad_right = PAD;
    desc.groups = GROUPS;
    return desc;
}

static ck_weights strided_weights(void)
{
    ck_weights of = {0};
    of.filter = weights;
    of.filter_len = WEIGHTS;
    return of;
}

static void test_backward_data(void)
{
    const ck_conv_desc desc = strided_desc();
    ck_weights of = strided_weights();
    static float gradient[LARGE_LEN];
    ck_backward_data_io io = {{0}, {0}};
    io.grad_output.data = small;
    io.grad_output.len = SMALL_LEN;
    io.grad_input.data = gradient;
    io.grad_input.len = LARGE_LEN;
    for (uint32_t accumulate = 0; accumulate < 2; accumulate++) {
        ck_backward_data *backward = NULL;
        EXPECT_STATUS(ck_backward_data_create(&desc, &of, accumulate, &backward, &error), CK_STATUS_SUCCESS, "");
        const size_t bytes = ck_backward_data_workspace_size(backward);
        EXPECT(bytes > 0 && ck_backward_data_packed_bytes(backward) > 0);
        /* Not initialised: valgrind watches what is read of it. */
        void *scratch = malloc(bytes);
        EXPECT_STATUS(ck_backward_data_run(backward, &io, scratch, bytes, NULL, &error), CK_STATUS_SUCCESS, "");
        /* The second one is added to the first one. */
        static double expected[LARGE_LEN];
        for (size_t i = 0; i < LARGE_LEN; i++) {
            expected[i] = expected_large[i] * (double)(1 + accumulate);
        }
        expect_close(gradient, expected, LARGE_LEN, 2 * DATA_TERMS);

        const ck_status invalid = CK_STATUS_INVALID_ARGUMENT, null = CK_STATUS_NULL_POINTER;
        ck_backward_data_io bad = io;
        bad.grad_output.len--;
        EXPECT_STATUS(ck_backward_data_run(backward, &bad, scratch, bytes, NULL, &error), invalid, "grad_output");
        bad = io;
        bad.grad_input.data = NULL;
        EXPECT_STATUS(ck_backward_data_run(backward, &bad, scratch, bytes, NULL, &error), null, "grad_input");
        bad = io;
        bad.grad_output.data = gradient + 1;
        EXPECT_STATUS(ck_backward_data_run(backward, &bad, scratch, bytes, NULL, &error), invalid,
                      "grad_input: expected memory apart from the grad_output");
        EXPECT_STATUS(ck_backward_data_run(backward, &io, scratch, bytes - 1, NULL, &error),
                      CK_STATUS_WORKSPACE_TOO_SMALL, "workspace");
        EXPECT_STATUS(ck_backward_data_run(backward, NULL, scratch, bytes, NULL, &error), null, "io");
        EXPECT_STATUS(ck_backward_data_run(NULL, &io, scratch, bytes, NULL, &error), null, "backward");
        free(scratch);
        ck_backward_data_destroy(backward);
    }
    ck_backward_data *none = (ck_backward_data *)1;
    EXPECT_STATUS(ck_backward_data_create(&desc, &of, 2, &none, &error), CK_STATUS_INVALID_ARGUMENT, "accumulate");
    EXPECT(none == NULL);
    ck_conv_desc activated = desc;
    activated.activation = CK_ACTIVATION_RELU;
    EXPECT_STATUS(ck_backward_data_create(&activated, &of, 0, &none, &error), CK_STATUS_INVALID_ARGUMENT,
                  "multiply the gradient of the output");
    of.filter_len--;
    EXPECT_STATUS(ck_backward_data_create(&desc, &of, 0, &none, &error), CK_STATUS_INVALID_ARGUMENT, "filter");
    EXPECT(ck_backward_data_workspace_size(NULL) == 0 && ck_backward_data_packed_bytes(NULL) == 0);
    ck_backward_data_destroy(NULL);
}

static void test_backward_weights(void)
{
    ck_conv_desc desc = strided_desc();
    static float of_weights[WEIGHTS], of_bias[SMALL_C];
    static double expected_bias[SMALL_C];
    for (size_t i = 0; i < SMALL_LEN; i++) {
        expected_bias[i / (SMALL * SMALL) % SMALL_C] += (double)small[i];
    }
    ck_backward_weights_io io = {{0}, {0}, NULL, 0, NULL, 0};
    io.input.data = large;
    io.input.len = LARGE_LEN;
    io.grad_output.data = small;
    io.grad_output.len = SMALL_LEN;
    io.grad_filter = of_weights;
    io.grad_filter_len = WEIGHTS;
    for (uint32_t has_bias = 0; has_bias < 2; has_bias++) {
        desc.has_bias = has_bias;
        ck_backward_weights *backward = NULL;
        EXPECT_STATUS(ck_backward_weights_create(&desc, 0, &backward, &error), CK_STATUS_SUCCESS, "");
        const size_t bytes = ck_backward_weights_workspace_size(backward);
        void *scratch = bytes ? malloc(bytes) : NULL;
        io.grad_bias = has_bias ? of_bias : NULL;
        io.grad_bias_len = has_bias ? SMALL_C : 0;
        EXPECT_STATUS(ck_backward_weights_run(backward, &io, scratch, bytes, NULL, &error), CK_STATUS_SUCCESS, "");
        expect_close(of_weights, expected_weights, WEIGHTS, PIXEL_TERMS);
        if (has_bias) {
            expect_close(of_bias, expected_bias, SMALL_C, PIXEL_TERMS);
        }

        const ck_status invalid = CK_STATUS_INVALID_ARGUMENT;
        ck_backward_weights_io bad = io;
        bad.grad_filter_len--;
        EXPECT_STATUS(ck_backward_weights_run(backward, &bad, scratch, bytes, NULL, &error), invalid, "grad_filter");
        bad = io;
        bad.grad_bias = has_bias ? NULL : of_bias;
        bad.grad_bias_len = has_bias ? 0 : SMALL_C;
        EXPECT_STATUS(ck_backward_weights_run(backward, &bad, scratch, bytes, NULL, &error), invalid,
                      "gradient of the bias");
        bad = io;
        bad.grad_bias = of_weights + WEIGHTS - 1;
        bad.grad_bias_len = SMALL_C;
        EXPECT_STATUS(ck_backward_weights_run(backward, &bad, scratch, bytes, NULL, &error), invalid,
                      "grad_filter: expected memory apart from the grad_bias");
        bad = io;
        bad.input.data = of_weights;
        EXPECT_STATUS(ck_backward_weights_run(backward, &bad, scratch, bytes, NULL, &error), invalid, "apart from");
        bad = io;
        bad.input.data = NULL;
        EXPECT_STATUS(ck_backward_weights_run(backward, &bad, scratch, bytes, NULL, &error), CK_STATUS_NULL_POINTER,
                      "input");
        free(scratch);
        ck_backward_weights_destroy(backward);
    }
    ck_backward_weights *none = NULL;
    EXPECT_STATUS(ck_backward_weights_create(&desc, 7, &none, &error), CK_STATUS_INVALID_ARGUMENT, "accumulate");
    EXPECT_STATUS(ck_backward_weights_create(NULL, 0, &none, &error), CK_STATUS_NULL_POINTER, "desc");
    EXPECT(ck_backward_weights_workspace_size(NULL) == 0);
    ck_backward_weights_destroy(NULL);
}

/* The transposed convolution from the small to the large tensor is the gradient above, with a bias. */
static void test_transposed(void)
{
    ck_conv_desc desc = strided_desc();
    desc.channels = SMALL_C;
    desc.out_channels = LARGE_C;
    desc.height = desc.width = SMALL;
    desc.has_bias = 1;
    ck_weights of = strided_weights();
    of.bias = bias;
    of.bias_len = LARGE_C;
    ck_transposed *transposed = NULL;
    EXPECT_STATUS(ck_transposed_create(&desc, &of, 0, 0, &transposed, &error), CK_STATUS_SUCCESS, "");
    const ck_shape shape = ck_transposed_output_shape(transposed);
    EXPECT(shape.n == BATCH && shape.c == LARGE_C && shape.h == LARGE && shape.w == LARGE);
    EXPECT(ck_transposed_output_len(transposed) == LARGE_LEN && ck_transposed_packed_bytes(transposed) > 0);
    const size_t bytes = ck_transposed_workspace_size(transposed);
    void *scratch = malloc(bytes);
    float *output = malloc(LARGE_LEN * sizeof *output);
    ck_io io = {{0}, {0}, {0}};
    io.input.data = small;
    io.input.len = SMALL_LEN;
    io.output.data = output;
    io.output.len = LARGE_LEN;
    EXPECT_STATUS(ck_transposed_run(transposed, &io, scratch, bytes, NULL, &error), CK_STATUS_SUCCESS, "");
    static double expected[LARGE_LEN];
    for (size_t i = 0; i < LARGE_LEN; i++) {
        expected[i] = expected_large[i] + (double)bias[i / (LARGE * LARGE) % LARGE_C];
    }
    expect_close(output, expected, LARGE_LEN, DATA_TERMS + 1);

    io.output.len--;
    EXPECT_STATUS(ck_transposed_run(transposed, &io, scratch, bytes, NULL, &error), CK_STATUS_INVALID_ARGUMENT,
                  "output");
    io.output.len = LARGE_LEN;
    EXPECT_STATUS(ck_transposed_run(transposed, &io, NULL, 0, NULL, &error), CK_STATUS_WORKSPACE_TOO_SMALL,
                  "workspace");
    EXPECT_STATUS(ck_transposed_run(NULL, &io, scratch, bytes, NULL, &error), CK_STATUS_NULL_POINTER, "transposed");
    free(output);
    free(scratch);
    ck_transposed_destroy(transposed);

    EXPECT_STATUS(ck_transposed_create(&desc, &of, 1, 1, &transposed, &error), CK_STATUS_SUCCESS, "");
    EXPECT(ck_transposed_output_shape(transposed).h == LARGE + 1);
    ck_transposed_destroy(transposed);
    EXPECT_STATUS(ck_transposed_create(&desc, &of, 2, 0, &transposed, &error), CK_STATUS_INVALID_ARGUMENT,
                  "output_pad");
    EXPECT(transposed == NULL);
    desc.output_layout = CK_LAYOUT_NCHW16C;
    EXPECT_STATUS(ck_transposed_create(&desc, &of, 0, 0, &transposed, &error), CK_STATUS_INVALID_ARGUMENT,
                  "output_layout: expected the layout of the input");
    EXPECT(ck_transposed_workspace_size(NULL) == 0 && ck_transposed_output_len(NULL) == 0);
    EXPECT(ck_transposed_output_shape(NULL).n == 0 && ck_transposed_packed_bytes(NULL) == 0);
    ck_transposed_destroy(NULL);
}

int main(void)
{
    fill_tensors();
    for_all_terms(add_to_large);
    for_all_terms(add_to_weights);
    test_backward_data();
    test_backward_weights();
    test_transposed();
    return report("gradients");
}
