/* Hostile descriptors, weights and handles: every call returns a status and a sentence. */

#include "small.h"

#include <stdint.h>
#include <stdlib.h>

static ck_status plan_status(const ck_conv_desc *desc)
{
    ck_weights weights = small_weights();
    ck_plan *plan;
    ck_status status = ck_plan_create_with_weights(desc, &weights, &plan, &error);
    EXPECT((plan == NULL) == (status != CK_STATUS_SUCCESS));
    ck_plan_destroy(plan);
    return status;
}

static void test_null_pointers(void)
{
    ck_conv_desc desc = small_desc();
    ck_weights weights = small_weights();
    ck_shape shape = {1, 1, 1, 1};
    ck_plan *plan = NULL;
    ck_filter *filter = NULL;
    ck_conv *conv = NULL;
    size_t len;
    EXPECT_STATUS(ck_conv_desc_init(NULL, sizeof desc, &error), CK_STATUS_NULL_POINTER, "desc: expected a pointer");
    EXPECT_STATUS(ck_conv_desc_output_shape(NULL, &shape, &error), CK_STATUS_NULL_POINTER, "desc");
    EXPECT_STATUS(ck_conv_desc_output_shape(&desc, NULL, &error), CK_STATUS_NULL_POINTER, "shape");
    EXPECT_STATUS(ck_shape_len(NULL, CK_LAYOUT_NCHW, &len, &error), CK_STATUS_NULL_POINTER, "shape");
    EXPECT_STATUS(ck_shape_len(&shape, CK_LAYOUT_NCHW, NULL, &error), CK_STATUS_NULL_POINTER, "len");
    EXPECT_STATUS(ck_filter_create(NULL, &weights, &filter, &error), CK_STATUS_NULL_POINTER, "desc");
    EXPECT_STATUS(ck_filter_create(&desc, NULL, &filter, &error), CK_STATUS_NULL_POINTER, "weights");
    EXPECT_STATUS(ck_filter_create(&desc, &weights, NULL, &error), CK_STATUS_NULL_POINTER, "filter");
    EXPECT_STATUS(ck_filter_drop_weights(NULL, &error), CK_STATUS_NULL_POINTER, "filter");
    EXPECT_STATUS(ck_plan_create(NULL, NULL, &plan, &error), CK_STATUS_NULL_POINTER, "desc");
    EXPECT_STATUS(ck_plan_create(&desc, NULL, &plan, &error), CK_STATUS_NULL_POINTER, "filter");
    EXPECT_STATUS(ck_plan_create(&desc, NULL, NULL, &error), CK_STATUS_NULL_POINTER, "plan");
    EXPECT_STATUS(ck_plan_create_with_weights(&desc, NULL, &plan, &error), CK_STATUS_NULL_POINTER, "weights");
    EXPECT_STATUS(ck_plan_run(NULL, NULL, NULL, 0, NULL, &error), CK_STATUS_NULL_POINTER, "plan");
    EXPECT_STATUS(ck_conv_create(&desc, NULL, 1, &conv, &error), CK_STATUS_NULL_POINTER, "weights");
    EXPECT_STATUS(ck_conv_plan(NULL, &shape, NULL, &plan, &error), CK_STATUS_NULL_POINTER, "conv");
    EXPECT_STATUS(ck_conv_run(NULL, &shape, NULL, NULL, &error), CK_STATUS_NULL_POINTER, "conv");
    EXPECT_STATUS(ck_conv_output_shape(NULL, &shape, &shape, &error), CK_STATUS_NULL_POINTER, "conv");
    EXPECT_STATUS(ck_buffer_create(1, NULL, &error), CK_STATUS_NULL_POINTER, "buffer");
    EXPECT_STATUS(ck_pool_create(1, NULL, &error), CK_STATUS_NULL_POINTER, "pool");
    EXPECT_STATUS(ck_pool_keep_awake(NULL, NULL, NULL, &error), CK_STATUS_NULL_POINTER, "pool");
    EXPECT(ck_plan_create(NULL, NULL, NULL, NULL) == CK_STATUS_NULL_POINTER);
    EXPECT(plan == NULL && filter == NULL && conv == NULL);

    EXPECT(ck_plan_workspace_size(NULL) == 0 && ck_plan_packed_bytes(NULL) == 0);
    EXPECT(ck_plan_input_len(NULL) == 0 && ck_plan_output_len(NULL) == 0 && ck_plan_output_shape(NULL).n == 0);
    EXPECT(ck_plan_algorithm(NULL) == CK_ALGORITHM_AUTO && ck_plan_isa(NULL) == CK_ISA_AUTO);
    EXPECT(ck_plan_products(NULL) == CK_PRODUCTS_AUTO);
    EXPECT(ck_plan_explain(NULL)[0] == '\0');
    EXPECT(ck_filter_packed_bytes(NULL) == 0 && ck_conv_bytes(NULL) == 0);
    EXPECT(ck_pool_threads(NULL) == 0 && ck_buffer_data(NULL) == NULL);
    ck_conv_clear(NULL);
    ck_plan_destroy(NULL);
    ck_filter_destroy(NULL);
    ck_conv_destroy(NULL);
    ck_pool_destroy(NULL);
    ck_buffer_destroy(NULL);
}

