/*
 * convkernels: 2-D convolution on CPUs.
 *
 * This file is generated from the Rust source. Do not edit it.
 *
 * describe -> (filter) -> plan -> run:
 *
 *     ck_conv_desc_init   the convolution and the options of its plan
 *     ck_filter_create    the weights, shared by any number of plans
 *     ck_plan_create      chooses an algorithm and packs the weights
 *     ck_plan_run         computes
 *
 * ck_conv_create and ck_conv_run plan by themselves, for inputs whose batch and image size change.
 *
 * Training: ck_backward_data_create and ck_backward_weights_create plan the gradients of the convolution that a
 * ck_conv_desc describes. ck_transposed_create plans a transposed convolution. They run as plans do.
 *
 * Errors. Every function that can fail returns a ck_status and takes a ck_error as its last argument, which can be
 * NULL. A function that makes a handle writes NULL to it when it fails. Errors are not kept anywhere else.
 *
 * Pointers. A pointer can be NULL only where the function says so; otherwise the result is
 * CK_STATUS_NULL_POINTER. A pointer that is not NULL must point to valid memory of the length that comes with it.
 * A misaligned pointer, an overlap of output and input, and a number that is no value of its enum are
 * CK_STATUS_INVALID_ARGUMENT. Fields and arguments of type uint32_t take values of the enum that their description
 * names.
 *
 * Handles. A handle comes from one function whose name contains _create, or from ck_conv_plan, and goes to one
 * _destroy, once. No other call may use it during _destroy or afterwards.
 *
 * Threads. All functions that take a handle as a pointer to const can be called from any number of threads at the
 * same time, with the same handle. A workspace, an output and a ck_error belong to one call at a time. Callbacks of
 * the caller must not throw exceptions and must not leave by longjmp.
 */


#ifndef CONVKERNELS_H
#define CONVKERNELS_H

#include <stddef.h>
#include <stdint.h>

/*
 The major version that this header belongs to.
 */
#define CK_VERSION_MAJOR 0

/*
 The minor version that this header belongs to. Before version 1.0, another minor version is incompatible.
 */
#define CK_VERSION_MINOR 1

/*
 The patch version that this header belongs to.
 */
#define CK_VERSION_PATCH 0

/*
 The version that this header belongs to, as `ck_version` returns it: 1000000 * major + 1000 * minor + patch.
 */
#define CK_VERSION 1000

/*
 Bytes of the message of a `ck_error`, the final null byte included.
 */
#define CK_ERROR_MESSAGE_SIZE 512

/*
 The alignment in bytes at which tensors and workspaces are fastest. Every address that is a multiple of 4 is
 accepted.
 */
#define CK_ALIGNMENT 64

/*
 The instruction set of the kernels.
 */
typedef enum {
    /*
     The best instruction set of this machine.
     */
    CK_ISA_AUTO = 0,
    /*
     What every machine has that the library was compiled for.
     */
    CK_ISA_PORTABLE = 1,
    /*
     AArch64 Advanced SIMD.
     */
    CK_ISA_NEON = 2,
    /*
     x86-64 AVX2 with FMA.
     */
    CK_ISA_AVX2FMA = 3,
    /*
     x86-64 AVX-512 Foundation.
     */
    CK_ISA_AVX512F = 4,
    /*
     AVX-512 with dot products of bf16 numbers.
     */
    CK_ISA_AVX512BF16 = 5,
    /*
     AVX-512 with matrix tiles of bf16 numbers.
     */
    CK_ISA_AMX = 6,
} ck_isa;

/*
 The result of a function that can fail.
 */
typedef enum {
    /*
     The function did what was asked.
     */
    CK_STATUS_SUCCESS = 0,
    /*
     An argument has an invalid value, or two arguments do not fit together.
     */
    CK_STATUS_INVALID_ARGUMENT = 1,
    /*
     A pointer that must not be null is null.
     */
    CK_STATUS_NULL_POINTER = 2,
    /*
     The arguments are valid, but the forced algorithm, the limits or this machine cannot serve them.
     */
    CK_STATUS_UNSUPPORTED = 3,
    /*
     The system refused memory or threads.
     */
    CK_STATUS_OUT_OF_MEMORY = 4,
    /*
     The workspace is smaller than `ck_plan_workspace_size`.
     */
    CK_STATUS_WORKSPACE_TOO_SMALL = 5,
    /*
     A callback that reads or writes bytes failed.
     */
    CK_STATUS_IO = 6,
    /*
     A bug in the library, or a panic in a callback that was written in Rust.
     */
    CK_STATUS_INTERNAL = 7,
} ck_status;

/*
 How a convolution is computed.
 */
