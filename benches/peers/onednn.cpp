// The worker of oneDNN, 2.6 and 3.x: `onednn-worker NAME THREADS`, one request and one answer a line. The requests are
// those of benches/src/peers/worker.rs. The bare primitive is timed, in the layouts that it prefers, weights packed:
// what oneDNN does between the layers of a network.
#include <chrono>
#include <fstream>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

#include <omp.h>
#include <oneapi/dnnl/dnnl.hpp>
#include <oneapi/dnnl/dnnl_version.h>

namespace {

using dnnl::memory;
using Tag = memory::format_tag;
constexpr auto f32 = memory::data_type::f32;

/// As in benches/src/layer.rs.
constexpr size_t max_slots = 4096;

struct Layer {
    memory::dim n, c, h, w, o, kh, kw, stride, pad, dilation, groups;

    memory::dim out(memory::dim len, memory::dim kernel) const {
        return (len + 2 * pad - dilation * (kernel - 1) - 1) / stride + 1;
    }
    memory::dims input() const { return {n, c, h, w}; }
    memory::dims output() const { return {n, o, out(h, kh), out(w, kw)}; }
    memory::dims filter() const {
        if (groups == 1) return {o, c, kh, kw};
        return {groups, o / groups, c / groups, kh, kw};
    }
    Tag filter_tag() const { return groups == 1 ? Tag::oihw : Tag::goihw; }
    /// The same filter for the transposed convolution, whose outputs are the inputs of this layer.
    memory::dims turned_filter() const {
        if (groups == 1) return {c, o, kh, kw};
        return {groups, c / groups, o / groups, kh, kw};
    }
    Tag turned_filter_tag() const { return groups == 1 ? Tag::iohw : Tag::giohw; }
};

/// What is computed of a layer: the request that prepares it.
enum class Direction { forward, data, weights, transposed };

/// A primitive that has been chosen, with the tensors that it reads and writes.
struct Chosen {
    struct Tensor {
        int argument;
        memory::desc chosen;
        memory::desc plain;
    };
    dnnl::primitive primitive;
    std::string name;
    /// Those of the two files.
    std::vector<Tensor> reads;
    /// One after the other in the file of the output.
    std::vector<Tensor> writes;
};

/// One slot of the ring: a primitive with memory of its own.
struct Slot {
    dnnl::primitive primitive;
    std::unordered_map<int, memory> operands;
};

/// Chooses primitives in the layouts that they prefer.
class Chooser {
public:
    Chooser(const Layer &layer, bool winograd, const dnnl::engine &engine)
        : l_(layer), engine_(engine), kind_(winograd ? dnnl::algorithm::convolution_winograd
                                                     : dnnl::algorithm::convolution_direct) {}

    Chosen choose(Direction direction) const {
        const auto forward = hint(direction == Direction::forward ? dnnl::prop_kind::forward_inference
                                                                  : dnnl::prop_kind::forward_training);
        const memory::desc x = plain(l_.input(), Tag::nchw), y = plain(l_.output(), Tag::nchw);
        const memory::desc filter = plain(l_.filter(), l_.filter_tag());
        if (direction == Direction::forward) {
            return {dnnl::convolution_forward(forward), forward.impl_info_str(),
                    {{DNNL_ARG_SRC, forward.src_desc(), x}, {DNNL_ARG_WEIGHTS, forward.weights_desc(), filter}},
                    {{DNNL_ARG_DST, forward.dst_desc(), y}}};
        }
#if DNNL_VERSION_MAJOR >= 3
        if (kind_ == dnnl::algorithm::convolution_direct) return backward(direction, forward, x, y, filter);
#endif
        throw std::runtime_error("this engine computes no gradients");
    }

private:
    using Forward = dnnl::convolution_forward::primitive_desc;

    static memory::desc plain(const memory::dims &dims, Tag tag) { return {dims, f32, tag}; }
    static memory::desc any(const memory::dims &dims) { return {dims, f32, Tag::any}; }
    memory::dims strides() const { return {l_.stride, l_.stride}; }
    // oneDNN counts the elements between two taps.
    memory::dims gaps() const { return {l_.dilation - 1, l_.dilation - 1}; }
    memory::dims pads() const { return {l_.pad, l_.pad}; }

