/* Hostile tensors, workspaces and callbacks, and what a run must do right. */

#include "small.h"
#include "thread_pool.h"

#include <stdint.h>
#include <stdlib.h>

static ck_plan *small_plan(const ck_conv_desc *desc)
{
    ck_weights weights = small_weights();
    ck_plan *plan = NULL;
    EXPECT_STATUS(ck_plan_create_with_weights(desc, &weights, &plan, &error), CK_STATUS_SUCCESS, "");
    return plan;
}

static ck_io small_io(float *output)
{
    ck_io io = {{0}, {0}, {0}};
    io.input.data = input_values;
    io.input.len = INPUT;
    io.output.data = output;
    io.output.len = INPUT;
    return io;
}

/* What a run on one thread computes. */
static float right[INPUT];

/* The run must be refused, and must leave the output as it was. */
static void refused(const ck_plan *plan, const ck_io *io, void *workspace, size_t bytes, ck_status status,
                    const char *words)
{
    float before[INPUT];
    memcpy(before, right, sizeof before);
    EXPECT_STATUS(ck_plan_run(plan, io, workspace, bytes, NULL, &error), status, words);
    EXPECT(memcmp(before, right, sizeof before) == 0);
}

static void test_tensors(const ck_plan *plan, float *scratch, size_t bytes)
{
    const ck_status invalid = CK_STATUS_INVALID_ARGUMENT;
    ck_io io = small_io(right);
    EXPECT_STATUS(ck_plan_run(plan, NULL, scratch, bytes, NULL, &error), CK_STATUS_NULL_POINTER, "io");
    io.input.data = NULL;
    refused(plan, &io, scratch, bytes, CK_STATUS_NULL_POINTER, "input: expected a pointer, got NULL");
    io = small_io(NULL);
    refused(plan, &io, scratch, bytes, CK_STATUS_NULL_POINTER, "output");
    io = small_io(right);
    io.input.len--;
    refused(plan, &io, scratch, bytes, invalid, "input: expected 2304 elements, got 2303");
    io = small_io(right);
    io.output.len = 7;
    refused(plan, &io, scratch, bytes, invalid, "output: expected 2304 elements, got 7");
    io.output.len = SIZE_MAX / 4;
    refused(plan, &io, scratch, bytes, invalid, "output: expected a length that fits the address space");
    io.output.len = 0;
    refused(plan, &io, scratch, bytes, invalid, "output: expected 2304 elements, got 0");
    io = small_io(right);
    io.input.data = (const float *)(UINTPTR_MAX - 3);
    refused(plan, &io, scratch, bytes, invalid, "input: expected a length that fits the address space");
    io.input.data = (const float *)(const void *)((const char *)input_values + 2);
    refused(plan, &io, scratch, bytes, invalid, "input: expected an address that is a multiple of 4");
    io = small_io(right);
    io.input.pixel_pitch = 3;
    refused(plan, &io, scratch, bytes, invalid, "input: pitch.pixel: expected 1 in nchw, got 3");
    io.input.pixel_pitch = 1;
    refused(plan, &io, scratch, bytes, invalid, "input: pitch.image: expected at least");
    io.input.image_pitch = SIZE_MAX;
    EXPECT_STATUS(ck_plan_run(plan, &io, scratch, bytes, NULL, &error), CK_STATUS_SUCCESS, "");

    io = small_io(right);
    io.input.data = right;
    refused(plan, &io, scratch, bytes, invalid, "output: expected memory apart from the input, got an overlap of 9216");
    io.input.data = right + 1;
    io.input.len = INPUT - 1;
    refused(plan, &io, scratch, bytes, invalid, "overlap of 9212 bytes");
    io = small_io(right);
    io.residual.data = input_values;
    io.residual.len = INPUT;
    refused(plan, &io, scratch, bytes, invalid, "residual: expected none");
    io.residual.data = NULL;
    refused(plan, &io, scratch, bytes, CK_STATUS_NULL_POINTER, "residual");
}

static void test_workspaces(const ck_plan *plan, float *scratch, size_t bytes)
{
    ck_io io = small_io(right);
    refused(plan, &io, scratch, bytes - 1, CK_STATUS_WORKSPACE_TOO_SMALL, "workspace: expected at least");
    refused(plan, &io, NULL, 0, CK_STATUS_WORKSPACE_TOO_SMALL, "bytes, got 0");
    refused(plan, &io, NULL, bytes, CK_STATUS_NULL_POINTER, "workspace");
    refused(plan, &io, (char *)scratch + 1, bytes, CK_STATUS_INVALID_ARGUMENT, "workspace: expected an address");
    refused(plan, &io, right, bytes > sizeof right ? bytes : sizeof right, CK_STATUS_INVALID_ARGUMENT,
            "output: expected memory apart from the workspace");
    /* Any multiple of 4 will do, and any contents. */
    float *odd = malloc(bytes + 4);
    memset(odd, 0xff, bytes + 4);
    float output[INPUT];
    io = small_io(output);
    EXPECT_STATUS(ck_plan_run(plan, &io, odd + 1, bytes, NULL, &error), CK_STATUS_SUCCESS, "");
    EXPECT(memcmp(output, right, sizeof output) == 0);
    free(odd);
}

