// C++17 on top of convkernels.h: handles that free themselves, and exceptions. Header-only.
//
// A failed call throws convkernels::Error, whose what() is the library's sentence. To go without exceptions, pass a
// `ck_error *` as the last argument: a constructor then leaves the object empty, and run() returns false. Compiled with
// -fno-exceptions, a failed call without a `ck_error *` prints the sentence and aborts.

#ifndef CONVKERNELS_HPP
#define CONVKERNELS_HPP

#include "convkernels.h"

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#if defined(__cpp_exceptions) || defined(__EXCEPTIONS) || defined(_CPPUNWIND)
#define CONVKERNELS_EXCEPTIONS 1
#else
#define CONVKERNELS_EXCEPTIONS 0
#endif

namespace convkernels {

// A failed call.
class Error : public std::runtime_error {
  public:
    explicit Error(const ck_error &error) : std::runtime_error(error.message), status_(error.status) {}

    ck_status status() const noexcept { return status_; }

  private:
    ck_status status_;
};

namespace detail {

// Runs `call` with the caller's error, or with one of its own whose failure it throws.
template <typename Call> bool checked(ck_error *error, Call &&call) {
    if (error != nullptr) {
        return call(error) == CK_STATUS_SUCCESS;
    }
    ck_error own;
    if (call(&own) == CK_STATUS_SUCCESS) {
        return true;
    }
#if CONVKERNELS_EXCEPTIONS
    throw Error(own);
#else
    std::fprintf(stderr, "convkernels: %s\n", own.message);
    std::abort();
#endif
}

// A handle of the library. It is empty after a failure and after a move.
template <typename T, void (*destroy)(T *)> class Handle {
  public:
    T *get() const noexcept { return handle_.get(); }
    explicit operator bool() const noexcept { return handle_ != nullptr; }

  protected:
    Handle() = default;

    template <typename Create> Handle(ck_error *error, Create &&create) {
        T *handle = nullptr;
        checked(error, [&](ck_error *e) { return create(&handle, e); });
        handle_.reset(handle);
    }

  private:
    struct Destroy {
        void operator()(T *handle) const noexcept { destroy(handle); }
    };
    std::unique_ptr<T, Destroy> handle_;
};

} // namespace detail

// A ck_conv_desc that begins with the defaults.
struct Desc : ck_conv_desc {
    Desc() : ck_conv_desc() {
        detail::checked(nullptr, [this](ck_error *e) { return ck_conv_desc_init(this, sizeof(ck_conv_desc), e); });
    }

    ck_shape output_shape(ck_error *error = nullptr) const {
        ck_shape shape = {0, 0, 0, 0};
        detail::checked(error, [&](ck_error *e) { return ck_conv_desc_output_shape(this, &shape, e); });
        return shape;
    }
};

// Numbers of a vector that outlives this object.
class Borrowed {
  public:
    Borrowed() = default;
    Borrowed(const std::vector<float> &values) : data_(values.empty() ? nullptr : values.data()), size_(values.size()) {}
    // A temporary would be gone before anybody reads it.
    Borrowed(const std::vector<float> &&) = delete;

    const float *data() const noexcept { return data_; }
    std::size_t size() const noexcept { return size_; }

  private:
    const float *data_ = nullptr;
    std::size_t size_ = 0;
};

// The weights of a convolution, borrowed from vectors. Empty vectors and {} stand for none.
struct Weights : ck_weights {
    explicit Weights(Borrowed kernels, Borrowed biases = {}, Borrowed slopes = {})
        : ck_weights{kernels.data(), kernels.size(), biases.data(), biases.size(), slopes.data(), slopes.size()} {}
};

// Packed tensors for a run.
inline ck_io packed(const float *input, std::size_t input_len, float *output, std::size_t output_len) {
    ck_io io = ck_io();
    io.input.data = input;
    io.input.len = input_len;
    io.output.data = output;
    io.output.len = output_len;
    return io;
}

// See ck_buffer.
class Buffer : public detail::Handle<ck_buffer, ck_buffer_destroy> {
  public:
    explicit Buffer(std::size_t len, ck_error *error = nullptr)
        : Handle(error, [&](ck_buffer **buffer, ck_error *e) { return ck_buffer_create(len, buffer, e); }),
          size_(*this ? len : 0) {}

    float *data() const noexcept { return ck_buffer_data(get()); }
    std::size_t size() const noexcept { return size_; }

  private:
    std::size_t size_;
};

// See ck_pool.
class Pool : public detail::Handle<ck_pool, ck_pool_destroy> {
  public:
    explicit Pool(std::size_t threads = 0, ck_error *error = nullptr)
        : Handle(error, [&](ck_pool **pool, ck_error *e) { return ck_pool_create(threads, pool, e); }) {}

    std::size_t threads() const noexcept { return ck_pool_threads(get()); }
};

// The threads of a run: the calling thread, a Pool that outlives this object, or threads of the caller.
class Threads {
  public:
    using Part = std::function<void(std::size_t)>;
    // Calls part(0) ... part(parts - 1), as ck_parallelize. An exception passes through to the caller of run().
    using Parallelize = std::function<void(std::size_t parts, const Part &part)>;