typedef enum {
    /*
     The cost model chooses.
     */
    CK_ALGORITHM_AUTO = 0,
    /*
     The library times the most promising algorithms on this machine when it makes the plan, which takes some
     milliseconds. Only for plans of one thread, and not for a `ck_conv`.
     */
    CK_ALGORITHM_MEASURED = 1,
    /*
     Plain loops that accumulate in double precision: slow, for tests.
     */
    CK_ALGORITHM_REFERENCE = 2,
    /*
     A matrix product of the filter and the lowered image.
     */
    CK_ALGORITHM_IM2COL_GEMM = 3,
    /*
     A matrix product on the image in place, for 1x1 kernels.
     */
    CK_ALGORITHM_POINTWISE = 4,
    /*
     Register tiles on the image in place.
     */
    CK_ALGORITHM_DIRECT = 5,
    /*
     For depthwise convolution and small groups.
     */
    CK_ALGORITHM_DEPTHWISE = 6,
    /*
     Winograd with tiles of 2x2 outputs.
     */
    CK_ALGORITHM_WINOGRAD_2X2 = 7,
    /*
     Winograd with tiles of 3x3 outputs.
     */
    CK_ALGORITHM_WINOGRAD_3X3 = 8,
    /*
     Winograd with tiles of 4x2 outputs.
     */
    CK_ALGORITHM_WINOGRAD_4X2 = 9,
    /*
     Winograd with tiles of 4x4 outputs.
     */
    CK_ALGORITHM_WINOGRAD_4X4 = 10,
    /*
     Winograd with tiles of 6x6 outputs.
     */
    CK_ALGORITHM_WINOGRAD_6X6 = 11,
    /*
     Fourier transforms, for large kernels.
     */
    CK_ALGORITHM_FFT = 12,
    /*
     Winograd with tiles of 5x5 outputs.
     */
    CK_ALGORITHM_WINOGRAD_5X5 = 13,
} ck_algorithm;

/*
 The numbers that a convolution multiplies. Tensors and sums are always `float`. The bf16 products split each
 operand into one, two or three bf16 numbers and multiply these.
 */
typedef enum {
    /*
     With `CK_ALGORITHM_AUTO` and `CK_ALGORITHM_MEASURED`, the fastest that `numerics` permits and the instruction
     set is made for. With any other algorithm, `CK_PRODUCTS_F32`.
     */
    CK_PRODUCTS_AUTO = 0,
    /*
     Products of `float`.
     */
    CK_PRODUCTS_F32 = 1,
    /*
     Six products of three bf16 numbers, about as accurate as those of `float`. The choice takes them only from
     `CK_NUMERICS_DEFAULT` on.
     */
    CK_PRODUCTS_BF16X6 = 2,
    /*
     Three products of two bf16 numbers. The choice takes them only from `CK_NUMERICS_FAST` on.
     */
    CK_PRODUCTS_BF16X3 = 3,
    /*
     One product of operands that are rounded to bf16. The choice takes it only with `CK_NUMERICS_BF16`.
     */
    CK_PRODUCTS_BF16 = 4,
} ck_products;

/*
 The order of a tensor's elements in memory. Filters are always `[out_channels][channels / groups][kernel_h][kernel_w]`.
 */
typedef enum {
    /*
     The layout of the input. Only the output's layout can have this value.
     */
    CK_LAYOUT_AS_INPUT = 0,
    /*
     `[n][c][h][w]`.
     */
    CK_LAYOUT_NCHW = 1,
    /*
     `[n][h][w][c]`.
     */
    CK_LAYOUT_NHWC = 2,
    /*
     `[n][ceil(c / 16)][h][w][16]`: the fastest for whole networks. The lanes after the last channel are ignored
     in inputs and written as zero in outputs.
     */
    CK_LAYOUT_NCHW16C = 3,
} ck_layout;

/*
 The function that is applied to the sum, the bias and the residual.
 */
typedef enum {
    /*
     The identity.
     */
    CK_ACTIVATION_NONE = 0,
    /*
     `max(x, 0)`.
     */
    CK_ACTIVATION_RELU = 1,
    /*
     `x` for `x >= 0`, `activation_alpha * x` below.
     */
    CK_ACTIVATION_LEAKY_RELU = 2,
    /*
     `min(max(x, activation_lo), activation_hi)`. ReLU6 is a clip from 0 to 6.
     */
    CK_ACTIVATION_CLIP = 3,
    /*
     `1 / (1 + exp(-x))`.
     */
    CK_ACTIVATION_SIGMOID = 4,
    /*
     Hyperbolic tangent.
     */
    CK_ACTIVATION_TANH = 5,
    /*
     `x` for `x >= 0`, `activation_alpha * (exp(x) - 1)` below.
     */
    CK_ACTIVATION_ELU = 6,
    /*
     `x` for `x >= 0`, `slope[channel] * x` below. The slopes are part of the weights.
     */
    CK_ACTIVATION_PRELU = 7,
    /*
     `x * min(max(x + 3, 0), 6) / 6`.
     */
    CK_ACTIVATION_HARD_SWISH = 8,
    /*
     `x / (1 + exp(-x))`, also called swish.
     */
    CK_ACTIVATION_SILU = 9,
} ck_activation;

