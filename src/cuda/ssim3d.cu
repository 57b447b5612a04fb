// SPDX-License-Identifier: MIT
//
// SSIM of volumes: the kernels of the usual calls.
#include "volume.h"

namespace fusedssim {

// The families of this unit (instances.h), and whether they filter the mass of a mask as well.
template <class T, int R, int G>
__device__ __forceinline__ void ssim3d_forward(const SsimParams<arithmetic_t<T>>& p) {
    volume_forward<T, R, G, false, false>(p);
}
template <class T, int R, int G>
__device__ __forceinline__ void ssim3d_forward_strided(const SsimParams<arithmetic_t<T>>& p) {
    volume_forward<T, R, G, false, true>(p);
}
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
__device__ __forceinline__ void ssim3d_backward(const SsimParams<arithmetic_t<T>>& p) {
    volume_backward<T, R, G>(p);
}
template <class T, int R, int G>
__device__ __forceinline__ void ssim3d_backward_masked_loss(const SsimParams<arithmetic_t<T>>& p) {
    volume_backward<T, R, G, With::mask_and_l1>(p);
}
constexpr bool ssim3d_forward_has_mass = false, ssim3d_forward_strided_has_mass = false,
               ssim3d_forward_masked_has_mass = false, ssim3d_forward_masked_loss_has_mass = false,
               ssim3d_forward_normalized_has_mass = true, ssim3d_backward_has_mass = false,
               ssim3d_backward_masked_loss_has_mass = false;

FUSEDSSIM_SSIM3D_FAMILIES(FUSEDSSIM_VOLUME_KERNELS)

}  // namespace fusedssim
