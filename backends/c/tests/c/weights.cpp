// ck_weights has pointers to the vectors that convkernels::Weights was made of. A temporary would be gone before they
// are read, so it must not compile. This file is only compiled.

#include <convkernels.hpp>

#include <type_traits>
#include <vector>

using Kept = std::vector<float> &;
using Constant = const std::vector<float> &;
using Temporary = std::vector<float>;
using ConstantTemporary = const std::vector<float>;

template <typename... Arguments>
constexpr bool accepted = std::is_constructible<convkernels::Weights, Arguments...>::value;

static_assert(accepted<Kept> && accepted<Kept, Kept> && accepted<Kept, Kept, Kept>, "vectors that stay");
static_assert(accepted<Constant> && accepted<Constant, Kept, Constant>, "constant vectors that stay");
static_assert(!accepted<Temporary> && !accepted<ConstantTemporary>, "the kernels");
static_assert(!accepted<Temporary, Kept> && !accepted<Temporary, Kept, Kept>, "the kernels");
static_assert(!accepted<Kept, Temporary> && !accepted<Kept, ConstantTemporary>, "the biases");
static_assert(!accepted<Kept, Temporary, Kept> && !accepted<Kept, Temporary, Temporary>, "the biases");
static_assert(!accepted<Kept, Kept, Temporary> && !accepted<Kept, Kept, ConstantTemporary>, "the slopes");
static_assert(!std::is_convertible<Kept, convkernels::Weights>::value, "the constructor is explicit");

// Slopes without biases.
convkernels::Weights without_biases(Constant kernels, Constant slopes);
convkernels::Weights without_biases(Constant kernels, Constant slopes)
{
    return convkernels::Weights(kernels, {}, slopes);
}