    Forward hint(dnnl::prop_kind purpose) const {
        const auto src = any(l_.input()), filter = any(l_.filter()), dst = any(l_.output());
#if DNNL_VERSION_MAJOR >= 3
        return {engine_, purpose, kind_, src, filter, dst, strides(), gaps(), pads(), pads()};
#else
        using Desc = dnnl::convolution_forward::desc;
        return {Desc(purpose, kind_, src, filter, dst, strides(), gaps(), pads(), pads()), engine_};
#endif
    }

#if DNNL_VERSION_MAJOR >= 3
    Chosen backward(Direction direction, const Forward &forward, const memory::desc &x, const memory::desc &y,
                    const memory::desc &filter) const {
        const auto any_x = any(l_.input()), any_filter = any(l_.filter()), any_y = any(l_.output());
        if (direction == Direction::data) {
            const dnnl::convolution_backward_data::primitive_desc chosen(
                engine_, kind_, any_x, any_filter, any_y, strides(), gaps(), pads(), pads(), forward);
            return {dnnl::convolution_backward_data(chosen), chosen.impl_info_str(),
                    {{DNNL_ARG_DIFF_DST, chosen.diff_dst_desc(), y},
                     {DNNL_ARG_WEIGHTS, chosen.weights_desc(), filter}},
                    {{DNNL_ARG_DIFF_SRC, chosen.diff_src_desc(), x}}};
        }
        if (direction == Direction::weights) {
            const memory::desc bias = plain({l_.o}, Tag::x);
            const dnnl::convolution_backward_weights::primitive_desc chosen(
                engine_, kind_, any_x, any_filter, bias, any_y, strides(), gaps(), pads(), pads(), forward);
            return {dnnl::convolution_backward_weights(chosen), chosen.impl_info_str(),
                    {{DNNL_ARG_SRC, chosen.src_desc(), x}, {DNNL_ARG_DIFF_DST, chosen.diff_dst_desc(), y}},
                    {{DNNL_ARG_DIFF_WEIGHTS, chosen.diff_weights_desc(), filter}, {DNNL_ARG_DIFF_BIAS, bias, bias}}};
        }
        // The filter of a deconvolution names its own output first, but the file has the order of the convolution.
        const auto turned = l_.turned_filter();
        const dnnl::deconvolution_forward::primitive_desc chosen(
            engine_, dnnl::prop_kind::forward_inference, dnnl::algorithm::deconvolution_direct, any_y, any(turned),
            any_x, strides(), gaps(), pads(), pads());
        return {dnnl::deconvolution_forward(chosen), chosen.impl_info_str(),
                {{DNNL_ARG_SRC, chosen.src_desc(), y},
                 {DNNL_ARG_WEIGHTS, chosen.weights_desc(), plain(turned, l_.turned_filter_tag())}},
                {{DNNL_ARG_DST, chosen.dst_desc(), x}}};
    }
#endif

    const Layer l_;
    dnnl::engine engine_;
    dnnl::algorithm kind_;
};

class Worker {
public:
    Worker(bool winograd) : winograd_(winograd), engine_(dnnl::engine::kind::cpu, 0), stream_(engine_) {}

