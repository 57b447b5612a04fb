// SPDX-License-Identifier: MIT
//
// SSIM of volumes: what float32 has kernels of its own for besides the usual calls. `With` in params.h says what they
// do. The backward kernel with weights serves losses under a mask, and masks that normalise.
#include "volume.h"

namespace fusedssim {

// The families of this unit (instances.h), and whether they filter the mass of a mask as well.
template <class T, int R, int G>
__device__ __forceinline__ void ssim3d_forward_masked(const SsimParams<arithmetic_t<T>>& p) {
    volume_forward<T, R, G, false, false, With::mask>(p);
}
template <class T, int R, int G>
__device__ __forceinline__ void ssim3d_forward_masked_loss(const SsimParams<arithmetic_t<T>>& p) {
    volume_forward<T, R, G, false, false, With::mask_and_l1>(p);
}
template <class T, int R, int G>
__device__ __forceinline__ void ssim3d_forward_normalized(const SsimParams<arithmetic_t<T>>& p) {
    volume_forward<T, R, G, true, false, With::mask_and_l1>(p);
}
template <class T, int R, int G>
__device__ __forceinline__ void ssim3d_backward_weighted(const SsimParams<arithmetic_t<T>>& p) {
    volume_backward<T, R, G, With::mask_and_l1>(p);
}
template <class T, int R, int G>
__device__ __forceinline__ void ssim3d_wide_forward(const SsimParams<arithmetic_t<T>>& p) {
    volume_forward<T, R, G, false, false>(p);
}
template <class T, int R, int G>
__device__ __forceinline__ void ssim3d_wide_backward(const SsimParams<arithmetic_t<T>>& p) {
    volume_backward<T, R, G>(p);
}
constexpr bool ssim3d_forward_masked_has_mass = false, ssim3d_forward_masked_loss_has_mass = false,
               ssim3d_forward_normalized_has_mass = true, ssim3d_backward_weighted_has_mass = false,
               ssim3d_wide_forward_has_mass = false, ssim3d_wide_backward_has_mass = false;

FUSEDSSIM_SSIM3D_VARIANTS_FAMILIES(FUSEDSSIM_VOLUME_KERNELS)

}  // namespace fusedssim