static void test_struct_sizes(void)
{
    ck_conv_desc desc = small_desc();
    /* An older header had a shorter struct. Nothing behind it may be touched. */
    size_t *short_desc = malloc(sizeof *short_desc);
    *short_desc = sizeof *short_desc;
    ck_shape shape;
    EXPECT_STATUS(ck_conv_desc_output_shape((const ck_conv_desc *)(const void *)short_desc, &shape, &error),
                  CK_STATUS_INVALID_ARGUMENT, "desc.struct_size: expected sizeof(ck_conv_desc)");
    EXPECT_STATUS(ck_conv_desc_init((ck_conv_desc *)(void *)short_desc, sizeof *short_desc, &error),
                  CK_STATUS_INVALID_ARGUMENT, "struct_size");
    EXPECT(*short_desc == sizeof *short_desc);
    free(short_desc);
    desc.struct_size = SIZE_MAX;
    EXPECT_STATUS(plan_status(&desc), CK_STATUS_INVALID_ARGUMENT, "desc.struct_size");
    memset(&desc, 0, sizeof desc);
    EXPECT_STATUS(plan_status(&desc), CK_STATUS_INVALID_ARGUMENT, "desc.struct_size");
    memset(&desc, 0xff, sizeof desc);
    desc.struct_size = sizeof desc;
    EXPECT(plan_status(&desc) == CK_STATUS_INVALID_ARGUMENT);
}

