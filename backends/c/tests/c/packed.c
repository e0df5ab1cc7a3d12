/* Packed weights as bytes: written, read, and damaged in every way. */

#include "small.h"

#include <stdint.h>
#include <stdlib.h>

/* A file in memory. */
typedef struct {
    unsigned char *bytes;
    size_t len, at, most;
} file;

static size_t write_file(void *context, const void *bytes, size_t len)
{
    file *to = context;
    if (len > to->most - to->len) {
        return 0;
    }
    memcpy(to->bytes + to->len, bytes, len);
    to->len += len;
    return len;
}

static size_t read_file(void *context, void *bytes, size_t len)
{
    file *from = context;
    size_t left = from->len - from->at, taken = len < left ? len : left;
    memcpy(bytes, from->bytes + from->at, taken);
    from->at += taken;
    return taken;
}

static size_t write_nothing(void *context, const void *bytes, size_t len)
{
    (void)context, (void)bytes, (void)len;
    return 0;
}

static size_t read_too_much(void *context, void *bytes, size_t len)
{
    (void)context, (void)bytes, (void)len;
    return SIZE_MAX;
}

static ck_status read_back(file *from, ck_filter **filter)
{
    from->at = 0;
    return ck_filter_create_from_packed(read_file, from, filter, &error);
}

int main(void)
{
    fill_values();
    ck_conv_desc desc = small_desc();
    ck_weights weights = small_weights();
    ck_filter *filter, *back;
    ck_plan *plan;
    EXPECT_STATUS(ck_filter_create(&desc, &weights, &filter, &error), CK_STATUS_SUCCESS, "");
    EXPECT_STATUS(ck_plan_create(&desc, filter, &plan, &error), CK_STATUS_SUCCESS, "");
    ck_plan_destroy(plan);

    file memory = {malloc(1 << 20), 0, 0, 1 << 20};
    EXPECT_STATUS(ck_filter_write_packed(filter, write_file, &memory, &error), CK_STATUS_SUCCESS, "");
    EXPECT(memory.len > ck_filter_packed_bytes(filter));
    EXPECT_STATUS(read_back(&memory, &back), CK_STATUS_SUCCESS, "");
    EXPECT(memory.at == memory.len);
    EXPECT_STATUS(ck_plan_create(&desc, back, &plan, &error), CK_STATUS_SUCCESS, "");
    ck_plan_destroy(plan);
    desc.algorithm = CK_ALGORITHM_DIRECT;
    EXPECT_STATUS(ck_plan_create(&desc, back, &plan, &error), CK_STATUS_UNSUPPORTED, "weights were dropped");
    ck_filter_destroy(back);

    memory.at = 0;
    EXPECT_STATUS(ck_filter_read_packed(filter, read_file, &memory, &error), CK_STATUS_SUCCESS, "");
    float other_values[FILTER] = {0};
    ck_weights others = small_weights();
    others.filter = other_values;
    EXPECT_STATUS(ck_filter_create(&desc, &others, &back, &error), CK_STATUS_SUCCESS, "");
    memory.at = 0;
    EXPECT_STATUS(ck_filter_read_packed(back, read_file, &memory, &error), CK_STATUS_INVALID_ARGUMENT, "other weights");
    ck_filter_destroy(back);

    EXPECT_STATUS(ck_filter_write_packed(filter, write_nothing, NULL, &error), CK_STATUS_IO, "expected to write");
    EXPECT_STATUS(ck_filter_create_from_packed(read_too_much, NULL, &back, &error), CK_STATUS_IO, "expected at most");
    EXPECT(back == NULL);
    EXPECT_STATUS(ck_filter_write_packed(filter, NULL, NULL, &error), CK_STATUS_NULL_POINTER, "write");
    EXPECT_STATUS(ck_filter_read_packed(filter, NULL, NULL, &error), CK_STATUS_NULL_POINTER, "read");
    EXPECT_STATUS(ck_filter_create_from_packed(NULL, NULL, &back, &error), CK_STATUS_NULL_POINTER, "read");
    EXPECT_STATUS(ck_filter_read_packed(NULL, read_file, &memory, &error), CK_STATUS_NULL_POINTER, "filter");

    /* One wrong byte, or an end too soon. */
    size_t len = memory.len;
    for (size_t at = 0; at < len; at += 1 + len / 40) {
        memory.bytes[at] ^= 0x40;
        EXPECT(read_back(&memory, &back) != CK_STATUS_SUCCESS && error.status != CK_STATUS_INTERNAL && back == NULL);
        memory.bytes[at] ^= 0x40;
        memory.len = at;
        EXPECT(read_back(&memory, &back) == CK_STATUS_INVALID_ARGUMENT && back == NULL);
        memory.len = len;
    }
    free(memory.bytes);
    ck_filter_destroy(filter);
    return report("packed");
}
