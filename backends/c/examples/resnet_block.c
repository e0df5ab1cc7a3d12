/*
 * A basic block of ResNet: relu(conv(relu(conv(x))) + x), two 3x3 convolutions with bias.
 *
 * It runs on one thread and on a pool of POSIX threads, compares the two bit by bit, compares the result with plain
 * loops, and prints why the algorithms were chosen.
 */

#include "thread_pool.h"

#include <convkernels.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 2, CHANNELS = 32, SIDE = 20, KERNEL = 3, THREADS = 2 };
enum {
    PIXELS = SIDE * SIDE,
    ACTIVATIONS = BATCH * CHANNELS * PIXELS,
    WEIGHTS = CHANNELS * CHANNELS * KERNEL * KERNEL
};

typedef struct {
    float weights[WEIGHTS];
    float bias[CHANNELS];
    ck_filter *filter;
    ck_plan *plan;
} conv_layer;

static void check(ck_status status, const ck_error *error)
{
    if (status != CK_STATUS_SUCCESS) {
        fprintf(stderr, "%s: %s\n", ck_status_string(status), error->message);
        exit(1);
    }
}

/* Numbers between -1 and 1 from a linear congruential generator. */
static void fill(float *values, size_t len, float scale)
{
    static uint32_t state = 1;
    for (size_t i = 0; i < len; i++) {
        state = 1664525u * state + 1013904223u;
        values[i] = scale * ((float)(state >> 8) / 8388608.0f - 1.0f);
    }
}

static void make_layer(conv_layer *layer, int residual)
{
    ck_error error;
    ck_conv_desc desc;
    check(ck_conv_desc_init(&desc, sizeof desc, &error), &error);
    desc.batch = BATCH;
    desc.channels = CHANNELS;
    desc.height = SIDE;
    desc.width = SIDE;
    desc.out_channels = CHANNELS;
    desc.kernel_h = KERNEL;
    desc.kernel_w = KERNEL;
    desc.pad_top = desc.pad_bottom = desc.pad_left = desc.pad_right = 1;
    desc.has_bias = 1;
    desc.has_residual = residual ? 1 : 0;
    desc.activation = CK_ACTIVATION_RELU;
    desc.max_threads = THREADS;

    fill(layer->weights, WEIGHTS, 0.1f);
    fill(layer->bias, CHANNELS, 0.5f);
    ck_weights weights = {0};
    weights.filter = layer->weights;
    weights.filter_len = WEIGHTS;
    weights.bias = layer->bias;
    weights.bias_len = CHANNELS;
    check(ck_filter_create(&desc, &weights, &layer->filter, &error), &error);
    check(ck_plan_create(&desc, layer->filter, &layer->plan, &error), &error);
}

static void free_layer(conv_layer *layer)
{
    ck_plan_destroy(layer->plan);
    ck_filter_destroy(layer->filter);
}

static void run_layer(const conv_layer *layer, const float *input, const float *residual, float *output, ck_buffer *scratch,
                      const ck_threads *threads)
{
    ck_error error;
    ck_io io = {{0}, {0}, {0}};
    io.input.data = input;
    io.input.len = ACTIVATIONS;
    io.output.data = output;
    io.output.len = ACTIVATIONS;
    io.residual.data = residual;
    io.residual.len = residual != NULL ? ACTIVATIONS : 0;
    check(ck_plan_run(layer->plan, &io, ck_buffer_data(scratch), ck_plan_workspace_size(layer->plan), threads, &error),
          &error);
}

/* `middle` is the activation between the two convolutions. */
static void run_block(const conv_layer layers[2], const float *input, float *middle, float *output, ck_buffer *scratch,
                      const ck_threads *threads)
{
    run_layer(&layers[0], input, NULL, middle, scratch, threads);
    run_layer(&layers[1], middle, input, output, scratch, threads);
}

/* The same by the definition of the convolution, in double precision. */
static void run_layer_naively(const conv_layer *layer, const float *input, const float *residual, float *output)
{
    for (int n = 0; n < BATCH; n++) {
        for (int o = 0; o < CHANNELS; o++) {
            for (int p = 0; p < PIXELS; p++) {
                double sum = layer->bias[o];
                for (int k = 0; k < CHANNELS * KERNEL * KERNEL; k++) {
                    int y = p / SIDE + k / KERNEL % KERNEL - 1, x = p % SIDE + k % KERNEL - 1;
                    if (y >= 0 && y < SIDE && x >= 0 && x < SIDE) {
                        int channel = n * CHANNELS + k / (KERNEL * KERNEL);
                        sum += (double)input[channel * PIXELS + y * SIDE + x] *
                               (double)layer->weights[o * CHANNELS * KERNEL * KERNEL + k];
                    }
                }
                int at = (n * CHANNELS + o) * PIXELS + p;
                sum += residual != NULL ? (double)residual[at] : 0.0;
                output[at] = sum > 0.0 ? (float)sum : 0.0f;
            }
        }
    }
}

static double relative_error(const float *got, const float *expected)
{
    double difference = 0.0, norm = 0.0;
    for (int i = 0; i < ACTIVATIONS; i++) {
        double distance = (double)got[i] - (double)expected[i];
        difference += distance * distance;
        norm += (double)expected[i] * (double)expected[i];
    }
    return sqrt(difference / norm);
}

static float *tensor(void)
{
    float *values = malloc(ACTIVATIONS * sizeof(float));
    if (values == NULL) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    return values;
}

int main(void)
{
    static conv_layer layers[2];
    ck_error error;
    make_layer(&layers[0], 0);
    make_layer(&layers[1], 1);
    printf("convkernels %s on %s\n%s%s", ck_version_string(), ck_isa_name(ck_isa_detect()),
           ck_plan_explain(layers[0].plan), ck_plan_explain(layers[1].plan));

    /* One workspace serves both layers. */
    size_t first = ck_plan_workspace_size(layers[0].plan), second = ck_plan_workspace_size(layers[1].plan);
    ck_buffer *scratch;
    check(ck_buffer_create((first > second ? first : second) / sizeof(float), &scratch, &error), &error);

    float *input = tensor(), *middle = tensor(), *on_one = tensor(), *on_pool = tensor(), *expected = tensor();
    fill(input, ACTIVATIONS, 1.0f);
    run_block(layers, input, middle, on_one, scratch, NULL);

    thread_pool pool;
    if (!thread_pool_start(&pool, THREADS)) {
        fprintf(stderr, "no threads\n");
        return 1;
    }
    ck_threads threads = {0};
    threads.threads = pool.threads;
    threads.parallelize = thread_pool_parallelize;
    threads.context = &pool;
    run_block(layers, input, middle, on_pool, scratch, &threads);
    thread_pool_stop(&pool);

    int same = memcmp(on_one, on_pool, ACTIVATIONS * sizeof(float)) == 0;
    run_layer_naively(&layers[0], input, NULL, middle);
    run_layer_naively(&layers[1], middle, input, expected);
    double distance = relative_error(on_one, expected);
    /* CK_NUMERICS_DEFAULT promises 2e-6 for each of the two layers. */
    int right = distance <= 4e-6;
    printf("%s bits on 1 thread and on %d, relative error %.1e: %s\n", same ? "the same" : "OTHER", THREADS, distance,
           same && right ? "right" : "WRONG");

    free(expected);
    free(on_pool);
    free(on_one);
    free(middle);
    free(input);
    ck_buffer_destroy(scratch);
    free_layer(&layers[1]);
    free_layer(&layers[0]);
    return same && right ? 0 : 1;
}