typedef struct {
    ck_part part;
    void *task;
    size_t index;
} one_part;

static void *run_part(void *argument)
{
    one_part *one = argument;
    one->part(one->task, one->index);
    return NULL;
}

static void backwards(void *context, size_t parts, ck_part part, void *task)
{
    ++*(int *)context;
    while (parts-- > 0) {
        part(task, parts);
    }
}

static void idle(void *context, size_t parts, ck_part part, void *task)
{
    ++*(int *)context;
    (void)parts, (void)part, (void)task;
}

static void nonsense(void *context, size_t parts, ck_part part, void *task)
{
    ++*(int *)context;
    part(task, parts);
    part(task, SIZE_MAX);
    part(NULL, 0);
    part(task, 0);
    part(task, 0);
}

/* The same part on two threads at the same time. */
static void twice_at_once(void *context, size_t parts, ck_part part, void *task)
{
    ++*(int *)context;
    for (size_t index = 0; index < parts; index++) {
        one_part one = {part, task, index};
        pthread_t other;
        int started = pthread_create(&other, NULL, run_part, &one) == 0;
        part(task, index);
        if (started) {
            pthread_join(other, NULL);
        }
    }
}

static void test_callbacks(const ck_plan *plan, float *scratch, size_t bytes)
{
    static const ck_parallelize rude[] = {backwards, idle, nonsense, twice_at_once};
    float *output = malloc(sizeof right);
    ck_io io = small_io(output);
    for (size_t i = 0; i < sizeof rude / sizeof rude[0]; i++) {
        int calls = 0;
        ck_threads threads = {0};
        threads.threads = i == 0 ? SIZE_MAX : 4;
        threads.parallelize = rude[i];
        threads.context = &calls;
        memset(output, 0xff, sizeof right);
        EXPECT_STATUS(ck_plan_run(plan, &io, scratch, bytes, &threads, &error), CK_STATUS_SUCCESS, "");
        EXPECT(memcmp(output, right, sizeof right) == 0);
        EXPECT(calls == 1);
    }
    int calls = 0;
    ck_threads threads = {0};
    EXPECT_STATUS(ck_plan_run(plan, &io, scratch, bytes, &threads, &error), CK_STATUS_NULL_POINTER, "parallelize");
    threads.parallelize = backwards;
    threads.context = &calls;
    EXPECT_STATUS(ck_plan_run(plan, &io, scratch, bytes, &threads, &error), CK_STATUS_INVALID_ARGUMENT, "at least 1");
    EXPECT(calls == 0);
    free(output);
}

typedef struct {
    const ck_plan *plan;
    const ck_io *io;
    float *scratch;
    size_t bytes;
} forward_pass;

static void forward(void *context, const ck_threads *threads)
{
    const forward_pass *pass = context;
    for (int layer = 0; layer < 3; layer++) {
        EXPECT_STATUS(ck_plan_run(pass->plan, pass->io, pass->scratch, pass->bytes, threads, &error), CK_STATUS_SUCCESS,
                      "");
    }
}

static void test_pools(const ck_plan *plan, float *scratch, size_t bytes)
{
    float output[INPUT];
    ck_io io = small_io(output);
    ck_pool *pool;
    EXPECT_STATUS(ck_pool_create(2, &pool, &error), CK_STATUS_SUCCESS, "");
    EXPECT(ck_pool_threads(pool) == 2);
    ck_threads threads = {0};
    threads.pool = pool;
    EXPECT_STATUS(ck_plan_run(plan, &io, scratch, bytes, &threads, &error), CK_STATUS_SUCCESS, "");
    EXPECT(memcmp(output, right, sizeof right) == 0);
    memset(output, 0xff, sizeof right);
    forward_pass pass = {plan, &io, scratch, bytes};
    EXPECT_STATUS(ck_pool_keep_awake(pool, forward, &pass, &error), CK_STATUS_SUCCESS, "");
    EXPECT(memcmp(output, right, sizeof right) == 0);
    EXPECT_STATUS(ck_pool_keep_awake(pool, NULL, NULL, &error), CK_STATUS_NULL_POINTER, "work");
    threads.parallelize = backwards;
    EXPECT_STATUS(ck_plan_run(plan, &io, scratch, bytes, &threads, &error), CK_STATUS_INVALID_ARGUMENT, "got both");
    ck_pool_destroy(pool);

    thread_pool own;
    EXPECT(thread_pool_start(&own, 3));
    ck_threads caller = {0};
    caller.threads = own.threads;
    caller.parallelize = thread_pool_parallelize;
    caller.context = &own;
    for (int i = 0; i < 20; i++) {
        memset(output, 0xff, sizeof right);
        EXPECT_STATUS(ck_plan_run(plan, &io, scratch, bytes, &caller, &error), CK_STATUS_SUCCESS, "");
        EXPECT(memcmp(output, right, sizeof right) == 0);
    }
    thread_pool_stop(&own);
}