/*
 How much rounding error an algorithm can add.
 */
typedef enum {
    /*
     Only the order of the summands changes.
     */
    CK_NUMERICS_STRICT = 0,
    /*
     At most 2e-6 relative L2 error, and no output off by more than 5e-6 of the largest output.
     */
    CK_NUMERICS_DEFAULT = 1,
    /*
     At most 6e-6 relative L2 error, and no output off by more than 2e-5 of the largest output.
     */
    CK_NUMERICS_FAST = 2,
    /*
     At most 5e-4 relative L2 error, and no output off by more than 2e-3 of the largest output.
     */
    CK_NUMERICS_TF32 = 3,
    /*
     At most 4e-3 relative L2 error, and no output off by more than 2e-2 of the largest output.
     */
    CK_NUMERICS_BF16 = 4,
} ck_numerics;

/*
 The gradient of a convolution with respect to its input, ready to run: *backward data*.

 It never changes. Any number of threads can run it at the same time, each with its own workspace.
 */
typedef struct ck_backward_data ck_backward_data;

/*
 The gradient of a convolution with respect to its filter and its bias, ready to run: *backward weights*.

 It never changes. Any number of threads can run it at the same time, each with its own workspace.
 */
typedef struct ck_backward_weights ck_backward_weights;

/*
 Aligned memory for tensors and workspaces, on huge pages where the system has them. Using it is optional: all
 functions accept any memory.
 */
typedef struct ck_buffer ck_buffer;

/*
 A convolution of inputs of any batch and image size. It plans each new shape, which takes microseconds once the
 weights are packed, and keeps the plans and workspaces that it used last.

 Any number of threads can use it at the same time.
 */
typedef struct ck_conv ck_conv;

/*
 Weights without a batch or an image size. Plans share them.

 Each algorithm reads the weights in a packed form of its own. A filter makes each form at most once, when the
 first plan asks for it. Any number of threads can make plans from one filter at the same time.
 */
typedef struct ck_filter ck_filter;

/*
 A convolution of one shape that is ready to run: an algorithm, its packed weights, and the size of its
 workspace.

 A plan never changes. Any number of threads can run it at the same time, each with its own workspace.
 */
typedef struct ck_plan ck_plan;

/*
 A pool of threads that sleep between runs. Any number of threads can use it at the same time.
 */
typedef struct ck_pool ck_pool;

/*
 A transposed convolution of one shape that is ready to run. It up-samples by its stride: each input value, times each
 tap, is added to an output.

 It never changes. Any number of threads can run it at the same time, each with its own workspace.
 */
typedef struct ck_transposed ck_transposed;

/*
 The extents of a tensor, in elements. They do not depend on its layout.
 */
typedef struct {
    /*
     Number of images.
     */
    size_t n;
    /*
     Number of channels.
     */
    size_t c;
    /*
     Number of rows.
     */
    size_t h;
    /*
     Number of columns.
     */
    size_t w;
} ck_shape;

/*
 Receives the result of a call, and a sentence that says what was wrong, what was expected and what was given.

 The caller owns the struct and need not initialise it. Every call that gets it writes it: after a success the
 message is empty. A message that is too long is cut off.
 */
typedef struct {
    /*
     The result of the call.
     */
    ck_status status;
    /*
     The sentence, in UTF-8 with a final null byte.
     */
    char message[CK_ERROR_MESSAGE_SIZE];
} ck_error;

/*
 A convolution: `output = activation(sum + bias + residual)`. The sum is a cross-correlation, so the kernel is
 not flipped.

 Call `ck_conv_desc_init` first. It sets stride, dilation and groups to 1, everything optional to none, and all
 extents to 0, which the functions that read the struct refuse.
 */
