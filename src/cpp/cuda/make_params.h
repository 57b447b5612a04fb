// SPDX-License-Identifier: MIT
//
// From what the library knows of a call to the parameter blocks of the kernels (src/cuda/params.h).
#pragma once

#include "cuda/plan.h"
#include "params.h"
#include "problem.h"

namespace fusedssim::cuda {

// Without pointers into the workspace, which the launcher fills in. General kernels read and write one element at a
// time, because they learn at run time how large it is: is_general tells whether those are that write gradients.
// Defined for float and double.
template <class A>
SsimParams<A> make_ssim_params(const Problem& p, const Blocks& blocks, bool is_general);

// Adds what a launch for volumes has of its own: its tiles, and the place of the partial maps. `maps`: memory for those
// of a slab. Defined for the same types.
template <class A>
void set_part(SsimParams<A>& k, const Problem& p, const Part& part, const Blocks& blocks, const Slabs& slabs,
              void* maps, int grads);

ReduceParams make_reduce_params(const Problem& p, const double* sums, const double* mask_sums, const Blocks& blocks);
MaskParams make_mask_params(const Problem& p, double* parts_sums, double* mask_sums);
ScaleParams make_scale_params(const ScaleProblem& p);
// From x or y of a level, its dtype and its scale, to that of the next one.
PoolParams make_pool_params(const Problem& level, Dtype dtype, double scale, const View& in, const View& out);
CombineParams make_combine_params(const CombineProblem& p);

}  // namespace fusedssim::cuda
