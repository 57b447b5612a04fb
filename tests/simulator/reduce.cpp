// SPDX-License-Identifier: MIT
#include "cuda_language.h"
// After the language that it is written in.
#include "reduce.cu"

namespace {

using namespace fusedssim;

#define REDUCE(TYPE) SIMULATOR_KERNEL(reduce_sums_##TYPE, ReduceParams)
#define SUM_MASK(TYPE) SIMULATOR_KERNEL(sum_mask_##TYPE, MaskParams)
#define REDUCE_MASK(TYPE) SIMULATOR_KERNEL(reduce_mask_##TYPE, MaskParams)
#define SCALE(TYPE) SIMULATOR_KERNEL(scale_##TYPE, ScaleParams)
#define POOL(TYPE) SIMULATOR_KERNEL(pool_##TYPE, PoolParams)
#define COMBINE(TYPE) SIMULATOR_KERNEL(combine_##TYPE, CombineParams)
constexpr simulator::Kernel kKernels[] = {FUSEDSSIM_REDUCE_KERNELS(REDUCE)            //
                                          FUSEDSSIM_SUM_MASK_KERNELS(SUM_MASK)        //
                                          FUSEDSSIM_REDUCE_MASK_KERNELS(REDUCE_MASK)  //
                                          FUSEDSSIM_SCALE_KERNELS(SCALE)              //
                                          FUSEDSSIM_POOL_KERNELS(POOL)                //
                                          FUSEDSSIM_COMBINE_KERNELS(COMBINE)};

}  // namespace

simulator::Kernels simulator::reduce_kernels() { return kKernels; }