typedef struct {
    /*
     Bytes of this struct, set by `ck_conv_desc_init`.
     */
    size_t struct_size;
    /*
     Number of images.
     */
    size_t batch;
    /*
     Number of input channels, all groups together.
     */
    size_t channels;
    /*
     Rows of the input.
     */
    size_t height;
    /*
     Columns of the input.
     */
    size_t width;
    /*
     Number of output channels, all groups together.
     */
    size_t out_channels;
    /*
     Rows of the kernel.
     */
    size_t kernel_h;
    /*
     Columns of the kernel.
     */
    size_t kernel_w;
    /*
     Input rows between neighbouring outputs.
     */
    size_t stride_h;
    /*
     Input columns between neighbouring outputs.
     */
    size_t stride_w;
    /*
     Input rows between neighbouring taps of the kernel.
     */
    size_t dilation_h;
    /*
     Input columns between neighbouring taps of the kernel.
     */
    size_t dilation_w;
    /*
     Zero rows above the first row.
     */
    size_t pad_top;
    /*
     Zero rows below the last row.
     */
    size_t pad_bottom;
    /*
     Zero columns before the first column.
     */
    size_t pad_left;
    /*
     Zero columns after the last column.
     */
    size_t pad_right;
    /*
     Number of groups, a divisor of `channels` and `out_channels`. Depthwise convolution has one per channel.
     */
    size_t groups;
    /*
     The layout of the input, a `ck_layout`. The default is `CK_LAYOUT_NCHW`.
     */
    uint32_t layout;
    /*
     The layout of output and residual, a `ck_layout`. The default is `CK_LAYOUT_AS_INPUT`. The only other
     layout than the input's is `CK_LAYOUT_NCHW16C`.
     */
    uint32_t output_layout;
    /*
     1 if the weights have a bias, else 0.
     */
    uint32_t has_bias;
    /*
     1 if each run adds a residual, a tensor of the output's shape and layout, else 0.
     */
    uint32_t has_residual;
    /*
     A `ck_activation`. The default is none.
     */
    uint32_t activation;
    /*
     The parameter of `CK_ACTIVATION_LEAKY_RELU` and `CK_ACTIVATION_ELU`. The default is NaN, which both refuse.
     */
    float activation_alpha;
    /*
     The smallest result of `CK_ACTIVATION_CLIP`. The default is NaN, which it refuses.
     */
    float activation_lo;
    /*
     The largest result of `CK_ACTIVATION_CLIP`. The default is NaN, which it refuses.
     */
    float activation_hi;
    /*
     A `ck_numerics`. The default is `CK_NUMERICS_DEFAULT`.
     */
    uint32_t numerics;
    /*
     A `ck_algorithm`. The default is `CK_ALGORITHM_AUTO`. An algorithm that cannot do the convolution is
     `CK_STATUS_UNSUPPORTED`.
     */
    uint32_t algorithm;
    /*
     A `ck_isa`. The default is `CK_ISA_AUTO`.
     */
    uint32_t isa;
    /*
     The most threads of a run. The workspace is sized for them. The default is 1.
     */
    size_t max_threads;
    /*
     Multiply-accumulates that justify one more thread.
     */
    uint64_t macs_per_thread;
    /*
     The most bytes of workspace, all threads together. The default is `SIZE_MAX`: no limit.
     */
    size_t max_workspace_bytes;
    /*
     The most bytes of packed weights. The default is `SIZE_MAX`: no limit.
     */
    size_t max_packed_bytes;
    /*
     A `ck_products`. The default is `CK_PRODUCTS_AUTO`. Any other value forbids all other products. The choice
     takes only products that `numerics` permits and the instruction set is made for; a forced algorithm computes
     with any that it has, on any machine. If nothing is left, the result is `CK_STATUS_UNSUPPORTED`.
     */
    uint32_t products;
    /*
     Bytes that other work reads and writes between two runs: in a network, the weights and activations of all other
     layers. Where they displace the weights from the caches, the choice prefers forms with fewer bytes. The default
     is 0: the same layer runs again and again.
     */
    size_t bytes_between_runs;
} ck_conv_desc;

/*
 The weights of a convolution. The library copies them.
 */
typedef struct {
    /*
     The filter, `[out_channels][channels / groups][kernel_h][kernel_w]`.
     */
    const float *filter;
    /*
     Number of floats of the filter.
     */
    size_t filter_len;
    /*
     One float per output channel, or NULL if there is no bias.
     */
    const float *bias;
    /*
     Number of floats of the bias.
     */
    size_t bias_len;
    /*
     One slope per output channel for `CK_ACTIVATION_PRELU`, or NULL if there are none.
     */
    const float *slope;
    /*
     Number of slopes.
     */
    size_t slope_len;
} ck_weights;

/*
 Takes `len` bytes and returns how many it could write. Fewer than `len` is a failure. A call of
 `fwrite(bytes, 1, len, context)` is right. The callback must not use the filter that is written.
 */
typedef size_t (*ck_write)(void *context, const void *bytes, size_t len);

/*
 Reads at most `len` bytes and returns how many it has read. 0 is the end, or a failure. A call of
 `fread(bytes, 1, len, context)` is right.
 */
typedef size_t (*ck_read)(void *context, void *bytes, size_t len);

/*
 Computes the part `index` of `task`. The library passes a function of this type to `ck_parallelize`.
 */
typedef void (*ck_part)(void *task, size_t index);

/*
 Calls `part(task, 0)`, `part(task, 1)`, ..., `part(task, parts - 1)`, in any order and on any threads, and returns
 when all calls have returned.

 The library calls it once per run, on the thread that called the run. Once it has returned, `part` must not be
 called again. A callback that calls a part twice, or calls a part that does not exist, or leaves out parts, is
 slow, but the output is right. It must not throw, and must not leave by `longjmp`.
 */