    Threads() = default;
    explicit Threads(const Pool &pool) : pool_(pool.get()), count_(pool.threads()) {}
    Threads(std::size_t count, Parallelize parallelize) : parallelize_(std::move(parallelize)), count_(count) {}

    std::size_t count() const noexcept { return count_; }

    // Calls `run` with these threads as the C interface wants them.
    template <typename Run> bool with(Run &&run) const {
        ck_threads threads = ck_threads();
        if (!parallelize_) {
            threads.pool = pool_;
            return run(pool_ != nullptr ? &threads : nullptr);
        }
        Call call{&parallelize_, nullptr};
        threads.threads = count_;
        threads.parallelize = &Threads::call;
        threads.context = &call;
        const bool succeeded = run(&threads);
#if CONVKERNELS_EXCEPTIONS
        if (call.thrown) {
            std::rethrow_exception(call.thrown);
        }
#endif
        return succeeded;
    }

  private:
    struct Call {
        const Parallelize *parallelize;
        std::exception_ptr thrown;
    };

    // No exception may leave a callback.
    static void call(void *context, std::size_t parts, ck_part part, void *task) {
        Call *call = static_cast<Call *>(context);
#if CONVKERNELS_EXCEPTIONS
        try {
            (*call->parallelize)(parts, [=](std::size_t index) { part(task, index); });
        } catch (...) {
            call->thrown = std::current_exception();
        }
#else
        (*call->parallelize)(parts, [=](std::size_t index) { part(task, index); });
#endif
    }

    Parallelize parallelize_;
    const ck_pool *pool_ = nullptr;
    std::size_t count_ = 1;
};

// See ck_filter.
class Filter : public detail::Handle<ck_filter, ck_filter_destroy> {
  public:
    Filter(const ck_conv_desc &desc, const ck_weights &weights, ck_error *error = nullptr)
        : Handle(error, [&](ck_filter **filter, ck_error *e) {
              return ck_filter_create(&desc, &weights, filter, e);
          }) {}

    std::size_t packed_bytes() const noexcept { return ck_filter_packed_bytes(get()); }
};

// See ck_plan.
class Plan : public detail::Handle<ck_plan, ck_plan_destroy> {
  public:
    Plan(const ck_conv_desc &desc, const Filter &filter, ck_error *error = nullptr)
        : Handle(error, [&](ck_plan **plan, ck_error *e) { return ck_plan_create(&desc, filter.get(), plan, e); }) {
    }

    Plan(const ck_conv_desc &desc, const ck_weights &weights, ck_error *error = nullptr)
        : Handle(error, [&](ck_plan **plan, ck_error *e) {
              return ck_plan_create_with_weights(&desc, &weights, plan, e);
          }) {}

    // A buffer that is large enough for run().
    Buffer workspace(ck_error *error = nullptr) const {
        return Buffer(ck_plan_workspace_size(get()) / sizeof(float), error);
    }

    std::size_t input_len() const noexcept { return ck_plan_input_len(get()); }
    std::size_t output_len() const noexcept { return ck_plan_output_len(get()); }
    ck_shape output_shape() const noexcept { return ck_plan_output_shape(get()); }
    std::string explain() const { return ck_plan_explain(get()); }
    const char *algorithm() const noexcept { return ck_algorithm_name(ck_plan_algorithm(get())); }
    const char *products() const noexcept { return ck_products_name(ck_plan_products(get())); }

    bool run(const ck_io &io, const Buffer &workspace, const Threads &threads = Threads(),
             ck_error *error = nullptr) const {
        return threads.with([&](const ck_threads *t) {
            return detail::checked(error, [&](ck_error *e) {
                return ck_plan_run(get(), &io, workspace.data(), workspace.size() * sizeof(float), t, e);
            });
        });
    }
};

// See ck_conv.
class Conv : public detail::Handle<ck_conv, ck_conv_destroy> {
  public:
    Conv(const ck_conv_desc &desc, const ck_weights &weights, std::size_t plans = 32, ck_error *error = nullptr)
        : Handle(error, [&](ck_conv **conv, ck_error *e) {
              return ck_conv_create(&desc, &weights, plans, conv, e);
          }) {}

    ck_shape output_shape(const ck_shape &input, ck_error *error = nullptr) const {
        ck_shape output = {0, 0, 0, 0};
        detail::checked(error, [&](ck_error *e) { return ck_conv_output_shape(get(), &input, &output, e); });
        return output;
    }

    bool run(const ck_shape &input, const ck_io &io, const Threads &threads = Threads(),
             ck_error *error = nullptr) const {
        return threads.with([&](const ck_threads *t) {
            return detail::checked(error,
                                   [&](ck_error *e) { return ck_conv_run(get(), &input, &io, t, e); });
        });
    }
};

} // namespace convkernels

#endif
