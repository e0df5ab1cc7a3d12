// One convolution for images of several sizes, in C++: on the calling thread, on a pool of the library, and on
// std::thread. The result of each is compared bit by bit with the others, and with the library's reference loops.

#include <convkernels.hpp>

#include <cmath>
#include <cstdio>
#include <cstring>
#include <thread>
#include <vector>

namespace ck = convkernels;

namespace {

constexpr std::size_t channels = 24, out_channels = 40, kernel = 5;

std::vector<float> noise(std::size_t len, float scale) {
    static std::uint32_t state = 7;
    std::vector<float> values(len);
    for (float &value : values) {
        state = 1664525u * state + 1013904223u;
        value = scale * (static_cast<float>(state >> 8) / 8388608.0f - 1.0f);
    }
    return values;
}

double relative_error(const std::vector<float> &got, const std::vector<float> &expected) {
    double difference = 0, norm = 0;
    for (std::size_t i = 0; i < got.size(); i++) {
        const double distance = static_cast<double>(got[i]) - static_cast<double>(expected[i]);
        difference += distance * distance;
        norm += static_cast<double>(expected[i]) * static_cast<double>(expected[i]);
    }
    return std::sqrt(difference / norm);
}

ck::Desc describe() {
    ck::Desc desc;
    desc.channels = channels;
    desc.out_channels = out_channels;
    desc.kernel_h = desc.kernel_w = kernel;
    desc.pad_top = desc.pad_bottom = desc.pad_left = desc.pad_right = kernel / 2;
    desc.layout = CK_LAYOUT_NHWC;
    desc.has_bias = 1;
    desc.activation = CK_ACTIVATION_SILU;
    // The algorithm of a shape does not depend on the number of threads then, and neither do the bits.
    desc.algorithm = CK_ALGORITHM_IM2COL_GEMM;
    return desc;
}

// Starts its threads anew for every run. A pool that keeps them is faster.
void on_new_threads(std::size_t parts, const ck::Threads::Part &part) {
    std::vector<std::thread> threads;
    for (std::size_t index = 1; index < parts; index++) {
        threads.emplace_back(part, index);
    }
    part(0);
    for (std::thread &thread : threads) {
        thread.join();
    }
}

bool run_all() {
    const ck::Desc desc = describe();
    const std::vector<float> filter = noise(out_channels * channels * kernel * kernel, 0.1f);
    const std::vector<float> bias = noise(out_channels, 0.5f);
    const ck::Weights weights(filter, bias);
    const ck::Conv conv(desc, weights);
    const ck::Pool pool(2);
    const ck::Threads threads[] = {ck::Threads(), ck::Threads(pool), ck::Threads(2, on_new_threads)};

    bool right = true;
    for (const std::size_t side : {9, 16, 23}) {
        const ck_shape shape = {1, channels, side, side};
        const ck_shape out = conv.output_shape(shape);
        const std::vector<float> input = noise(channels * side * side, 1.0f);
        std::vector<float> output[3];
        for (std::size_t i = 0; i < 3; i++) {
            output[i].resize(out.n * out.c * out.h * out.w);
            conv.run(shape, ck::packed(input.data(), input.size(), output[i].data(), output[i].size()), threads[i]);
        }

        ck::Desc slow = desc;
        slow.batch = 1;
        slow.height = slow.width = side;
        slow.algorithm = CK_ALGORITHM_REFERENCE;
        const ck::Plan reference(slow, weights);
        std::vector<float> expected(reference.output_len());
        reference.run(ck::packed(input.data(), input.size(), expected.data(), expected.size()),
                      reference.workspace());

        const bool same = output[0] == output[1] && output[0] == output[2];
        const double distance = relative_error(output[0], expected);
        std::printf("%zux%zu: %s bits on all threads, relative error %.1e\n", side, side, same ? "the same" : "OTHER",
                    distance);
        right = right && same && distance <= 2e-6;
    }
    return right;
}

// A failed call throws the library's sentence, or writes it where there are no exceptions.
bool fail() {
    ck::Desc desc = describe();
    desc.batch = 1;
    desc.height = desc.width = 8;
    desc.groups = 5;
    const std::vector<float> filter(1);
    ck_error error;
    const ck::Plan empty(desc, ck::Weights(filter), &error);
    std::printf("refused: %s\n", error.message);
    try {
        const ck::Plan plan(desc, ck::Weights(filter));
    } catch (const ck::Error &thrown) {
        return !empty && thrown.status() == CK_STATUS_INVALID_ARGUMENT &&
               std::strcmp(thrown.what(), error.message) == 0;
    }
    return false;
}

} // namespace

int main() {
    try {
        return run_all() && fail() ? 0 : 1;
    } catch (const std::exception &error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
}