typedef void (*ck_parallelize)(void *context, size_t parts, ck_part part, void *task);

/*
 The threads of a run: a pool of the caller, or a pool of the library. Set the whole struct to zero first.

 Functions that take a pointer to it accept NULL, which stands for the calling thread alone. A run uses at most
 `max_threads` of its plan. The bits of an output do not depend on the threads.
 */
typedef struct {
    /*
     How many calls `parallelize` makes at the same time, the calling thread included. More than 64 count as 64.
     */
    size_t threads;
    /*
     Runs parts on the caller's threads. NULL with a `pool`.
     */
    ck_parallelize parallelize;
    /*
     The first argument of `parallelize`.
     */
    void *context;
    /*
     A pool of the library. NULL with `parallelize`.
     */
    const ck_pool *pool;
} ck_threads;

/*
 The function that `ck_pool_keep_awake` calls. `threads` are the threads that stay awake; the pointer becomes
 invalid when the function returns.
 */
typedef void (*ck_work)(void *context, const ck_threads *threads);

/*
 A tensor that is read.

 Its shape and layout are those of the plan. If both pitches are 0, the tensor is packed and `len` must be exact.
 Otherwise both pitches must be set, and `len` must reach at least to the last element.
 */
typedef struct {
    /*
     The first element.
     */
    const float *data;
    /*
     Number of floats from `data` on that belong to the tensor.
     */
    size_t len;
    /*
     Floats from one image to the next, or 0.
     */
    size_t image_pitch;
    /*
     Floats from one pixel to the next: at least the channels in NHWC, 1 in NCHW, 16 in NCHW16C; or 0.
     */
    size_t pixel_pitch;
} ck_tensor;

/*
 A tensor that is written. Its memory need not be initialised.

 The fields are those of `ck_tensor`. The floats between the parts of a tensor with pitches are not written.
 */
typedef struct {
    /*
     The first element.
     */
    float *data;
    /*
     Number of floats from `data` on that belong to the tensor.
     */
    size_t len;
    /*
     Floats from one image to the next, or 0.
     */
    size_t image_pitch;
    /*
     Floats from one pixel to the next, or 0.
     */
    size_t pixel_pitch;
} ck_tensor_mut;

/*
 The tensors of a run. Set the whole struct to zero first: `ck_io io = {0};`.

 The output must not overlap the input, the residual or the workspace, not even where a pitch leaves gaps.
 */
typedef struct {
    /*
     The input.
     */
    ck_tensor input;
    /*
     The output. A run that succeeds writes every element. A run that fails leaves it unchanged, unless the
     status is `CK_STATUS_INTERNAL`.
     */
    ck_tensor_mut output;
    /*
     The residual, if the convolution has one. Otherwise `data` must be NULL and `len` 0.
     */
    ck_tensor residual;
} ck_io;

/*
 The tensors of `ck_backward_data_run`. Set the whole struct to zero first.

 The gradient of the input must not overlap the other gradient or the workspace.
 */
typedef struct {
    /*
     The gradient of the output, in the output's shape and layout.
     */
    ck_tensor grad_output;
    /*
     The gradient of the input, in the input's shape and layout.
     */
    ck_tensor_mut grad_input;
} ck_backward_data_io;

/*
 The tensors of `ck_backward_weights_run`. Set the whole struct to zero first.

 The gradients of filter and bias must not overlap each other, the tensors or the workspace.
 */
typedef struct {
    /*
     The input of the convolution.
     */
    ck_tensor input;
    /*
     The gradient of the output, in the output's shape and layout.
     */
    ck_tensor grad_output;
    /*
     The gradient of the filter, `[out_channels][channels / groups][kernel_h][kernel_w]`.
     */
    float *grad_filter;
    /*
     Number of floats of the filter.
     */
    size_t grad_filter_len;
    /*
     The gradient of the bias, if the plan computes it; else NULL.
     */
    float *grad_bias;
    /*
     Number of floats of the bias: the output channels, or 0.
     */
    size_t grad_bias_len;
} ck_backward_weights_io;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/*
 Returns the version of the library that is running: 1000000 * major + 1000 * minor + patch.

 Compare it with `CK_VERSION` to find out whether header and library belong together.
 */
uint32_t ck_version(void);

/*
 Returns the version of the library that is running as text, for example "0.1.0".
 */
const char *ck_version_string(void);

/*
 Returns a short text for `status`, a `ck_status`. It is a constant of the library. The sentence about a
 failed call is in its `ck_error`.
 */
const char *ck_status_string(uint32_t status);

/*
 Returns the name of `algorithm`, a `ck_algorithm`: "direct", for example. It is a constant of the library.
 */
const char *ck_algorithm_name(uint32_t algorithm);

