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
__device__ __forceinline__ void ssim3d_backward(const SsimParams<arithmetic_t<T>>& p) {
    volume_backward<T, R, G>(p);
}
constexpr bool ssim3d_forward_has_mass = false, ssim3d_forward_strided_has_mass = false,
               ssim3d_backward_has_mass = false;

FUSEDSSIM_SSIM3D_FAMILIES(FUSEDSSIM_VOLUME_KERNELS)

}  // namespace fusedssim
