/*
 * Gradient descent: a 3x3 convolution learns to blur. Its weights begin at zero. Each step computes the output, the
 * gradient of the mean squared error, and from it the gradients of filter and bias. The program prints the loss, and fails
 * unless it falls to a thousandth. It also shows the gradient of the input.
 */

#include <convkernels.h>

#include <stdio.h>
#include <stdlib.h>

enum { BATCH = 4, SIDE = 24, PIXELS = BATCH * SIDE * SIDE, TAPS = 9, STEPS = 60 };

static void check(ck_status status, const ck_error *error)
{
    if (status != CK_STATUS_SUCCESS) {
        fprintf(stderr, "%s: %s\n", ck_status_string(status), error->message);
        exit(1);
    }
}

/* A 3x3 convolution with padding 1 and bias, on one channel. */
static ck_conv_desc describe(void)
{
    ck_error error;
    ck_conv_desc desc;
    check(ck_conv_desc_init(&desc, sizeof desc, &error), &error);
    desc.batch = BATCH;
    desc.channels = desc.out_channels = 1;
    desc.height = desc.width = SIDE;
    desc.kernel_h = desc.kernel_w = 3;
    desc.pad_top = desc.pad_bottom = desc.pad_left = desc.pad_right = 1;
    desc.has_bias = 1;
    return desc;
}

/* Computes the output of a convolution with these weights, which are packed for this call. */
static void forward(const float *filter, const float *bias, const float *input, float *output)
{
    ck_error error;
    const ck_conv_desc desc = describe();
    ck_weights weights = {0};
    weights.filter = filter;
    weights.filter_len = TAPS;
    weights.bias = bias;
    weights.bias_len = 1;
    ck_plan *plan;
    check(ck_plan_create_with_weights(&desc, &weights, &plan, &error), &error);
    ck_io io = {{0}, {0}, {0}};
    io.input.data = input;
    io.input.len = PIXELS;
    io.output.data = output;
    io.output.len = PIXELS;
    const size_t bytes = ck_plan_workspace_size(plan);
    void *workspace = malloc(bytes);
    check(ck_plan_run(plan, &io, workspace, bytes, NULL, &error), &error);
    free(workspace);
    ck_plan_destroy(plan);
}

/* Computes the gradient of the input. */
static void backward_data(const float *filter, const float *grad_output, float *grad_input)
{
    ck_error error;
    const ck_conv_desc desc = describe();
    ck_weights weights = {0};
    weights.filter = filter;
    weights.filter_len = TAPS;
    ck_backward_data *backward;
    check(ck_backward_data_create(&desc, &weights, 0, &backward, &error), &error);
    ck_backward_data_io io = {{0}, {0}};
    io.grad_output.data = grad_output;
    io.grad_output.len = PIXELS;
    io.grad_input.data = grad_input;
    io.grad_input.len = PIXELS;
    const size_t bytes = ck_backward_data_workspace_size(backward);
    void *workspace = malloc(bytes);
    check(ck_backward_data_run(backward, &io, workspace, bytes, NULL, &error), &error);
    free(workspace);
    ck_backward_data_destroy(backward);
}

int main(void)
{
    static float input[PIXELS], target[PIXELS], output[PIXELS], grad_output[PIXELS], grad_input[PIXELS];
    static const float blur[TAPS] = {1 / 16.f, 2 / 16.f, 1 / 16.f, 2 / 16.f, 4 / 16.f, 2 / 16.f, 1 / 16.f, 2 / 16.f,
                                     1 / 16.f};
    static const float shift = 0.25f;
    float filter[TAPS] = {0}, bias = 0.0f, grad_filter[TAPS], grad_bias;
    uint32_t state = 1;
    for (int i = 0; i < PIXELS; i++) {
        state = 1664525u * state + 1013904223u;
        input[i] = (float)(state >> 8) / 8388608.0f - 1.0f;
    }
    forward(blur, &shift, input, target);

    /* The plan for the gradients of the weights packs nothing, so one plan serves all steps. */
    ck_error error;
    const ck_conv_desc desc = describe();
    ck_backward_weights *backward;
    check(ck_backward_weights_create(&desc, 0, &backward, &error), &error);
    const size_t bytes = ck_backward_weights_workspace_size(backward);
    void *workspace = malloc(bytes);
    ck_backward_weights_io io = {{0}, {0}, NULL, 0, NULL, 0};
    io.input.data = input;
    io.input.len = PIXELS;
    io.grad_output.data = grad_output;
    io.grad_output.len = PIXELS;
    io.grad_filter = grad_filter;
    io.grad_filter_len = TAPS;
    io.grad_bias = &grad_bias;
    io.grad_bias_len = 1;

    float first = 0.0f, loss = 0.0f;
    for (int step = 0; step < STEPS; step++) {
        forward(filter, &bias, input, output);
        loss = 0.0f;
        for (int i = 0; i < PIXELS; i++) {
            const float difference = output[i] - target[i];
            loss += difference * difference / PIXELS;
            grad_output[i] = 2.0f * difference / PIXELS;
        }
        first = step == 0 ? loss : first;
        check(ck_backward_weights_run(backward, &io, workspace, bytes, NULL, &error), &error);
        for (int tap = 0; tap < TAPS; tap++) {
            filter[tap] -= 0.5f * grad_filter[tap];
        }
        bias -= 0.5f * grad_bias;
        if (step % 20 == 0) {
            printf("step %2d: loss %.6f\n", step, (double)loss);
        }
    }
    backward_data(filter, grad_output, grad_input);
    printf("loss %.6f -> %.9f, middle of the filter %.4f, bias %.4f, a gradient of the input %.1e\n", (double)first,
           (double)loss, (double)filter[4], (double)bias, (double)grad_input[0]);
    free(workspace);
    ck_backward_weights_destroy(backward);
    return loss < first / 1000.0f ? 0 : 1;
}