/* The output is the upper half of the channels of a wider NHWC tensor. */
static void test_pitches(void)
{
    ck_conv_desc desc = small_desc();
    desc.layout = CK_LAYOUT_NHWC;
    ck_plan *plan = small_plan(&desc);
    size_t bytes = ck_plan_workspace_size(plan);
    float *scratch = malloc(bytes), packed[INPUT], wide[2 * INPUT];
    ck_io io = small_io(packed);
    EXPECT_STATUS(ck_plan_run(plan, &io, scratch, bytes, NULL, &error), CK_STATUS_SUCCESS, "");
    memset(wide, 0, sizeof wide);
    io.output.data = wide + CHANNELS;
    io.output.len = 2 * INPUT - CHANNELS;
    io.output.pixel_pitch = 2 * CHANNELS;
    io.output.image_pitch = 2 * INPUT;
    EXPECT_STATUS(ck_plan_run(plan, &io, scratch, bytes, NULL, &error), CK_STATUS_SUCCESS, "");
    int same = 1;
    for (int i = 0; i < INPUT; i++) {
        const float *pixel = wide + i / CHANNELS * 2 * CHANNELS;
        same &= pixel[CHANNELS + i % CHANNELS] == packed[i] && pixel[i % CHANNELS] == 0.0f;
    }
    EXPECT(same);
    io.output.len--;
    EXPECT_STATUS(ck_plan_run(plan, &io, scratch, bytes, NULL, &error), CK_STATUS_INVALID_ARGUMENT, "output: expected");
    free(scratch);
    ck_plan_destroy(plan);
}

/* All weights and inputs are bf16 numbers, and all sums are exact, so every kind of products computes the same. */
static void test_products(void)
{
    static const ck_products all[] = {CK_PRODUCTS_F32, CK_PRODUCTS_BF16X6, CK_PRODUCTS_BF16X3, CK_PRODUCTS_BF16};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        ck_conv_desc desc = small_desc();
        desc.products = (uint32_t)all[i];
        ck_plan *plan = small_plan(&desc);
        size_t bytes = ck_plan_workspace_size(plan);
        float *scratch = malloc(bytes), output[INPUT];
        ck_io io = small_io(output);
        EXPECT(ck_plan_algorithm(plan) == CK_ALGORITHM_IM2COL_GEMM && ck_plan_products(plan) == all[i]);
        EXPECT_STATUS(ck_plan_run(plan, &io, scratch, bytes, NULL, &error), CK_STATUS_SUCCESS, "");
        EXPECT(memcmp(output, right, sizeof right) == 0);
        free(scratch);
        ck_plan_destroy(plan);
    }
}

