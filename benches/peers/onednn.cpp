// The worker of oneDNN, 2.6 and 3.x: `onednn-worker NAME THREADS`, one request and one answer a line. The requests are
// those of benches/src/shootout/worker.rs. The bare primitive is timed, in the layouts that it prefers, weights packed:
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
};

/// One slot of the ring: a primitive with memory of its own.
struct Slot {
    dnnl::convolution_forward primitive;
    std::unordered_map<int, memory> operands;
};

class Worker {
public:
    Worker(bool winograd) : winograd_(winograd), engine_(dnnl::engine::kind::cpu, 0), stream_(engine_) {}

    std::string prepare(std::istream &words) {
        std::string input_file, filter_file;
        size_t ring;
        words >> input_file >> filter_file >> ring;
        Layer l;
        words >> l.n >> l.c >> l.h >> l.w >> l.o >> l.kh >> l.kw >> l.stride >> l.pad >> l.dilation >> l.groups;
        if (!words) throw std::runtime_error("words are missing");
        slots_.clear();
        const auto chosen = choose(l);
        const auto src = chosen.src_desc(), filter = chosen.weights_desc(), dst = chosen.dst_desc();
        const size_t bytes = src.get_size() + filter.get_size() + dst.get_size();
        const size_t wanted = ring == 0 ? 1 : std::max<size_t>(2, (ring + bytes - 1) / bytes);
        memory plain_input = read(input_file, l.input(), Tag::nchw);
        memory plain_filter = read(filter_file, l.filter(), l.filter_tag());
        for (size_t slot = 0; slot < std::min(wanted, max_slots); slot++) {
            memory x(src, engine_), k(filter, engine_), y(dst, engine_);
            dnnl::reorder(plain_input, x).execute(stream_, plain_input, x);
            dnnl::reorder(plain_filter, k).execute(stream_, plain_filter, k);
            stream_.wait();
            slots_.push_back({dnnl::convolution_forward(chosen),
                              {{DNNL_ARG_SRC, x}, {DNNL_ARG_WEIGHTS, k}, {DNNL_ARG_DST, y}}});
        }
        next_ = 0;
        // All of the ring has been written and run once before anything is timed.
        for (size_t slot = 0; slot < slots_.size(); slot++) call();
        return chosen.impl_info_str();
    }

    void output(const std::string &file) {
        call();
        memory y = slots_.at((next_ + slots_.size() - 1) % slots_.size()).operands.at(DNNL_ARG_DST);
        memory plain({output_, f32, Tag::nchw}, engine_);
        dnnl::reorder(y, plain).execute(stream_, y, plain);
        stream_.wait();
        std::ofstream stream(file, std::ios::binary);
        stream.write(static_cast<const char *>(plain.get_data_handle()), plain.get_desc().get_size());
        if (!stream) throw std::runtime_error("cannot write " + file);
    }

    double time(long calls) {
        call();
        const auto start = std::chrono::steady_clock::now();
        for (long i = 0; i < calls; i++) call();
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    }

private:
    dnnl::convolution_forward::primitive_desc choose(const Layer &l) {
        using dnnl::convolution_forward;
        output_ = l.output();
        const auto kind = winograd_ ? dnnl::algorithm::convolution_winograd : dnnl::algorithm::convolution_direct;
        const auto inference = dnnl::prop_kind::forward_inference;
        const memory::desc src(l.input(), f32, Tag::any), filter(l.filter(), f32, Tag::any);
        const memory::desc dst(output_, f32, Tag::any);
        // oneDNN counts the elements between two taps.
        const memory::dims strides{l.stride, l.stride}, gaps{l.dilation - 1, l.dilation - 1}, pads{l.pad, l.pad};
#if DNNL_VERSION_MAJOR >= 3
        return {engine_, inference, kind, src, filter, dst, strides, gaps, pads, pads};
#else
        return {convolution_forward::desc(inference, kind, src, filter, dst, strides, gaps, pads, pads), engine_};
#endif
    }

    memory read(const std::string &file, const memory::dims &dims, Tag tag) {
        memory plain({dims, f32, tag}, engine_);
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
    memory::dims output_;
    std::vector<Slot> slots_;
    size_t next_ = 0;
};

std::string answer(Worker &worker, const std::string &request) {
    std::istringstream words(request);
    std::ostringstream text;
    std::string verb, file;
    long calls = 0;
    words >> verb;
    if (verb == "prepare") {
        text << worker.prepare(words);
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
