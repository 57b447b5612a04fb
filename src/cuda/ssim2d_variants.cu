// SPDX-License-Identifier: MIT
//
// SSIM of images: what float32 has kernels of its own for besides the usual calls. `With` in params.h says what they
// do.
#include "strip.h"

namespace fusedssim {

// The families of this unit (instances.h), and the shapes of their blocks.
template <class T, int R, int G>
__device__ __forceinline__ void ssim2d_masked(const SsimParams<arithmetic_t<T>>& p) {
    walk_pieces<T, R, G, false, G == 1, Pass::both, With::mask>(p);
}
template <class T, int R, int G>
__device__ __forceinline__ void ssim2d_masked_loss(const SsimParams<arithmetic_t<T>>& p) {
    walk_pieces<T, R, G, false, G == 1, Pass::both, With::mask_and_l1>(p);
}
template <class T, int R, int G>
__device__ __forceinline__ void ssim2d_pooling(const SsimParams<arithmetic_t<T>>& p) {
    walk_pieces<T, R, G, false, false, Pass::both, With::pooling>(p);
}
// Wide windows: in two passes.
template <class T, int R, int G>
__device__ __forceinline__ void ssim2d_wide_forward(const SsimParams<arithmetic_t<T>>& p) {
    walk_pieces<T, R, G, false, true, Pass::forward>(p);
}
template <class T, int R, int G>
__device__ __forceinline__ void ssim2d_wide_backward(const SsimParams<arithmetic_t<T>>& p) {
    walk_pieces<T, R, G, false, true, Pass::backward>(p);
}
// And windows that a mask normalises.
template <class T, int R, int G>
__device__ __forceinline__ void ssim2d_normalized(const SsimParams<arithmetic_t<T>>& p) {
    walk_pieces<T, R, G, true, false, Pass::forward, With::mask_and_l1>(p);
}
template <class T, int R, int G>
__device__ __forceinline__ void ssim2d_normalized_backward(const SsimParams<arithmetic_t<T>>& p) {
    walk_pieces<T, R, G, false, false, Pass::backward, With::mask_and_l1>(p);
}
template <class T, int R, int G>
using ssim2d_masked_shape = Strip2d<arithmetic_t<T>, R, G, false>;
template <class T, int R, int G>
using ssim2d_masked_loss_shape = Strip2d<arithmetic_t<T>, R, G, false>;
template <class T, int R, int G>
using ssim2d_pooling_shape = Strip2d<arithmetic_t<T>, R, G, false>;
template <class T, int R, int G>
using ssim2d_wide_forward_shape = Strip2d<arithmetic_t<T>, R, G, false, Pass::forward>;
template <class T, int R, int G>
using ssim2d_wide_backward_shape = Strip2d<arithmetic_t<T>, R, G, false, Pass::backward>;
template <class T, int R, int G>
using ssim2d_normalized_shape = Strip2d<arithmetic_t<T>, R, G, true, Pass::forward>;
template <class T, int R, int G>
using ssim2d_normalized_backward_shape = Strip2d<arithmetic_t<T>, R, G, false, Pass::backward>;

FUSEDSSIM_SSIM2D_VARIANTS_FAMILIES(FUSEDSSIM_STRIP_KERNELS)

}  // namespace fusedssim