/*
 Returns the name of `products`, a `ck_products`: "bf16x3", for example. It is a constant of the library.
 */
const char *ck_products_name(uint32_t products);

/*
 Returns the name of `isa`, a `ck_isa`: "avx2fma", for example. It is a constant of the library.
 */
const char *ck_isa_name(uint32_t isa);

/*
 Returns the best instruction set of this machine.
 */
ck_isa ck_isa_detect(void);

/*
 Writes the number of floats of a packed tensor to `len`. `CK_LAYOUT_NCHW16C` rounds the channels up to a
 multiple of 16.

 `layout` is a `ck_layout`. A size that overflows the address space is `CK_STATUS_INVALID_ARGUMENT`.
 */
ck_status ck_shape_len(const ck_shape *shape, uint32_t layout, size_t *len, ck_error *error);

/*
 Sets all fields to their defaults. `struct_size` must be `sizeof(ck_conv_desc)`: it protects callers that were
 compiled with the header of another version.
 */
ck_status ck_conv_desc_init(ck_conv_desc *desc,
                            size_t struct_size,
                            ck_error *error);

/*
 Checks `desc` and writes the shape of its output to `shape`.
 */
ck_status ck_conv_desc_output_shape(const ck_conv_desc *desc, ck_shape *shape, ck_error *error);

/*
 Copies `weights` for plans of `desc`. Batch and image size in `desc` do not matter.
 */
ck_status ck_filter_create(const ck_conv_desc *desc,
                           const ck_weights *weights,
                           ck_filter **filter,
                           ck_error *error);

/*
 Frees the original weights. Later plans can use only the forms that are already packed.

 No other thread may use the filter during the call.
 */
ck_status ck_filter_drop_weights(ck_filter *filter, ck_error *error);

/*
 Returns the bytes of all packed forms, without the original weights. Returns 0 if `filter` is NULL.
 */
size_t ck_filter_packed_bytes(const ck_filter *filter);

/*
 Frees `filter`. Does nothing if it is NULL. Its plans remain usable.
 */
void ck_filter_destroy(ck_filter *filter);

/*
 Writes every packed form of `filter`, with the version of the library, the machine and checksums.

 Another process on the same machine can then plan without packing. A write that fails is `CK_STATUS_IO`.
 */
ck_status ck_filter_write_packed(const ck_filter *filter, ck_write write, void *context, ck_error *error);

/*
 Adds forms that `ck_filter_write_packed` wrote for the same weights. It reads exactly the bytes of one filter.

 Bytes of another version or machine are `CK_STATUS_UNSUPPORTED`. Bytes of other weights and damaged bytes are
 `CK_STATUS_INVALID_ARGUMENT`. The filter is unchanged after a failure.
 */
ck_status ck_filter_read_packed(const ck_filter *filter,
                                ck_read read,
                                void *context,
                                ck_error *error);

/*
 Makes a filter of bytes that `ck_filter_write_packed` wrote. It does not have the original weights, so its plans can
 only use the forms in the bytes.

 The failures are those of `ck_filter_read_packed`.
 */
ck_status ck_filter_create_from_packed(ck_read read,
                                       void *context,
                                       ck_filter **filter,
                                       ck_error *error);

/*
 Starts a pool of `threads` threads, at most 1024. 0 stands for one thread for each core that this process can use.
 */
ck_status ck_pool_create(size_t threads,
                         ck_pool **pool,
                         ck_error *error);

/*
 Returns the number of threads. Use it for `max_threads` of plans. Returns 0 if `pool` is NULL.
 */
size_t ck_pool_threads(const ck_pool *pool);

/*
 Calls `work(context, threads)` while the pool's idle threads stay awake.

 Runs inside `work` that use `threads` start without waking a thread, which saves tens of microseconds each. Use
 it around one forward pass: the threads poll for runs and do nothing else. `work` is called on a thread of the
 pool. It must not throw, and must not leave by `longjmp`.
 */
ck_status ck_pool_keep_awake(const ck_pool *pool,
                             ck_work work,
                             void *context,
                             ck_error *error);

/*
 Ends the threads of `pool` and frees it. Does nothing if it is NULL. No run may use the pool any more.
 */
void ck_pool_destroy(ck_pool *pool);

/*
 Chooses an algorithm for `desc`, and packs the weights of `filter` for it unless that was done before.
 */
ck_status ck_plan_create(const ck_conv_desc *desc, const ck_filter *filter, ck_plan **plan, ck_error *error);

/*
 Makes a plan with weights of its own. It saves the copy of the weights that a `ck_filter` keeps.
 */
ck_status ck_plan_create_with_weights(const ck_conv_desc *desc,
                                      const ck_weights *weights,
                                      ck_plan **plan,
                                      ck_error *error);

