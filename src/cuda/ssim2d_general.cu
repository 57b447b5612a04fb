// SPDX-License-Identifier: MIT
//
// SSIM of images: the general kernels, one for the value and the partial maps, and one that makes a gradient of these.
#include "strip.h"

namespace fusedssim {

// The families of this unit (instances.h), and the shapes of their blocks.
template <class T, int R, int G>
__device__ __forceinline__ void ssim2d_general_forward(const SsimParams<arithmetic_t<T>>& p) {
    walk_pieces<T, R, G, false, true, Pass::forward>(p);
}
template <class T, int R, int G>
__device__ __forceinline__ void ssim2d_general_forward_normalized(const SsimParams<arithmetic_t<T>>& p) {
    walk_pieces<T, R, G, true, true, Pass::forward>(p);
}
template <class T, int R, int G>
__device__ __forceinline__ void ssim2d_general_backward(const SsimParams<arithmetic_t<T>>& p) {
    walk_pieces<T, R, G, false, true, Pass::backward>(p);
}
template <class T, int R, int G>
using ssim2d_general_forward_shape = Strip2d<arithmetic_t<T>, R, G, false, Pass::forward>;
template <class T, int R, int G>
using ssim2d_general_forward_normalized_shape = Strip2d<arithmetic_t<T>, R, G, true, Pass::forward>;
template <class T, int R, int G>
using ssim2d_general_backward_shape = Strip2d<arithmetic_t<T>, R, G, false, Pass::backward>;

FUSEDSSIM_SSIM2D_GENERAL_FAMILIES(FUSEDSSIM_STRIP_KERNELS)

}  // namespace fusedssim