static void test_enums(void)
{
    static const struct {
        size_t offset;
        const char *words;
    } fields[] = {
        {offsetof(ck_conv_desc, layout), "layout: expected a ck_layout from 1 to 3, got"},
        {offsetof(ck_conv_desc, output_layout), "output_layout: expected a ck_layout"},
        {offsetof(ck_conv_desc, activation), "activation: expected a ck_activation from 0 to 9"},
        {offsetof(ck_conv_desc, numerics), "numerics: expected a ck_numerics from 0 to 4"},
        {offsetof(ck_conv_desc, algorithm), "algorithm: expected a ck_algorithm from 0 to 13"},
        {offsetof(ck_conv_desc, isa), "isa: expected a ck_isa from 0 to 6"},
        {offsetof(ck_conv_desc, products), "products: expected a ck_products from 0 to 4"},
        {offsetof(ck_conv_desc, has_bias), "has_bias: expected a flag from 0 to 1"},
        {offsetof(ck_conv_desc, has_residual), "has_residual: expected a flag from 0 to 1"},
    };
    static const uint32_t garbage[] = {77, 0x80000000u, UINT32_MAX};
    for (size_t f = 0; f < sizeof fields / sizeof fields[0]; f++) {
        for (size_t g = 0; g < sizeof garbage / sizeof garbage[0]; g++) {
            ck_conv_desc desc = small_desc();
            memcpy((char *)&desc + fields[f].offset, &garbage[g], sizeof garbage[g]);
            EXPECT_STATUS(plan_status(&desc), CK_STATUS_INVALID_ARGUMENT, fields[f].words);
        }
    }
    ck_shape shape = {1, 1, 1, 1};
    size_t len;
    EXPECT_STATUS(ck_shape_len(&shape, CK_LAYOUT_AS_INPUT, &len, &error), CK_STATUS_INVALID_ARGUMENT, "layout");
    EXPECT(strcmp(ck_status_string(99), "unknown status") == 0);
    EXPECT(strcmp(ck_algorithm_name(UINT32_MAX), "unknown") == 0);
    EXPECT(strcmp(ck_products_name(UINT32_MAX), "unknown") == 0);
    EXPECT(strcmp(ck_isa_name(UINT32_MAX), "unknown") == 0);
    EXPECT(strcmp(ck_algorithm_name(CK_ALGORITHM_FFT), "fft") == 0);
    EXPECT(strcmp(ck_products_name(CK_PRODUCTS_AUTO), "auto") == 0);
    EXPECT(strcmp(ck_products_name(CK_PRODUCTS_BF16X3), "bf16x3") == 0);
    EXPECT(strcmp(ck_isa_name(CK_ISA_AVX512BF16), "avx512bf16") == 0 && strcmp(ck_isa_name(CK_ISA_AMX), "amx") == 0);
}

static void test_extents(void)
{
    static const size_t fields[] = {
        offsetof(ck_conv_desc, batch),      offsetof(ck_conv_desc, channels),     offsetof(ck_conv_desc, height),
        offsetof(ck_conv_desc, width),      offsetof(ck_conv_desc, out_channels), offsetof(ck_conv_desc, kernel_h),
        offsetof(ck_conv_desc, kernel_w),   offsetof(ck_conv_desc, stride_h),     offsetof(ck_conv_desc, stride_w),
        offsetof(ck_conv_desc, dilation_h), offsetof(ck_conv_desc, dilation_w),   offsetof(ck_conv_desc, groups),
    };
    static const size_t values[] = {0, SIZE_MAX, SIZE_MAX / 2, SIZE_MAX / 2 + 1, SIZE_MAX / 64};
    for (size_t f = 0; f < sizeof fields / sizeof fields[0]; f++) {
        for (size_t v = 0; v < sizeof values / sizeof values[0]; v++) {
            /* A long stride is legal, even if it is longer than the image. */
            int legal = values[v] != 0 && (fields[f] == offsetof(ck_conv_desc, stride_h) ||
                                           fields[f] == offsetof(ck_conv_desc, stride_w));
            ck_conv_desc desc = small_desc();
            memcpy((char *)&desc + fields[f], &values[v], sizeof values[v]);
            ck_shape shape = {5, 5, 5, 5};
            ck_status status = ck_conv_desc_output_shape(&desc, &shape, &error);
            EXPECT(status == (legal ? CK_STATUS_SUCCESS : CK_STATUS_INVALID_ARGUMENT));
            EXPECT(legal || (shape.n == 5 && error.message[0] != '\0'));
            EXPECT(legal || plan_status(&desc) == CK_STATUS_INVALID_ARGUMENT);
        }
    }
    ck_conv_desc desc = small_desc();
    desc.pad_top = SIZE_MAX;
    EXPECT_STATUS(plan_status(&desc), CK_STATUS_INVALID_ARGUMENT, "overflow");
    desc = small_desc();
    desc.kernel_h = 99;
    EXPECT_STATUS(plan_status(&desc), CK_STATUS_INVALID_ARGUMENT, "the output is empty");
    desc = small_desc();
    desc.max_threads = 0;
    EXPECT_STATUS(plan_status(&desc), CK_STATUS_INVALID_ARGUMENT, "threads");
    ck_shape shape = {SIZE_MAX, 2, 3, 4};
    size_t len;
    EXPECT_STATUS(ck_shape_len(&shape, CK_LAYOUT_NHWC, &len, &error), CK_STATUS_INVALID_ARGUMENT, "overflow");
}