/*
 Returns the bytes of workspace that a run needs. Returns 0 if `plan` is NULL.
 */
size_t ck_plan_workspace_size(const ck_plan *plan);

/*
 Returns the bytes of the packed weights. Returns 0 if `plan` is NULL.
 */
size_t ck_plan_packed_bytes(const ck_plan *plan);

/*
 Returns the shape of the output. All extents are 0 if `plan` is NULL.
 */
ck_shape ck_plan_output_shape(const ck_plan *plan);

/*
 Returns the number of floats of the packed input. Returns 0 if `plan` is NULL.
 */
size_t ck_plan_input_len(const ck_plan *plan);

/*
 Returns the number of floats of the packed output. Returns 0 if `plan` is NULL.
 */
size_t ck_plan_output_len(const ck_plan *plan);

/*
 Returns the algorithm that was chosen. Returns `CK_ALGORITHM_AUTO` if `plan` is NULL.
 */
ck_algorithm ck_plan_algorithm(const ck_plan *plan);

/*
 Returns the products that the plan computes with. Returns `CK_PRODUCTS_AUTO` if `plan` is NULL.
 */
ck_products ck_plan_products(const ck_plan *plan);

/*
 Returns the instruction set of the kernels. Returns `CK_ISA_AUTO` if `plan` is NULL.
 */
ck_isa ck_plan_isa(const ck_plan *plan);

/*
 Returns a table of all algorithms with their products: the predicted times, and the reason against each that was
 not chosen.

 The text belongs to the plan. It is empty if `plan` is NULL.
 */
const char *ck_plan_explain(const ck_plan *plan);

/*
 Computes the output. It allocates nothing.

 `workspace` has at least `ck_plan_workspace_size` bytes, at an address that is a multiple of 4. A multiple of
 `CK_ALIGNMENT` is faster. Its contents before the call do not matter. It can be NULL if the size is 0. `threads`
 can be NULL.
 */
ck_status ck_plan_run(const ck_plan *plan,
                      const ck_io *io,
                      void *workspace,
                      size_t workspace_bytes,
                      const ck_threads *threads,
                      ck_error *error);

/*
 Frees `plan` and the text of `ck_plan_explain`. Does nothing if it is NULL.
 */
void ck_plan_destroy(ck_plan *plan);

/*
 Copies `weights` and prepares for inputs of any size. Batch, height and width in `desc` do not matter, and each call
 replaces `max_threads` by its own number of threads.

 `plans` is the number of plans to keep, at least 1. 32 suits most programs.
 */
ck_status ck_conv_create(const ck_conv_desc *desc,
                         const ck_weights *weights,
                         size_t plans,
                         ck_conv **conv,
                         ck_error *error);

/*
 Writes the shape of the output for an input of shape `input`.
 */
ck_status ck_conv_output_shape(const ck_conv *conv, const ck_shape *input, ck_shape *output, ck_error *error);

/*
 Makes or finds the plan for inputs of shape `input` on `threads`, which can be NULL. The caller owns the result and
 destroys it.
 */
ck_status ck_conv_plan(const ck_conv *conv,
                       const ck_shape *input,
                       const ck_threads *threads,
                       ck_plan **plan,
                       ck_error *error);

/*
 Computes the output for an input of shape `input`. It makes a plan if the shape is new. It allocates nothing if the
 shape and the number of threads are known and a workspace is idle.

 `threads` can be NULL.
 */
ck_status ck_conv_run(const ck_conv *conv,
                      const ck_shape *input,
                      const ck_io *io,
                      const ck_threads *threads,
                      ck_error *error);

/*
 Returns the bytes of the packed weights and of the idle workspaces. Returns 0 if `conv` is NULL.
 */
size_t ck_conv_bytes(const ck_conv *conv);

/*
 Frees all plans and idle workspaces that `conv` keeps. Does nothing if it is NULL.
 */
void ck_conv_clear(const ck_conv *conv);

/*
 Frees `conv`. Does nothing if it is NULL.
 */
void ck_conv_destroy(ck_conv *conv);

/*
 Chooses algorithms for the transposed convolution that `desc` describes, and packs `weights` for them.

 `desc` has the channels and the size of the input, which is the smaller tensor if there is a stride. Stride and
 dilation count elements of the output. Padding is cut from the output, and `output_pad_h` rows and `output_pad_w` columns
 are added at its end. They must be less than the larger of stride and dilation. The filter is
 `[channels][out_channels / groups][kernel_h][kernel_w]`. Each extent of the output is
 `(in - 1) * stride - before - after + dilation * (kernel - 1) + 1 + output_pad`.
 */
ck_status ck_transposed_create(const ck_conv_desc *desc,
                               const ck_weights *weights,
                               size_t output_pad_h,
                               size_t output_pad_w,
                               ck_transposed **transposed,
                               ck_error *error);

