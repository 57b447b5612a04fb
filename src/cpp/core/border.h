// SPDX-License-Identifier: MIT
//
// What a window sees beyond the border of an image: one notion for the CPU kernels and the CUDA kernels. Includes no
// standard header: NVRTC compiles it too.
//
// A kernel that reads an image, or a normalised mask, at a position that may lie outside asks sees_element() first, and
// then reads the element that element_seen() names. What it does not see is zero.
//
// The gradient, for one axis (derivation.md, "Borders"). Let F be the filter with its border: the gradient is F^T of
// the partials p.
//
//     zeros       F^T = F
//     symmetric   F^T = F: element j is seen where windows reach w(i - j) and w(i + j + 1), which i and j may exchange
//     reflect     F = S D with a symmetric S, and D = 1 but 1/2 at both edge elements, which are seen once where others
//                 are seen twice. So F^T = D F D^-1: edge partials count twice, F continues them like the images, and
//                 the gradient of edge elements is halved. See edge_partial_weight(), edge_gradient_weight().
//     replicate   F^T = the filter of zeros, but for the edge elements: these are seen by all taps that reach beyond.
//                 In their gradient a partial weighs the sum of all taps from its distance to the edge on.
//
// With a mirror, partials outside the image are those of the element that is seen there. So a kernel may either read
// them there, or compute them from images that are continued twice as far.
//
// To add a border: an enumerator, and its cases here; a fusedssim_padding, and edges_of() in settings.cpp. A border
// whose transpose is none of the above needs a case where kernels ask is_mirror().
// The pooling of MS-SSIM has a border of its own (core/pooling.h).
#pragma once

#include "core/ssim_math.h"

namespace fusedssim {

enum class Border : int { zeros, reflect, symmetric, replicate };

// Whether windows see an element of the image at this position of an axis of `size` elements.
FUSEDSSIM_MATH bool sees_element(Border border, int position, int size) {
    return border != Border::zeros || (position >= 0 && position < size);
}

// The element that is seen at a position. It is mirrored as often as needed: near images larger than the window once.
FUSEDSSIM_MATH int element_seen(Border border, int position, int size) {
    if (border == Border::zeros) return position;
    if (border == Border::replicate || size == 1) return position < 0 ? 0 : position >= size ? size - 1 : position;
    const int repeated = border == Border::symmetric;  // elements at the edge: a b c | c b a, or a b c | b a
    while (position < 0 || position >= size)
        position = position < 0 ? -repeated - position : 2 * (size - 1) + repeated - position;
    return position;
}

// Whether partials go on beyond the image, as its elements do.
FUSEDSSIM_MATH bool is_mirror(Border border) { return border == Border::reflect || border == Border::symmetric; }

// D^-1 and D, at a position where `element` is seen. A row of one element has no edge: it is its own mirror.
FUSEDSSIM_MATH bool is_seen_once(Border border, int element, int size) {
    return border == Border::reflect && size > 1 && (element == 0 || element == size - 1);
}
FUSEDSSIM_MATH int edge_partial_weight(Border border, int element, int size) {
    return is_seen_once(border, element, size) ? 2 : 1;
}
FUSEDSSIM_MATH float edge_gradient_weight(Border border, int element, int size) {
    return is_seen_once(border, element, size) ? 0.5f : 1.0f;
}

}  // namespace fusedssim