static void test_options(void)
{
    ck_conv_desc desc = small_desc();
    desc.activation = CK_ACTIVATION_ELU;
    EXPECT_STATUS(plan_status(&desc), CK_STATUS_INVALID_ARGUMENT, "activation.alpha: expected a finite number");
    desc.activation = CK_ACTIVATION_CLIP;
    EXPECT_STATUS(plan_status(&desc), CK_STATUS_INVALID_ARGUMENT, "activation.clip: expected lo <= hi");
    desc.activation = CK_ACTIVATION_PRELU;
    EXPECT_STATUS(plan_status(&desc), CK_STATUS_INVALID_ARGUMENT, "PReLU slopes");
    desc = small_desc();
    desc.algorithm = CK_ALGORITHM_POINTWISE;
    EXPECT_STATUS(plan_status(&desc), CK_STATUS_UNSUPPORTED, "algorithm pointwise cannot do this convolution");
    desc.algorithm = CK_ALGORITHM_MEASURED;
    desc.max_threads = 2;
    EXPECT_STATUS(plan_status(&desc), CK_STATUS_UNSUPPORTED, "CK_ALGORITHM_MEASURED");
    desc.max_threads = 1;
    EXPECT_STATUS(plan_status(&desc), CK_STATUS_SUCCESS, "");
    desc = small_desc();
    desc.max_workspace_bytes = 0;
    EXPECT_STATUS(plan_status(&desc), CK_STATUS_UNSUPPORTED, "workspace: expected an algorithm that needs at most 0");
    desc = small_desc();
    desc.layout = CK_LAYOUT_NCHW16C;
    desc.output_layout = CK_LAYOUT_NCHW;
    EXPECT_STATUS(plan_status(&desc), CK_STATUS_INVALID_ARGUMENT, "output_layout");
    desc = small_desc();
    desc.isa = ck_isa_detect() == CK_ISA_NEON ? CK_ISA_AVX2FMA : CK_ISA_NEON;
    EXPECT_STATUS(plan_status(&desc), CK_STATUS_UNSUPPORTED, "instruction set");
}

static void test_products(void)
{
    ck_conv_desc desc = small_desc();
    desc.algorithm = CK_ALGORITHM_FFT;
    desc.products = CK_PRODUCTS_BF16;
    EXPECT_STATUS(plan_status(&desc), CK_STATUS_UNSUPPORTED, "algorithm fft+bf16 cannot do this convolution");
    desc.products = CK_PRODUCTS_F32;
    EXPECT_STATUS(plan_status(&desc), CK_STATUS_SUCCESS, "");
    desc.algorithm = CK_ALGORITHM_AUTO;
    for (uint32_t numerics = CK_NUMERICS_STRICT; numerics <= CK_NUMERICS_BF16; numerics++) {
        desc.numerics = numerics;
        EXPECT_STATUS(plan_status(&desc), CK_STATUS_SUCCESS, "");
    }
    desc.isa = CK_ISA_PORTABLE;
    desc.products = CK_PRODUCTS_BF16;
    EXPECT_STATUS(plan_status(&desc), CK_STATUS_UNSUPPORTED, "got only forbidden ones");
    desc.isa = CK_ISA_AUTO;
    desc.numerics = CK_NUMERICS_DEFAULT;
    EXPECT_STATUS(plan_status(&desc), CK_STATUS_UNSUPPORTED, "got only forbidden ones");
    if (ck_isa_detect() == CK_ISA_AVX512BF16 || ck_isa_detect() == CK_ISA_AMX) {
        desc.numerics = CK_NUMERICS_BF16;
        EXPECT_STATUS(plan_status(&desc), CK_STATUS_SUCCESS, "");
    }
}