/*
 Returns the bytes of workspace that a run needs. Returns 0 if `transposed` is NULL.
 */
size_t ck_transposed_workspace_size(const ck_transposed *transposed);

/*
 Returns the bytes of the packed weights. Returns 0 if `transposed` is NULL.
 */
size_t ck_transposed_packed_bytes(const ck_transposed *transposed);

/*
 Returns the shape of the output. All extents are 0 if `transposed` is NULL.
 */
ck_shape ck_transposed_output_shape(const ck_transposed *transposed);

/*
 Returns the number of floats of the packed output. Returns 0 if `transposed` is NULL.
 */
size_t ck_transposed_output_len(const ck_transposed *transposed);

/*
 Computes the output. It allocates nothing.

 Tensors, `workspace` and `threads` are as for `ck_plan_run`.
 */
ck_status ck_transposed_run(const ck_transposed *transposed,
                            const ck_io *io,
                            void *workspace,
                            size_t workspace_bytes,
                            const ck_threads *threads,
                            ck_error *error);

/*
 Frees `transposed`. Does nothing if it is NULL.
 */
void ck_transposed_destroy(ck_transposed *transposed);

/*
 Chooses algorithms for the gradient of the input of `desc`, and packs the filter of `weights` for them.

 `desc` describes the convolution itself. It must have no activation: multiply the gradient of the output by the derivative
 of the activation first. Bias and residual do not matter. The gradient is added to the contents of `grad_input` if
 `accumulate` is 1, and replaces them if it is 0.
 */
ck_status ck_backward_data_create(const ck_conv_desc *desc,
                                  const ck_weights *weights,
                                  uint32_t accumulate,
                                  ck_backward_data **backward,
                                  ck_error *error);

/*
 Returns the bytes of workspace that a run needs. Returns 0 if `backward` is NULL.
 */
size_t ck_backward_data_workspace_size(const ck_backward_data *backward);

/*
 Returns the bytes of the packed weights. Returns 0 if `backward` is NULL.
 */
size_t ck_backward_data_packed_bytes(const ck_backward_data *backward);

/*
 Computes the gradient of the input. It allocates nothing.

 `workspace` and `threads` are as for `ck_plan_run`. A run that fails leaves the gradient unchanged, unless the status is
 `CK_STATUS_INTERNAL`.
 */
ck_status ck_backward_data_run(const ck_backward_data *backward,
                               const ck_backward_data_io *io,
                               void *workspace,
                               size_t workspace_bytes,
                               const ck_threads *threads,
                               ck_error *error);

/*
 Frees `backward`. Does nothing if it is NULL.
 */
void ck_backward_data_destroy(ck_backward_data *backward);

/*
 Chooses an algorithm for the gradient of the filter of `desc`, and of its bias if `has_bias` of `desc` is 1.

 `desc` describes the convolution itself. It must have no activation. The residual does not matter. The gradients are added
 to their contents if `accumulate` is 1, and replace them if it is 0.

 The gradient of the filter of a transposed convolution is that of the ordinary convolution from its output to its input:
 the gradient of its output is `input`, and its input is `grad_output`.
 */
ck_status ck_backward_weights_create(const ck_conv_desc *desc,
                                     uint32_t accumulate,
                                     ck_backward_weights **backward,
                                     ck_error *error);

/*
 Returns the bytes of workspace that a run needs. Returns 0 if `backward` is NULL.
 */
size_t ck_backward_weights_workspace_size(const ck_backward_weights *backward);

/*
 Computes the gradients of the filter and of the bias. It allocates nothing.

 `workspace` and `threads` are as for `ck_plan_run`. The gradients do not depend on the number of threads. A run that fails
 leaves them unchanged, unless the status is `CK_STATUS_INTERNAL`.
 */
ck_status ck_backward_weights_run(const ck_backward_weights *backward,
                                  const ck_backward_weights_io *io,
                                  void *workspace,
                                  size_t workspace_bytes,
                                  const ck_threads *threads,
                                  ck_error *error);

/*
 Frees `backward`. Does nothing if it is NULL.
 */
void ck_backward_weights_destroy(ck_backward_weights *backward);

/*
 Allocates `len` floats, all zero.
 */
ck_status ck_buffer_create(size_t len, ck_buffer **buffer, ck_error *error);

/*
 Returns the first element. Returns NULL if `buffer` is NULL.
 */
float *ck_buffer_data(const ck_buffer *buffer);

/*
 Frees `buffer`. Does nothing if it is NULL.
 */
void ck_buffer_destroy(ck_buffer *buffer);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* CONVKERNELS_H */


/*
 * An array of -1 elements is an error: the enums of the library have four bytes, but a compiler with -fshort-enums
 * makes them smaller. Compile with -fno-short-enums.
 */
extern const char ck_enums_have_four_bytes[sizeof(ck_status) == 4 ? 1 : -1];