static void test_changing_shapes(void)
{
    ck_conv_desc desc = small_desc();
    desc.has_residual = 1;
    ck_weights weights = small_weights();
    ck_conv *conv;
    desc.algorithm = CK_ALGORITHM_MEASURED;
    EXPECT_STATUS(ck_conv_create(&desc, &weights, 4, &conv, &error), CK_STATUS_UNSUPPORTED, "CK_ALGORITHM_MEASURED");
    desc.algorithm = CK_ALGORITHM_IM2COL_GEMM;
    EXPECT_STATUS(ck_conv_create(&desc, &weights, 0, &conv, &error), CK_STATUS_SUCCESS, "");
    float output[INPUT], zero[INPUT] = {0};
    ck_io io = small_io(output);
    ck_shape shape = {1, CHANNELS, SIDE, SIDE}, out;
    EXPECT_STATUS(ck_conv_run(conv, &shape, &io, NULL, &error), CK_STATUS_INVALID_ARGUMENT, "residual: expected one");
    io.residual.data = zero;
    io.residual.len = INPUT;
    EXPECT_STATUS(ck_conv_run(conv, &shape, &io, NULL, &error), CK_STATUS_SUCCESS, "");
    EXPECT(memcmp(output, right, sizeof right) == 0);
    io.residual.data = output;
    EXPECT_STATUS(ck_conv_run(conv, &shape, &io, NULL, &error), CK_STATUS_INVALID_ARGUMENT, "apart from the residual");
    EXPECT_STATUS(ck_conv_run(conv, NULL, &io, NULL, &error), CK_STATUS_NULL_POINTER, "input");
    EXPECT_STATUS(ck_conv_run(conv, &shape, NULL, NULL, &error), CK_STATUS_NULL_POINTER, "io");
    ck_plan *plan;
    EXPECT_STATUS(ck_conv_plan(conv, &shape, NULL, &plan, &error), CK_STATUS_SUCCESS, "");
    EXPECT(ck_plan_algorithm(plan) == CK_ALGORITHM_IM2COL_GEMM);
    io.residual.data = zero;
    shape.c = 5;
    EXPECT_STATUS(ck_conv_run(conv, &shape, &io, NULL, &error), CK_STATUS_INVALID_ARGUMENT, "filter: expected extents");
    shape.c = CHANNELS;
    shape.n = 0;
    EXPECT_STATUS(ck_conv_run(conv, &shape, &io, NULL, &error), CK_STATUS_INVALID_ARGUMENT, "input.n");
    shape.n = 3;
    EXPECT_STATUS(ck_conv_output_shape(conv, &shape, &out, &error), CK_STATUS_SUCCESS, "");
    EXPECT(out.n == 3 && out.c == CHANNELS && out.h == SIDE && out.w == SIDE);
    shape.h = SIZE_MAX;
    EXPECT_STATUS(ck_conv_output_shape(conv, &shape, &out, &error), CK_STATUS_INVALID_ARGUMENT, "overflow");
    size_t bytes = ck_conv_bytes(conv);
    ck_conv_clear(conv);
    EXPECT(ck_conv_bytes(conv) < bytes);
    ck_conv_destroy(conv);
    /* The plan has its own share of the weights. */
    EXPECT(strstr(ck_plan_explain(plan), "im2col_gemm") != NULL);
    ck_plan_destroy(plan);
}

/* One of several threads that share a plan and a convolution. */
typedef struct {
    const ck_plan *plan;
    const ck_conv *conv;
    int right;
} sharer;

static void *share(void *argument)
{
    sharer *self = argument;
    size_t bytes = ck_plan_workspace_size(self->plan);
    float *scratch = malloc(bytes), *output = malloc(sizeof right);
    ck_io io = small_io(output);
    ck_shape shape = {1, CHANNELS, SIDE, SIDE};
    ck_error own;
    self->right = 1;
    for (int i = 0; i < 20; i++) {
        memset(output, 0xff, sizeof right);
        ck_status status = i % 2 == 0 ? ck_plan_run(self->plan, &io, scratch, bytes, NULL, &own)
                                      : ck_conv_run(self->conv, &shape, &io, NULL, &own);
        self->right &= status == CK_STATUS_SUCCESS && memcmp(output, right, sizeof right) == 0;
        self->right &= ck_plan_explain(self->plan)[0] != '\0';
    }
    free(output);
    free(scratch);
    return NULL;
}

static void test_sharing(const ck_plan *plan)
{
    enum { SHARERS = 4 };
    ck_conv_desc desc = small_desc();
    ck_weights weights = small_weights();
    ck_conv *conv;
    EXPECT_STATUS(ck_conv_create(&desc, &weights, 1, &conv, &error), CK_STATUS_SUCCESS, "");
    pthread_t threads[SHARERS];
    sharer sharers[SHARERS];
    for (int i = 0; i < SHARERS; i++) {
        sharer one = {plan, conv, 0};
        sharers[i] = one;
        EXPECT(pthread_create(&threads[i], NULL, share, &sharers[i]) == 0);
    }
    for (int i = 0; i < SHARERS; i++) {
        pthread_join(threads[i], NULL);
        EXPECT(sharers[i].right);
    }
    ck_conv_destroy(conv);
}

int main(void)
{
    fill_values();
    ck_conv_desc desc = small_desc();
    desc.max_threads = 4;
    desc.macs_per_thread = 1;
    ck_plan *plan = small_plan(&desc);
    size_t bytes = ck_plan_workspace_size(plan);
    float *scratch = malloc(bytes);
    ck_io io = small_io(right);
    EXPECT(bytes > 0 && ck_plan_input_len(plan) == INPUT && ck_plan_output_len(plan) == INPUT);
    EXPECT_STATUS(ck_plan_run(plan, &io, scratch, bytes, NULL, &error), CK_STATUS_SUCCESS, "");
    test_tensors(plan, scratch, bytes);
    test_workspaces(plan, scratch, bytes);
    test_callbacks(plan, scratch, bytes);
    test_pools(plan, scratch, bytes);
    test_pitches();
    test_products();
    test_changing_shapes();
    test_sharing(plan);
    free(scratch);
    ck_plan_destroy(plan);
    return report("runs");
}
