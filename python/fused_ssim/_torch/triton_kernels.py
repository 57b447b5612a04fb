# SPDX-License-Identifier: MIT
"""Kernels of Triton: SSIM and its gradient in passes, each of which filters one axis. ``triton_call`` launches them.

A kernel never filters along the innermost axis of what it reads, so its loads are aligned, wide, and need no neighbour.
Before the last spatial axis is filtered, a kernel stores its result with the last two axes exchanged: ::

    images [y, x]      first along y      -> [x, y]    statistics along x -> partial maps [x, y]
                       spread along x     -> [y, x]    gradient along y

    images [z, y, x]   first along z      -> [z, y, x]    spread along y    -> [z, x, y]
                       statistics along x -> partial maps [z, x, y]
                       spread along x     -> [z, y, x]    spread along y    -> [z, y, x]    gradient along z

What a kernel reads is ``[outer, length, inner]``, and it filters ``length``. Rows of exchanged arrays are as long as a
multiple of 16 (``pitch``), so that they begin at aligned addresses; what lies behind their end is computed and never
looked at. A program has a tile of rows and columns of one outer part.

Pixels are pivoted: see ``plain_math``. Beyond the border they are 0, which is ``-pivot`` then, and filters see that.
Names are those of docs/derivation.md.

Annotations of kernels are instructions for Triton. Loops over taps are ``while``: a bound that is known, or ``range``,
would let some compilers unroll them and request all values at once, for which there are no registers.
"""

import triton
import triton.language as tl


@triton.jit
def sample_pivots(x_ptr, y_ptr, pivots_ptr, size, SAMPLES: tl.constexpr):
    """The pivots of x, y and d for each plane: means over some pixels, of numbers only. One program for each plane."""
    plane = tl.program_id(0)
    at = (tl.arange(0, SAMPLES).to(tl.int64) * 2 + 1) * size // (2 * SAMPLES) + plane.to(tl.int64) * size
    x = tl.load(x_ptr + at).to(tl.float32)
    y = tl.load(y_ptr + at).to(tl.float32)
    d = x - y
    usable = d - d == 0
    number = tl.maximum(tl.sum(tl.where(usable, 1.0, 0.0), 0), 1.0)
    mean_x = tl.sum(tl.where(usable, x, 0.0), 0) / number
    mean_y = tl.sum(tl.where(usable, y, 0.0), 0) / number
    mean_d = tl.sum(tl.where(usable, d, 0.0), 0) / number
    tl.store(pivots_ptr + plane * 3, tl.where(mean_x - mean_x == 0, mean_x, 0.0))
    tl.store(pivots_ptr + plane * 3 + 1, tl.where(mean_y - mean_y == 0, mean_y, 0.0))
    tl.store(pivots_ptr + plane * 3 + 2, tl.where(mean_d - mean_d == 0, mean_d, 0.0))