    std::string prepare(Direction direction, std::istream &words) {
        std::string files[2];
        size_t ring;
        words >> files[0] >> files[1] >> ring;
        Layer l;
        words >> l.n >> l.c >> l.h >> l.w >> l.o >> l.kh >> l.kw >> l.stride >> l.pad >> l.dilation >> l.groups;
        if (!words) throw std::runtime_error("words are missing");
        slots_.clear();
        const Chosen chosen = Chooser(l, winograd_, engine_).choose(direction);
        writes_ = chosen.writes;
        size_t bytes = 0;
        for (const auto *tensors : {&chosen.reads, &chosen.writes})
            for (const auto &tensor : *tensors) bytes += tensor.chosen.get_size();
        const size_t wanted = ring == 0 ? 1 : std::max<size_t>(2, (ring + bytes - 1) / bytes);
        std::vector<memory> plain;
        for (size_t i = 0; i < chosen.reads.size(); i++) plain.push_back(read(files[i], chosen.reads[i].plain));
        for (size_t slot = 0; slot < std::min(wanted, max_slots); slot++) {
            Slot made{chosen.primitive, {}};
            for (size_t i = 0; i < chosen.reads.size(); i++) {
                memory tensor(chosen.reads[i].chosen, engine_);
                dnnl::reorder(plain[i], tensor).execute(stream_, plain[i], tensor);
                made.operands.emplace(chosen.reads[i].argument, tensor);
            }
            for (const auto &tensor : chosen.writes)
                made.operands.emplace(tensor.argument, memory(tensor.chosen, engine_));
            stream_.wait();
            slots_.push_back(std::move(made));
        }
        next_ = 0;
        // All of the ring has been written and run once before anything is timed.
        for (size_t slot = 0; slot < slots_.size(); slot++) call();
        return chosen.name;
    }

    void output(const std::string &file) {
        call();
        const auto &operands = slots_.at((next_ + slots_.size() - 1) % slots_.size()).operands;
        std::ofstream stream(file, std::ios::binary);
        for (const auto &tensor : writes_) {
            memory result = operands.at(tensor.argument), plain(tensor.plain, engine_);
            dnnl::reorder(result, plain).execute(stream_, result, plain);
            stream_.wait();
            stream.write(static_cast<const char *>(plain.get_data_handle()), plain.get_desc().get_size());
        }
        if (!stream) throw std::runtime_error("cannot write " + file);
    }

    double time(long calls) {
        call();
        const auto start = std::chrono::steady_clock::now();
        for (long i = 0; i < calls; i++) call();
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    }

private:
    memory read(const std::string &file, const memory::desc &desc) {
        memory plain(desc, engine_);
        std::ifstream stream(file, std::ios::binary);
        stream.read(static_cast<char *>(plain.get_data_handle()), plain.get_desc().get_size());
        if (!stream) throw std::runtime_error("cannot read " + file);
        return plain;
    }

    void call() {
        Slot &slot = slots_.at(next_);
        slot.primitive.execute(stream_, slot.operands);
        stream_.wait();
        if (++next_ == slots_.size()) next_ = 0;
    }

    bool winograd_;
    dnnl::engine engine_;
    dnnl::stream stream_;
    std::vector<Chosen::Tensor> writes_;
    std::vector<Slot> slots_;
    size_t next_ = 0;
};

std::string answer(Worker &worker, const std::string &request) {
    std::istringstream words(request);
    std::ostringstream text;
    std::string verb, file;
    long calls = 0;
    words >> verb;
    const std::unordered_map<std::string, Direction> directions{{"prepare", Direction::forward},
                                                                {"data", Direction::data},
                                                                {"weights", Direction::weights},
                                                                {"transposed", Direction::transposed}};
    const auto direction = directions.find(verb);
    if (direction != directions.end()) {
        text << worker.prepare(direction->second, words);
    } else if (verb == "output" && words >> file) {
        worker.output(file);
    } else if (verb == "time" && words >> calls) {
        text.precision(9);
        text << worker.time(calls);
    } else {
        throw std::runtime_error("no such request: " + request);
    }
    return text.str();
}

} // namespace

int main(int argc, char **argv) {
    if (argc != 3) {
        std::cerr << "usage: " << argv[0] << " NAME THREADS\n";
        return 2;
    }
    omp_set_num_threads(std::stoi(argv[2]));
    Worker worker(std::string(argv[1]) == "onednn-winograd");
    for (std::string request; std::getline(std::cin, request);) {
        try {
            const std::string text = answer(worker, request);
            std::cout << "ok " << text << std::endl;
        } catch (const std::exception &error) {
            std::cout << "error " << error.what() << std::endl;
        }
    }
}