static void test_weights(void)
{
    ck_conv_desc desc = small_desc();
    ck_filter *filter;
    ck_weights weights = small_weights();
    weights.filter_len--;
    EXPECT_STATUS(ck_filter_create(&desc, &weights, &filter, &error), CK_STATUS_INVALID_ARGUMENT,
                  "filter: expected 2304 elements, got 2303");
    weights.filter_len = SIZE_MAX / 2;
    EXPECT_STATUS(ck_filter_create(&desc, &weights, &filter, &error), CK_STATUS_INVALID_ARGUMENT, "address space");
    weights = small_weights();
    weights.filter = NULL;
    EXPECT_STATUS(ck_filter_create(&desc, &weights, &filter, &error), CK_STATUS_NULL_POINTER, "weights.filter");
    weights = small_weights();
    weights.bias_len = 3;
    EXPECT_STATUS(ck_filter_create(&desc, &weights, &filter, &error), CK_STATUS_INVALID_ARGUMENT, "bias: expected 16");
    weights.bias = NULL;
    EXPECT_STATUS(ck_filter_create(&desc, &weights, &filter, &error), CK_STATUS_NULL_POINTER, "weights.bias");
    weights.bias_len = 0;
    EXPECT_STATUS(ck_filter_create(&desc, &weights, &filter, &error), CK_STATUS_SUCCESS, "");
    ck_plan *plan;
    EXPECT_STATUS(ck_plan_create(&desc, filter, &plan, &error), CK_STATUS_INVALID_ARGUMENT, "bias: expected one");
    desc.out_channels = 32;
    EXPECT_STATUS(ck_plan_create(&desc, filter, &plan, &error), CK_STATUS_INVALID_ARGUMENT, "filter: expected extents");
    desc = small_desc();
    desc.has_bias = 0;
    EXPECT_STATUS(ck_plan_create(&desc, filter, &plan, &error), CK_STATUS_SUCCESS, "");
    EXPECT(ck_filter_packed_bytes(filter) >= FILTER * sizeof(float));
    ck_plan_destroy(plan);
    EXPECT_STATUS(ck_filter_drop_weights(filter, &error), CK_STATUS_SUCCESS, "");
    desc.algorithm = CK_ALGORITHM_WINOGRAD_2X2;
    EXPECT_STATUS(ck_plan_create(&desc, filter, &plan, &error), CK_STATUS_UNSUPPORTED, "weights were dropped");
    ck_filter_destroy(filter);
    weights.filter = (const float *)(const void *)((const char *)filter_values + 1);
    weights.filter_len = FILTER - 1;
    EXPECT_STATUS(ck_filter_create(&desc, &weights, &filter, &error), CK_STATUS_INVALID_ARGUMENT, "multiple of 4");
}

static void test_memory(void)
{
    static const size_t lens[] = {SIZE_MAX, SIZE_MAX / 4, SIZE_MAX / 8, SIZE_MAX / 64};
    ck_buffer *buffer;
    for (size_t i = 0; i < sizeof lens / sizeof lens[0]; i++) {
        EXPECT_STATUS(ck_buffer_create(lens[i], &buffer, &error), CK_STATUS_OUT_OF_MEMORY, "buffer: expected");
        EXPECT(buffer == NULL);
    }
    EXPECT_STATUS(ck_buffer_create(1000, &buffer, &error), CK_STATUS_SUCCESS, "");
    EXPECT((uintptr_t)ck_buffer_data(buffer) % CK_ALIGNMENT == 0 && ck_buffer_data(buffer)[999] == 0.0f);
    ck_buffer_destroy(buffer);
    ck_pool *pool;
    EXPECT_STATUS(ck_pool_create(SIZE_MAX, &pool, &error), CK_STATUS_INVALID_ARGUMENT, "threads: expected at most");
    EXPECT(pool == NULL);
}

int main(void)
{
    fill_values();
    EXPECT(ck_version() == CK_VERSION);
    test_null_pointers();
    test_struct_sizes();
    test_enums();
    test_extents();
    test_options();
    test_products();
    test_weights();
    test_memory();
    return report("descriptors");
}