@triton.jit
def _tile(length, inner, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Of this program: the outer part, the first row, the first column."""
    across = tl.cdiv(inner, COLUMNS)
    tiles = across * tl.cdiv(length, ROWS)
    program = tl.program_id(0)
    tile = program % tiles
    return program // tiles, tile // across * ROWS, tile % across * COLUMNS


@triton.jit
def _place(outer, rows, columns, length, inner, in_pitch, out_pitch, EXCHANGE: tl.constexpr):
    """Where a tile is stored in its quantity, and which elements of it."""
    if EXCHANGE:
        at = outer.to(tl.int64) * inner * out_pitch + (columns[None, :] * out_pitch + rows[:, None])
        inside = (rows < out_pitch)[:, None] & (columns < inner)[None, :]
    else:
        at = outer.to(tl.int64) * length * in_pitch + (rows[:, None] * in_pitch + columns[None, :])
        inside = (rows < length)[:, None] & (columns < in_pitch)[None, :]
    return at, inside


@triton.jit
def first(
    taps_ptr, n_taps, x_ptr, y_ptr, pivots_ptr, out_ptr, absolute_ptr, quantity, length, inner, out_pitch,
    EXCHANGE: tl.constexpr, ABSOLUTE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """From the images to s', d', s'^2 and d'^2, filtered; and the sum of |x - y| over each tile."""
    outer, row, column = _tile(length, inner, ROWS, COLUMNS)
    rows = row + tl.arange(0, ROWS)
    columns = column + tl.arange(0, COLUMNS)
    start = outer.to(tl.int64) * length * inner
    c_x = tl.load(pivots_ptr + outer * 3)
    c_y = tl.load(pivots_ptr + outer * 3 + 1)
    e = tl.load(pivots_ptr + outer * 3 + 2)
    of_s = tl.zeros((ROWS, COLUMNS), tl.float32)
    of_d = tl.zeros((ROWS, COLUMNS), tl.float32)
    of_ss = tl.zeros((ROWS, COLUMNS), tl.float32)
    of_dd = tl.zeros((ROWS, COLUMNS), tl.float32)
    k = 0
    while k < n_taps:
        tap = tl.load(taps_ptr + k)
        seen = rows + (k - n_taps // 2)
        there = ((seen >= 0) & (seen < length))[:, None] & (columns < inner)[None, :]
        at = start + (seen[:, None] * inner + columns[None, :])
        x = tl.load(x_ptr + at, mask=there, other=0.0).to(tl.float32)
        y = tl.load(y_ptr + at, mask=there, other=0.0).to(tl.float32)
        s = (x - c_x) + (y - c_y)
        d = (x - y) - e
        of_s += tap * s
        of_d += tap * d
        of_ss += tap * s * s
        of_dd += tap * d * d
        k += 1
    to, inside = _place(outer, rows, columns, length, inner, inner, out_pitch, EXCHANGE)
    tl.store(out_ptr + to, of_s, mask=inside)
    tl.store(out_ptr + (quantity + to), of_d, mask=inside)
    tl.store(out_ptr + (2 * quantity + to), of_ss, mask=inside)
    tl.store(out_ptr + (3 * quantity + to), of_dd, mask=inside)
    if ABSOLUTE:
        there = (rows < length)[:, None] & (columns < inner)[None, :]
        at = start + (rows[:, None] * inner + columns[None, :])
        x = tl.load(x_ptr + at, mask=there, other=0.0).to(tl.float32)
        y = tl.load(y_ptr + at, mask=there, other=0.0).to(tl.float32)
        tl.store(absolute_ptr + tl.program_id(0), tl.sum(tl.sum(tl.abs(x - y), 1), 0))


@triton.jit
def spread(
    taps_ptr, n_taps, in_ptr, out_ptr, pivots_ptr, in_quantity, out_quantity, parts, depth, length, inner, in_pitch,
    out_pitch, mass,
    EXCHANGE: tl.constexpr, MOMENTS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Filters several quantities along one axis. Beyond the border are zeros, or what pixels of 0 give to a moment.

    ``parts``: of a quantity. ``mass``: that of the filters before.
    """
    both, row, column = _tile(length, inner, ROWS, COLUMNS)
    number = both // parts
    outer = both % parts
    rows = row + tl.arange(0, ROWS)
    columns = column + tl.arange(0, COLUMNS)
    start = number.to(tl.int64) * in_quantity + outer.to(tl.int64) * length * in_pitch
    beyond = 0.0
    if MOMENTS:
        plane = outer // depth
        c = tl.load(pivots_ptr + plane * 3) + tl.load(pivots_ptr + plane * 3 + 1)
        level = tl.where(number % 2 == 0, c, tl.load(pivots_ptr + plane * 3 + 2))
        beyond = tl.where(number < 2, -level, level * level) * mass
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    k = 0
    while k < n_taps:
        seen = rows + (k - n_taps // 2)
        there = ((seen >= 0) & (seen < length))[:, None] & (columns < in_pitch)[None, :]
        at = start + (seen[:, None] * in_pitch + columns[None, :])
        total += tl.load(taps_ptr + k) * tl.load(in_ptr + at, mask=there, other=beyond)
        k += 1
    to, inside = _place(outer, rows, columns, length, inner, in_pitch, out_pitch, EXCHANGE)
    tl.store(out_ptr + (number.to(tl.int64) * out_quantity + to), total, mask=inside)


@triton.jit
def _safe(denominator):
    """1 in place of 0: the numerator is 0, too."""
    return tl.where(denominator == 0, 1.0, denominator)


@triton.jit
def statistics(
    taps_ptr, n_taps, in_ptr, maps_ptr, sums_ptr, pivots_ptr, quantity, map_quantity, depth, length, inner, pitch,
    crop_depth, crop_length, crop_inner, mass, rest, c1x2, c2x2,
    GRADS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """The last filter of the moments; sums of DSSIM and of 1/2 - DSSIM over each tile; partial maps: (3) to (5).

    ``mass`` is that of the filters before, ``rest`` what all of them lack of 1. The partial maps are those of the mean
    of s, the variance of s, with the other sign the variance of d, and the mean of d. For a single gradient the means'
    are merged.
    """
    outer, row, column = _tile(length, inner, ROWS, COLUMNS)
    plane = outer // depth
    z = outer % depth
    rows = row + tl.arange(0, ROWS)
    columns = column + tl.arange(0, COLUMNS)
    start = outer.to(tl.int64) * length * pitch
    c = tl.load(pivots_ptr + plane * 3) + tl.load(pivots_ptr + plane * 3 + 1)
    e = tl.load(pivots_ptr + plane * 3 + 2)
    m_s = tl.zeros((ROWS, COLUMNS), tl.float32) - rest * c
    m_d = tl.zeros((ROWS, COLUMNS), tl.float32) - rest * e
    q_s = tl.zeros((ROWS, COLUMNS), tl.float32) + rest * c * c
    q_d = tl.zeros((ROWS, COLUMNS), tl.float32) + rest * e * e
    k = 0
    while k < n_taps:
        tap = tl.load(taps_ptr + k)
        seen = rows + (k - n_taps // 2)
        there = ((seen >= 0) & (seen < length))[:, None] & (columns < pitch)[None, :]
        at = in_ptr + (start + (seen[:, None] * pitch + columns[None, :]))
        m_s += tap * tl.load(at, mask=there, other=-c * mass)
        m_d += tap * tl.load(at + quantity, mask=there, other=-e * mass)
        q_s += tap * tl.load(at + 2 * quantity, mask=there, other=c * c * mass)
        q_d += tap * tl.load(at + 3 * quantity, mask=there, other=e * e * mass)
        k += 1
    v_s = q_s - m_s * m_s
    v_d = q_d - m_d * m_d
    # Negative by rounding alone. Not tl.maximum, which may make 0 of NaN.
    v_s = tl.where(v_s < 0, 0.0, v_s)
    v_d = tl.where(v_d < 0, 0.0, v_d)
    inv2 = 1.0 / _safe(v_s + v_d + c2x2)
    b = v_d * inv2
    mu_s = m_s + c
    mu_d = m_d + e
    a = mu_d / _safe(mu_s * mu_s + (mu_d * mu_d + c1x2))
    t = mu_d * a
    lum = 1 - 2 * t
    dssim = t + b * lum
    dssim = tl.where(dssim < 0, 0.0, dssim)
    counts_length = (rows >= crop_length) & (rows < length - crop_length)
    counts_inner = (columns >= crop_inner) & (columns < inner - crop_inner)
    counts = counts_length[:, None] & counts_inner[None, :] & ((z >= crop_depth) & (z < depth - crop_depth))
    program = tl.program_id(0)
    tl.store(sums_ptr + program * 2, tl.sum(tl.sum(tl.where(counts, dssim, 0.0), 1), 0))
    tl.store(sums_ptr + program * 2 + 1, tl.sum(tl.sum(tl.where(counts, 0.5 - dssim, 0.0), 1), 0))
    if GRADS:
        r = lum * inv2
        p_var_s = r * b
        minus_p_var_d = r - p_var_s
        gamma_a = (1 - 2 * b) * a
        p_mean_s = mu_s * gamma_a * a - m_s * p_var_s
        p_mean_d = (t - 1) * gamma_a + m_d * minus_p_var_d
        to = maps_ptr + (start + (rows[:, None] * pitch + columns[None, :]))
        inside = (rows < length)[:, None] & (columns < pitch)[None, :]
        if GRADS == 1:
            p_mean_s += p_mean_d
        if GRADS == 2:
            p_mean_s -= p_mean_d
        tl.store(to, tl.where(counts, p_mean_s, 0.0), mask=inside)
        tl.store(to + map_quantity, tl.where(counts, p_var_s, 0.0), mask=inside)
        tl.store(to + 2 * map_quantity, tl.where(counts, minus_p_var_d, 0.0), mask=inside)
        if GRADS == 3:
            tl.store(to + 3 * map_quantity, tl.where(counts, p_mean_d, 0.0), mask=inside)


@triton.jit
def gradient(
    taps_ptr, n_taps, in_ptr, x_ptr, y_ptr, grad1_ptr, grad2_ptr, pivots_ptr, gains_ptr, quantity, length, inner, pitch,
    gain, pixel_gain,
    GRADS: tl.constexpr, ABSOLUTE: tl.constexpr, GAINS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """The last filter of the partial maps, and the gradients of the value: (6) and (7).

    ``gain`` multiplies the gradient of the sum of SSIM, ``pixel_gain`` that of the sum of |x - y|; with ``GAINS``,
    each plane has factors of its own for both, besides.
    """
    outer, row, column = _tile(length, inner, ROWS, COLUMNS)
    rows = row + tl.arange(0, ROWS)
    columns = column + tl.arange(0, COLUMNS)
    start = outer.to(tl.int64) * length * pitch
    by_mean_s = tl.zeros((ROWS, COLUMNS), tl.float32)
    by_mean_d = tl.zeros((ROWS, COLUMNS), tl.float32)
    by_var_s = tl.zeros((ROWS, COLUMNS), tl.float32)
    minus_by_var_d = tl.zeros((ROWS, COLUMNS), tl.float32)
    k = 0
    while k < n_taps:
        tap = tl.load(taps_ptr + k)
        seen = rows + (k - n_taps // 2)
        there = ((seen >= 0) & (seen < length))[:, None] & (columns < pitch)[None, :]
        at = in_ptr + (start + (seen[:, None] * pitch + columns[None, :]))
        by_mean_s += tap * tl.load(at, mask=there, other=0.0)
        by_var_s += tap * tl.load(at + quantity, mask=there, other=0.0)
        minus_by_var_d += tap * tl.load(at + 2 * quantity, mask=there, other=0.0)
        if GRADS == 3:
            by_mean_d += tap * tl.load(at + 3 * quantity, mask=there, other=0.0)
        k += 1
    inside = (rows < length)[:, None] & (columns < inner)[None, :]
    at = outer.to(tl.int64) * length * inner + (rows[:, None] * inner + columns[None, :])
    x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
    y = tl.load(y_ptr + at, mask=inside, other=0.0).to(tl.float32)
    difference = x - y
    s = (x - tl.load(pivots_ptr + outer * 3)) + (y - tl.load(pivots_ptr + outer * 3 + 1))
    d = difference - tl.load(pivots_ptr + outer * 3 + 2)
    if GAINS:
        gain = gain * tl.load(gains_ptr + outer * 2)
        pixel_gain = pixel_gain * tl.load(gains_ptr + outer * 2 + 1)
    of_s = gain * (by_mean_s + s * by_var_s)
    of_d = gain * (by_mean_d - d * minus_by_var_d)
    if ABSOLUTE:
        of_pixel = pixel_gain * tl.where(difference > 0, 1.0, tl.where(difference < 0, -1.0, 0.0))
        of_d += of_pixel
    if GRADS & 1:
        tl.store(grad1_ptr + at, of_s + of_d, mask=inside)
    if GRADS & 2:
        tl.store(grad2_ptr + at, of_s - of_d, mask=inside)
