// SPDX-License-Identifier: MIT
//
// SSIM of images: the kernels of the usual calls, which make the value and the gradient in one pass over memory.
#include "strip.h"

namespace fusedssim {

// The families of this unit (instances.h), and the shapes of their blocks.
template <class T, int R, int G>
__device__ __forceinline__ void ssim2d(const SsimParams<arithmetic_t<T>>& p) {
    walk_pieces<T, R, G, false, false>(p);
}
template <class T, int R, int G>
__device__ __forceinline__ void ssim2d_sheets(const SsimParams<arithmetic_t<T>>& p) {
    walk_pieces<T, R, G, false, true>(p);
}
template <class T, int R, int G>
using ssim2d_shape = Strip2d<arithmetic_t<T>, R, G, false>;
template <class T, int R, int G>
using ssim2d_sheets_shape = ssim2d_shape<T, R, G>;

FUSEDSSIM_SSIM2D_FAMILIES(FUSEDSSIM_STRIP_KERNELS)

}  // namespace fusedssim
