// SPDX-License-Identifier: MIT
//
// SSIM of images, its map, and its gradient: in the usual kernels in one pass over memory and with nothing saved.
// naive.cu has the same formulas without any of what follows; read that first.
//
// A block walks down a strip of columns of one plane, or of planes side by side, four rows at a time, or eight rows if
// there is no gradient. (Then it may walk down a part of another strip: see Partition.) Each batch of rows has two
// phases, with a barrier after each:
//
//     down     a thread is a column. It loads x, y --> s, d, s^2, d^2 --> vertical taps --> moments --shared--+
//              and takes partials of the batch before <--shared--+                                            |
//                  --> vertical taps --shared--+                 |                                            |
//     across   a thread is 4 (or 8) adjacent columns of a row.   |                                            |
//                  horizontal taps <-----------+--> gradient of the row 2R above                              |
//                  horizontal taps <---------------------------- | -------------------------------------------+
//                  --> DSSIM, its sum and the map; --> partials -+
//
//     columns of a strip (G > 0)  |<R>|<R>|<-------- out -------->|<R>|<R>|
//                                  read   statistics and gradient   read
//                                      statistics              statistics
//
// The vertical filters come first: so each element is squared once, no thread needs its neighbours, and the rows of the
// halo cost nothing else. They are transposed FIRs in registers (device.h), with 2R running sums per quantity. In
// shared memory (strip_rows.h) the columns of a row are sorted by their residue modulo 4 (or 8), with pitches that let
// both phases read and write without bank conflicts. On sm_90 the float32 kernels for R = 5 take 128 registers per
// thread (168 with both gradients) and 48 KB of shared memory (34 KB without a gradient, 36 KB with both), so that 2
// blocks fit on a multiprocessor. For longer windows there are two kernels, one for each half of the picture: see Pass.
// The partials then go through memory. Equation numbers: docs/derivation.md. Template parameters: params.h.
//
// This is what ssim2d.cu, ssim2d_variants.cu and ssim2d_general.cu have in common. The file is long because it is one
// class: all phases of a strip share its registers.
#pragma once

#include "block_sums.h"
#include "core/ssim_math.h"
#include "instances.h"
#include "pivot_sample.h"
#include "strip_rows.h"

namespace fusedssim {

// Where a column of a sheet is, which begins with the plane of `tile`. Behind a plane, its x is too large. What takes
// other columns than these, and the block's tile for all threads, has a plane to itself: see make_sheet() in the
// launchers.
template <bool kSheets, class A>
__device__ __forceinline__ Spot spot_of(const SsimParams<A>& p, const Tile& tile, int column) {
    if constexpr (!kSheets) return {tile, column};
    const Partition& sheet = p.partition;
    const int plane = imin(int(sheet.by_pitch.quotient(imax(column, 0))), sheet.planes - 1);
    const int channel = tile.channel + plane, images = int(sheet.by_channels.quotient(channel));
    Spot at = {tile, column - plane * sheet.pitch};
    at.tile.image += images;
    at.tile.channel = channel - images * p.channels;
    return at;
}

// The walk of a block down (a part of) one strip.
template <class T, int R, int G, bool kNormalized, bool kSheets, Pass kPass, With kWith>
struct Strip {
    using A = arithmetic_t<T>;
    using Access = Elements<T>;
    static constexpr bool kGeneral = is_general<T>;
    using Shape = Strip2d<A, R, G, kNormalized, kPass>;
    static constexpr bool kStatistics = Shape::has_statistics, kGradient = Shape::has_gradient, kBoth = Shape::has_both;
    static constexpr bool kStoresPartials = G && !kGradient;
    static constexpr bool kPooling = kWith == With::pooling, kMaskAndL1 = kWith == With::mask_and_l1,
                          kMask = kWith == With::mask || kMaskAndL1;
    static_assert(kWith == With::nothing || !kGeneral, "usual kernels");
    // Pooling: the columns of a block of elements are those of two neighbouring threads, of which the first is even.
    static constexpr int kShift = kPooling ? Shape::halo % 2 : 0;
    // Filters of wide windows are long: they stand once, in a loop over rows, and not once for each row.
    static constexpr bool kRolls = Shape::wide && (sizeof(A) == 8 || (kNormalized && kStatistics));
    // Rows that are loaded before they are filtered: a batch, or one, where running sums leave no registers for more.
    static constexpr int kAhead = kRolls ? 1 : Shape::rows;
    static constexpr int kMoments = kNormalized ? 5 : 4;  // of s, d, s^2, d^2, and the mass
    static constexpr int kMaps = G ? filtered_maps(G) : 1;
    // The moments and maps that a thread filters down a column, and its running sums, of 2R numbers each.
    static constexpr int kSplit = Shape::split, kOwnMoments = kMoments / kSplit,
                         kOwnMaps = (kMaps + kSplit - 1) / kSplit;
    static constexpr int kStates = kBoth ? kMoments + kMaps : kStatistics ? kOwnMoments : kOwnMaps;
    static constexpr int kColumns = Shape::group;  // adjacent columns of a thread, across
    static constexpr int kGroups = Shape::columns / kColumns;
    struct Shared {
        Rows<A, Shape::rows, kStatistics ? Shape::inner + 2 * R : kColumns, kMoments, kColumns> moments;
        Rows<A, Shape::rows, kBoth ? Shape::inner : kColumns, kMaps, kColumns> partials;
        Rows<A, Shape::rows, kGradient ? Shape::inner : kColumns, kMaps, kColumns> filtered;
        Stability<A> stability;     // of the strip's image
        Column<A, kMoments> begin;  // what the filter along x begins with
    };

    const SsimParams<A>& p;
    const Tile tile;
    Shared& shared;
    const int thread;  // of the block: signed, which makes better code
    // Down: the column of the strip, and which part of its filters this thread has. (Pooling: -1 is no column.)
    const int down, part;
    const int x0;               // the first column that the block writes
    const int row_begin, rows;  // the rows that the block writes,
    int map_begin, map_rows;    // and those rows of the map that it computes
    // Across: the row of the batch, and the group of columns, that this thread has.
    const int across_row, group;
    // What does not change from batch to batch has a bit each, so that a test is one instruction. The first bits are
    // for `across`: whether the map has an element, for each column of this thread.
    unsigned flags;
    static constexpr unsigned kFirst4 = 15, kLast4 = kFirst4 << (kColumns - 4), kAllColumns = kFirst4 | kLast4;
    static constexpr unsigned kOwned = 1 << 8;        // this block sums (and writes) these elements of the map
    static constexpr unsigned kPlain = 1 << 9;        // only the sum is wanted, of 4 columns or of all
    static constexpr unsigned kStoresMap = 1 << 10;   // the map is written
    static constexpr unsigned kHasMoments = 1 << 11;  // this thread computes statistics
    static constexpr unsigned kHasOutput = 1 << 12;   // this thread computes gradients
    static constexpr unsigned kPacked = 1 << 13;      // its 4 elements of an image or a gradient are accessed as one
    static constexpr unsigned kL1Gradient = 1 << 14;  // |x - y| has a part in the gradient
    static constexpr unsigned kRare = 1 << 15;        // and so has something rarer: see add_to_gradient()
    // Down.
    static constexpr unsigned kReads = 1 << 16;     // this column is in the image
    static constexpr unsigned kSumsL1 = 1 << 17;    // this thread sums |x - y| of its column
    static constexpr unsigned kFilters = 1 << 18;   // this thread filters partials
    static constexpr unsigned kWeighted = 1 << 19;  // the partials have weights: weight_partials()
    static constexpr unsigned kMasked = 1 << 20;    // across: there is a mask
    static constexpr unsigned kEdges = 1 << 21;     // edges have weights: edge_partial_weight() in core/border.h
    static constexpr unsigned kSums = 1 << 23;      // only the sum is wanted, of some columns
    static constexpr unsigned kPools = 1 << 22;     // this thread writes blocks of elements: see pool()
    // Down: running sums of the vertical filters, first of the moments, then of the partials.
    TransposedFir<A, R> fir[kStates];
    Cursor<T> x_at, y_at;                              // the row that will be read next
    typename Access::Raw x[kAhead], y[kAhead];         // the next rows, already loaded
    MaskBits<A> m[kNormalized || kMask ? kAhead : 1];  // and their mask; With::mask: see request_mask()
    const char* weights_at;                            // With::mask: its column in row 0 of p.weights
    A partials[kAhead][kOwnMaps];          // Pass::backward: the next rows of the partial maps, already loaded
    A* partials_at;                        // across: where they are written; down: row 0 of the first own map
    Cursor<T> x_here, y_here, to_x, to_y;  // across: where the gradient is computed
    A dssim_sum, l1_sum;
    A scale, l1_scale;            // of the gradients in this plane
    const PivotSample<T> sample;  // of this piece; Pass::backward: of the sheet
    Pivot<A> pivot;
    // Partials that go through memory are filtered together, whichever piece they come from: they have the pivot of
    // their sheet. This leads there from `pivot`.
    Pivot<A> shift;

    __device__ __forceinline__ Strip(const SsimParams<A>& params, const Tile& at, int first, int end, Shared& memory)
        : p(params), tile(at), shared(memory), thread(threadIdx.x),
          down((kSplit == 2 ? thread % Shape::columns : thread) - kShift),
          part(kSplit == 2 ? thread / Shape::columns : 0), x0(tile.tile_x * params.partition.columns), row_begin(first),
          rows(end - first), across_row(thread / kGroups), group(thread % kGroups), flags(0), x_at(read_cursor(p.x)),
          y_at(read_cursor(p.y)), x_here(gradient_cursor(p.x)), y_here(gradient_cursor(p.y)),
          to_x(gradient_cursor(p.grad_x)), to_y(gradient_cursor(p.grad_y)), dssim_sum(0), l1_sum(0),
          scale(params.scale), l1_scale(params.l1_scale),
          sample(kStatistics ? sample_of(first, end - first, x0, imin(p.partition.columns, sheet_width() - x0))
                             : sample_of_sheet()) {
        if (kGradient) plane_scales(p, tile, scale, l1_scale);
        if (kMask && (kBoth || (kStatistics && kMaskAndL1))) {
            const Spot at = spot(x0 - (kBoth ? Shape::margin : Shape::halo) + down);
            weights_at = address(p.weights, at.tile, 0, 0, at.x);
        }
        map_begin = imax(row_begin - Shape::margin, p.map_begin_y());
        map_rows = imax(imin(end + Shape::margin, p.map_end_y()) - map_begin, 0);
        // The partials of columns without a map element are zero, and so is what lies beyond the border, if windows see
        // nothing there. Shared memory is zero at these columns from the beginning, and no thread writes there.
        const int partial_column = spot(x0 - Shape::margin + down).x;
        // Of the columns of a strip, the threads behind the last one that it needs do nothing.
        const int used = p.partition.columns + 2 * Shape::halo, inner = p.partition.columns + 2 * Shape::margin;
        if (kStatistics && (kShift == 0 || down >= 0) && down < used &&
            sees_element(border(), spot(x0 - Shape::halo + down).x, p.width))
            flags |= kReads;
        if (kPooling) {
            if (down >= Shape::halo && down < Shape::halo + p.partition.columns && read_column() < p.width)
                flags |= kPools;
#pragma unroll
            for (int k = 0; k < kAhead; ++k) x[k] = y[k] = {};
        }
        if (p.has_l1 && part == 0 && down >= Shape::halo && down < Shape::halo + p.partition.columns) flags |= kSumsL1;
        if (kGradient && down < imin(Shape::inner, inner) &&
            (has_partials_beyond() || (partial_column >= p.map_begin_x() && partial_column < p.map_end_x())))
            flags |= kFilters;
        if (p.mask.data || p.upstream == kUpstreamMap) flags |= kWeighted;
        if (has_rare_parts(p, l1_scale)) flags |= kRare;
        // Where the mask is at hand for the gradient of |x - y|, its sum costs nothing more.
        if (kBoth && p.mask.data && p.has_l1) flags = (flags | kRare) & ~kSumsL1;
        if (p.mask.data) flags |= kMasked;
        if (l1_scale != A(0)) flags |= kL1Gradient;
        if (border() == Border::reflect) flags |= kEdges | kWeighted;
        if (kGeneral && spot(x0 - Shape::halo + down).x >= p.width) flags &= ~kSumsL1;

        // A group is that of the plane of its last column: the gap before a plane is wider than the rest of the group.
        const int column = spot(statistics_column(group) + kColumns - 1).x - (kColumns - 1);
#pragma unroll
        for (int c = 0; c < kColumns; ++c)
            if (column + c >= p.map_begin_x() && column + c < p.map_end_x() &&
                (kBoth || kColumns * group + c < p.partition.columns))
                flags |= 1u << c;
        // With gradients, a block also computes statistics of columns beside its strip, which belong to other blocks.
        // It owns whole groups.
        constexpr int kFirst = Shape::margin / kColumns;
        if (kBoth && group >= kFirst &&
            (group < kFirst + p.partition.columns / kColumns || tile.tile_x + 1 == p.partition.strips))
            flags |= kOwned;
        const bool is_simple = (flags & kFirst4) == kFirst4 && ((flags & kLast4) == kLast4 || !(flags & kLast4));
        if (!G && p.map.data) flags |= kStoresMap;
        if (!p.mask.data && !(G && (flags & kWeighted)) && !(flags & kStoresMap)) flags |= is_simple ? kPlain : kSums;
        if (kStatistics && kColumns * group < imin(Shape::inner, inner) && column < p.width) flags |= kHasMoments;
        // (A variable for that column, outside the conditions, spills registers in the loop over rows.)
        if (kGradient && kColumns * group < p.partition.columns && spot(gradient_column()).x < p.width)
            flags |= kHasOutput;
        if (p.packed_grads && spot(gradient_column()).x + 3 < p.width) flags |= kPacked;
        if (kStoresPartials)
            partials_at = in_maps(spot(statistics_column(group)), first_row() - R + across_row);
        else if (kGradient && !kBoth)
            partials_at =
                in_maps({spot(x0 - R + down).tile, column_seen(partial_column)}, 0) + kOwnMaps * part * p.maps_stride;
    }

    __device__ __forceinline__ Border border() const { return border_of<T>(p); }
    // Whether partials beyond the image go on as its elements do.
    __device__ __forceinline__ bool has_partials_beyond() const { return kGradient && is_mirror(border()); }
    // The element that is seen at a position.
    __device__ __forceinline__ int row_seen(int row) const { return element_seen(border(), row, p.height); }
    __device__ __forceinline__ int column_seen(int column) const { return element_seen(border(), column, p.width); }
    // Down: the column of the images that this thread reads.
    __device__ __forceinline__ int read_column() const { return column_seen(x0 - Shape::halo + down); }
    __device__ __forceinline__ int sheet_width() const {
        return kSheets ? (p.partition.planes - 1) * p.partition.pitch + p.width : p.width;
    }
    __device__ __forceinline__ Spot spot(int column) const { return spot_of<kSheets>(p, tile, column); }
    __device__ __forceinline__ PivotSample<T> sample_of(int row, int rows_of_box, int column, int columns) const {
        return PivotSample<T>(p, 0, 1, row, rows_of_box, column, columns, [&](int at) {
            Spot sampled = spot(at);
            if (kSheets) sampled.x = imin(sampled.x, p.width - 1);
            return sampled;
        });
    }
    __device__ __forceinline__ PivotSample<T> sample_of_sheet() const {
        return sample_of(0, p.height, 0, sheet_width());
    }
    __device__ __forceinline__ Cursor<T> read_cursor(const ByteView& v) const {
        const Spot at = spot(x0 - Shape::halo + down);
        return Cursor<T>(v, at.tile, 0, kGeneral ? 0 : first_row(), column_seen(at.x));
    }
    // A position in this plane, in a view with elements of that type.
    template <class Element = T>
    __device__ __forceinline__ Cursor<Element> cursor(const ByteView& v, int row, int column) const {
        return Cursor<Element>(v, tile, 0, row, column);
    }
    __device__ __forceinline__ A x_value(typename Access::Raw raw) const { return Access::value(raw, p.x_format); }
    __device__ __forceinline__ A y_value(typename Access::Raw raw) const { return Access::value(raw, p.y_format); }
    __device__ __forceinline__ bool is_own(int row) const { return unsigned(row - row_begin) < unsigned(rows); }
    // Across: the first column of a group, for statistics and for the gradient.
    __device__ __forceinline__ int statistics_column(int of_group) const {
        return x0 - Shape::margin + kColumns * of_group;
    }
    __device__ __forceinline__ int gradient_column() const { return x0 + kColumns * group; }
    // `group`, computed again where that is rare, since registers are short.
    __device__ __forceinline__ static int group_again() { return thread_again() % Shape::columns % kGroups; }
    __device__ __forceinline__ Cursor<T> gradient_cursor(const ByteView& v) const {
        const Spot at = spot(gradient_column());
        return Cursor<T>(v, at.tile, 0, first_row() - (kBoth ? Shape::rows : 0) + across_row - Shape::halo, at.x);
    }
    // A position in the first partial map.
    __device__ __forceinline__ A* in_maps(const Spot& at, int row) const {
        return static_cast<A*>(p.maps.data) +
               (at.tile.image * p.maps.n + at.tile.channel * p.maps.c + row * p.maps.h + at.x);
    }
    // Where the walk begins: early enough for the first output, and at row 0 at the earliest if there are zeros above
    // the image, which leave the running sums as they begin.
    __device__ __forceinline__ int first_row() const {
        const int first = row_begin - Shape::halo;
        if (kPooling) return imax(first, 0) / 2 * 2;
        return border() == Border::zeros ? imax(first, 0) : first;
    }

    // The last row that the windows of outputs see. In one pass, a batch follows for the partials of the last one.
    __device__ __forceinline__ int last_row() const { return row_begin + rows - 1 + Shape::halo; }

    __device__ __forceinline__ void walk() {
        const int first = first_row();
        if (kStatistics && (flags & kReads)) prefetch(first);
        if (!kStatistics && (flags & kFilters)) prefetch_partials(first);
        __syncthreads();  // shared memory is zero
        // Not in registers, which are short. A barrier comes before other threads read it.
        if (thread == 0) shared.stability = image_stability(p, tile);
        pivot = sample.pivot();
        if constexpr (kStoresPartials) {
            const Pivot<A> of_sheet = sample_of_sheet().pivot();
            shift = {pivot.s - of_sheet.s, pivot.d - of_sheet.d};
        }
        begin();
        const int end = last_row() + (kBoth ? Shape::rows : 0);
        for (int row = first; row <= end; row += Shape::rows) batch(row);
    }
    // A batch of rows, from this one on.
    __device__ __forceinline__ void batch(int row) {
        // In one pass, partials are there of the batch before.
        const int partials_row = kBoth ? row - Shape::rows - R : row;
        if (kMask && kBoth && (flags & kFilters)) request_mask(partials_row);
        if (kMaskAndL1 && kStatistics && !kBoth && !kNormalized && (flags & kSumsL1) && (flags & kReads))
            request_mask(row);
        if (kStatistics && (flags & kReads) && (!kBoth || row <= last_row())) moments_down(row);
        if constexpr (kPooling) pool(row);
        // In one pass, partials are zero until batches begin below the block's first row, and so are their sums.
        if (kGradient && (flags & kFilters) && (!kBoth || row > row_begin)) partials_down(partials_row);
        __syncthreads();
        if constexpr (kGradient) {
            if (flags & kHasOutput) gradient_across(partials_row + across_row - R);
            next_gradient_rows();
        }
        if (kStatistics && (flags & kReads)) prefetch(row + Shape::rows);
        if (kStatistics && (flags & kHasMoments)) statistics_across(row + across_row - R);
        if constexpr (kStoresPartials) partials_at += Shape::rows * p.maps.h;
        __syncthreads();
    }
    // The zeros beyond the border are -pivot here: rows above the image have left their sums, and columns beside it
    // hold what the filter makes of them. (With another border no result comes from these.) Under a mask that
    // normalises, what is outside does not count.
    __device__ __forceinline__ void begin() {
        if (kNormalized || !kStatistics) return;
        A outside[kMoments];
        OwnMoments beside;
        expand<false>(-pivot.s, -pivot.d, A(0), outside);
#pragma unroll
        for (int q = 0; q < kOwnMoments; ++q) beside.v[q] = fir[q].begin(own(outside, q), p.taps_y());
        if (!(flags & kReads) && (kShift == 0 || down >= 0))
#pragma unroll
            for (int k = 0; k < Shape::rows; ++k) store_own(k, beside);
        if (thread == 0) {
            const Moments<A> first = moments_begin(pivot, p.window_rest, shared.stability.c2x2);
            shared.begin = {first.m_s, first.m_d, first.sq, first.sq_d};
        }
    }
    // Down: the part of a column's moments that is this thread's.
    using OwnMoments = Column<A, kOwnMoments>;
    __device__ __forceinline__ A own(const A (&quantities)[kMoments], int q) const {
        return kSplit == 2 && part ? quantities[kOwnMoments + q] : quantities[q];
    }
    __device__ __forceinline__ void store_own(int k, const OwnMoments& from) {
        if constexpr (kSplit == 1)
            shared.moments.put(k, down, from);
        else
#pragma unroll
            for (int q = 0; q < kOwnMoments; ++q) shared.moments.value(k, down, kOwnMoments * part + q) = from.v[q];
    }
    __device__ __forceinline__ void next_gradient_rows() {
        x_here.next_rows(Shape::rows);
        y_here.next_rows(Shape::rows);
        to_x.next_rows(Shape::rows);
        if (G == 2) to_y.next_rows(Shape::rows);
    }

    __device__ __forceinline__ void prefetch(int row) {
        if constexpr (kGeneral) {
            prefetch_any(row);
        } else if (row + Shape::rows <= p.height) {
            if constexpr (kNormalized) request_mask_rows(weights_at + row * p.weights.h, [](int) { return true; });
#pragma unroll
            for (int k = 0; k < Shape::rows; ++k) prefetch_row(k, true);
        } else {
            if constexpr (kNormalized)
                request_mask_rows(weights_at + row * p.weights.h, [&](int k) { return row + k < p.height; });
#pragma unroll
            for (int k = 0; k < Shape::rows; ++k) prefetch_row(k, row + k < p.height);
        }
    }
    __device__ __forceinline__ void prefetch_any(int row) {
        if (row >= 0 && row + kAhead <= p.height) {
            const char *const x_row = x_at.at + row * p.x.h, *const y_row = y_at.at + row * p.y.h;
            const auto x_of = [&](int k) { return x_row + k * p.x.h; };
            const auto y_of = [&](int k) { return y_row + k * p.y.h; };
            // Always true. Without the test, ptxas spills 32 registers instead of 16 where threads share wide filters.
            const auto is_address = [](const char* at) { return kSplit == 1 || at != nullptr; };
            Access::load(x, p.x_format, [&](int k) { return is_address(x_of(k)); }, x_of);
            Access::load(y, p.y_format, [&](int k) { return is_address(y_of(k)); }, y_of);
            if constexpr (kNormalized) {
                const char* const mask_row = address(p.mask, tile, 0, row, read_column());
#pragma unroll
                for (int k = 0; k < kAhead; ++k) m[k] = load_mask_bits<A>(mask_row + k * p.mask.h, p.mask_is_bool);
            }
            return;
        }
        // Rows beyond the border are looked for one by one.
        int seen[kAhead];  // -1: nothing
#pragma unroll
        for (int k = 0; k < kAhead; ++k) {
            seen[k] = sees_element(border(), row + k, p.height) ? row_seen(row + k) : -1;
            x[k] = y[k] = {};
        }
        const auto is_seen = [&](int k) { return seen[k] >= 0; };
        Access::load(x, p.x_format, is_seen, [&](int k) { return x_at.at + seen[k] * p.x.h; });
        Access::load(y, p.y_format, is_seen, [&](int k) { return y_at.at + seen[k] * p.y.h; });
        if constexpr (kNormalized) {
            const char* const at = address(p.mask, tile, 0, 0, read_column());
#pragma unroll
            for (int k = 0; k < kAhead; ++k) {
                m[k] = {};
                if (is_seen(k)) m[k] = load_mask_bits<A>(at + seen[k] * p.mask.h, p.mask_is_bool);
            }
        }
    }
    __device__ __forceinline__ void prefetch_row(int k, bool valid) {
        x[k] = x_at.load(0, 0, p.x_format, valid);
        y[k] = y_at.load(0, 0, p.y_format, valid);
        x_at.next_row();
        y_at.next_row();
    }

    // Rows row, row + 1, ... of the images --> moments of the rows R above.
    __device__ __forceinline__ void moments_down(int row) {
        if constexpr (kRolls) {
#pragma unroll 1
            for (int k = 0; k < Shape::rows; ++k) rows_down(row + k, k);
        } else {
            rows_down(row, 0);
        }
    }
    // The rows that are loaded, from this one on; it is row `first` of the batch.
    __device__ __forceinline__ void rows_down(int row, int first) {
        A xs[kAhead], ys[kAhead];
        if constexpr (kGeneral) {
            Access::values(x, p.x_format, xs);
            Access::values(y, p.y_format, ys);
        }
        const auto x_of = [&](int k) -> A {
            if constexpr (kGeneral)
                return xs[k];
            else
                return x_value(x[k]);
        };
        const auto y_of = [&](int k) -> A {
            if constexpr (kGeneral)
                return ys[k];
            else
                return y_value(y[k]);
        };
        if (!kMask && (flags & kSumsL1)) sum_l1(row, [&](int k) { return absolute(x_of(k) - y_of(k)); });
        if constexpr (kRolls) {
            const A mask = mask_of(m[0]);
            if (first + 1 < Shape::rows) prefetch(row + 1);
            filter_down(first, xs[0], ys[0], mask);
        } else {
#pragma unroll
            for (int k = 0; k < kAhead; ++k) filter_down(k, x_of(k), y_of(k), mask_of(m[kNormalized ? k : 0]));
        }
        if (kMaskAndL1 && !kBoth && (flags & kSumsL1)) {
            WeightsAhead<A, kAhead> weights;
            A differences[kAhead];
#pragma unroll
            for (int k = 0; k < kAhead; ++k) {
                weights.bits[k] = m[k];
                differences[k] = !kNormalized || is_own(row + k) ? absolute(x_of(k) - y_of(k)) : A(0);
            }
            l1_sum += weights.sum_of(p, 0, false, differences);
        }
    }
    // Down, With::mask: loads what this thread weighs in this batch, in the rows from this one on: the partials of its
    // column, or, without a gradient, |x - y|.
    __device__ __forceinline__ void request_mask(int row) {
        const char* const at = weights_at + row * p.weights.h;
        const int begin = kBoth ? map_begin : row_begin, count = kBoth ? map_rows : rows;
        if (row >= begin && row + kAhead <= begin + count)
            request_mask_rows(at, [](int) { return true; });
        else
            request_mask_rows(at, [&](int k) { return unsigned(row + k - begin) < unsigned(count); });
    }
    template <class IsWanted>
    __device__ __forceinline__ void request_mask_rows(const char* at, IsWanted is_wanted) {
#pragma unroll
        for (int k = 0; k < kAhead; ++k) m[k] = {};
        if (p.mask_is_bool) {
#pragma unroll
            for (int k = 0; k < kAhead; ++k)
                if (is_wanted(k)) m[k] = load_mask_bits<A>(at + k * p.weights.h, true);
        } else {
#pragma unroll
            for (int k = 0; k < kAhead; ++k)
                if (is_wanted(k)) m[k] = load_mask_bits<A>(at + k * p.weights.h, false);
        }
    }
    __device__ __forceinline__ void get_mask(A (&weights)[kAhead]) const {
        if (p.mask_is_bool) {
#pragma unroll
            for (int k = 0; k < kAhead; ++k) weights[k] = m[k].weight(true);
        } else {
#pragma unroll
            for (int k = 0; k < kAhead; ++k) weights[k] = p.mask.data ? m[k].weight(false) : m[k].number();
        }
    }
    __device__ __forceinline__ A mask_of(MaskBits<A> bits) const {
        return kNormalized ? bits.weight(p.mask_is_bool) : A(0);
    }
    // Row k of the batch.
    __device__ __forceinline__ void filter_down(int k, A xk, A yk, A mask) {
        if (kNormalized && mask == A(0)) xk = yk = A(0);
        const A s = (xk + yk) - pivot.s, d = (xk - yk) - pivot.d;
        A quantities[kMoments];
        expand<kNormalized>(s, d, mask, quantities);
        OwnMoments out;
#pragma unroll
        for (int q = 0; q < kOwnMoments; ++q) out.v[q] = fir[q].step(own(quantities, q), p.taps_y());
        store_own(k, out);
    }
    template <class Difference>
    __device__ __forceinline__ void sum_l1(int row, Difference difference) {
        A differences[kAhead];
#pragma unroll
        for (int k = 0; k < kAhead; ++k) differences[k] = difference(k);
        const bool all = row >= row_begin && row + kAhead <= row_begin + rows;
        if (kAhead % 4 == 0 && all && !p.mask.data) {
#pragma unroll
            for (int k = 0; k + 3 < kAhead; k += 4)
                l1_sum += (differences[k] + differences[k + 1]) + (differences[k + 2] + differences[k + 3]);
        } else {
            const int column = x0 - Shape::halo + thread_again() % Shape::columns;
            const char* const at = address(p.mask, tile, 0, row, column);
            MaskBits<A> weights[kAhead] = {};
#pragma unroll
            for (int k = 0; k < kAhead; ++k)
                if (!kBoth && p.mask.data && is_own(row + k))
                    weights[k] = load_mask_bits<A>(at + k * p.mask.h, p.mask_is_bool);
#pragma unroll
            for (int k = 0; k < kAhead; ++k)
                if (is_own(row + k))
                    l1_sum += !kBoth && p.mask.data ? weighted(weights[k].weight(p.mask_is_bool), differences[k])
                                                    : differences[k];
        }
    }

    // Writes the averages of blocks of 2 x 2 elements, from this batch, whose first row is even, as all sizes are. Of
    // two neighbouring threads, which have two columns of blocks, the first makes those of x and the second those of y.
    __device__ __forceinline__ void pool(int row) const {
        const bool is_first = thread % 2 == 0;
        A sums[kAhead / 2];
#pragma unroll
        for (int k = 0; k < kAhead / 2; ++k) {
            const A of_x = x_value(x[2 * k]) + x_value(x[2 * k + 1]), of_y = y_value(y[2 * k]) + y_value(y[2 * k + 1]);
            sums[k] = (is_first ? of_x : of_y) + __shfl_xor_sync(0xffffffffu, is_first ? of_y : of_x, 1);
        }
        if (!(flags & kPools)) return;
        const int column = x0 - Shape::halo + thread_again() - kShift;
        const ByteView& to = is_first ? p.pooled_x : p.pooled_y;
        char* const at = address(to, tile, 0, row / 2, column / 2);
#pragma unroll
        for (int k = 0; k < kAhead / 2; ++k)
            if (is_own(row + 2 * k)) *reinterpret_cast<A*>(at + k * to.h) = A(0.25) * sums[k];
    }

    // Filters the partials of a batch vertically; the first is of this row of the map.
    __device__ __forceinline__ void partials_down(int row) {
        if constexpr (kMask && kBoth) {
            weigh_partials();
        } else if constexpr (kRolls) {
#pragma unroll 1
            for (int k = 0; k < Shape::rows; ++k) filter_partials_down(row, k);
        } else {
#pragma unroll
            for (int k = 0; k < Shape::rows; ++k) filter_partials_down(row, k);
        }
        if constexpr (!kBoth) {
            if (border() == Border::replicate) add_edges_down(row - R);
            if (!kRolls) prefetch_partials(row + Shape::rows);
        }
    }
    // With::mask: the same for partials that lack their weights. Behind them stands DSSIM, which is summed here.
    __device__ __forceinline__ void weigh_partials() {
        A weights[kAhead];
        get_mask(weights);
#pragma unroll
        for (int k = 0; k < Shape::rows; ++k) {
            Column<A, kOwnMaps> in = shared.partials.get(k, down), out;
            dssim_sum += weighted(weights[k], in.v[kOwnMaps]);
#pragma unroll
            for (int q = 0; q < kOwnMaps; ++q)
                out.v[q] = fir[kMoments + q].step(weighted(weights[k], in.v[q]), p.taps_y());
            out.fill();
            shared.filtered.put(k, down, out);
        }
    }
    // Pass::backward, Border::replicate: what the edge's taps add to the filtered partials of the first and last row.
    // `row`: the first of the batch.
    __device__ __forceinline__ void add_edges_down(int row) {
        const AxisTaps<A>& taps = p.taps[int(Axis::y)];
#pragma unroll 1
        for (int which = 0; which < (p.height > 1 ? 2 : 1); ++which) {
            const int end = which ? p.height - 1 : 0;
            if (unsigned(end - row) >= unsigned(Shape::rows)) continue;
#pragma unroll 1
            for (int q = 0; q < kOwnMaps; ++q) {
                if (!has_map(q)) continue;
                A sum = A(0);
#pragma unroll 1
                for (int k = 0; k <= imin(R, p.height - 1); ++k)
                    sum += (taps.edge[k] - taps.window[k]) *
                           partials_at[q * p.maps_stride + (which ? end - k : k) * p.maps.h];
                shared.filtered.value(end - row, down, kOwnMaps * part + q) += sum;
            }
        }
    }
    // The rows of the partial maps from this one on.
    __device__ __forceinline__ void prefetch_partials(int row) {
        if (row >= p.map_begin_y() && row + kAhead <= p.map_end_y()) {
            const A* at = partials_at + row * p.maps.h;
#pragma unroll
            for (int k = 0; k < kAhead; ++k) {
#pragma unroll
                for (int q = 0; q < kOwnMaps; ++q)
                    if (has_map(q)) partials[k][q] = at[q * p.maps_stride];
                at += p.maps.h;
            }
            return;
        }
#pragma unroll
        for (int k = 0; k < kAhead; ++k) {
            const int seen = has_partials_beyond() ? row_seen(row + k) : row + k;
            const bool is_seen = seen >= p.map_begin_y() && seen < p.map_end_y();
#pragma unroll
            for (int q = 0; q < kOwnMaps; ++q)
                partials[k][q] = has_map(q) && is_seen ? partials_at[q * p.maps_stride + seen * p.maps.h] : A(0);
        }
    }
    // Whether this thread has a map of that number, among its own.
    __device__ __forceinline__ bool has_map(int q) const { return q < kMaps / kSplit || !part; }
    __device__ __forceinline__ void filter_partials_down(int row, int k) {
        constexpr int kFirst = kBoth ? kMoments : 0;
        Column<A, kOwnMaps> in;
        if constexpr (kBoth) {
            in = shared.partials.get(k, down);
        } else {
#pragma unroll
            for (int q = 0; q < kOwnMaps; ++q) in.v[q] = has_map(q) ? partials[kRolls ? 0 : k][q] : A(0);
            if (kRolls) prefetch_partials(row + k + 1);
        }
        Column<A, kOwnMaps> out;
#pragma unroll
        for (int q = 0; q < kOwnMaps; ++q)
            if (has_map(q)) out.v[q] = fir[kFirst + q].step(in.v[q], p.taps_y());
        if constexpr (kSplit == 1) {
            out.fill();
            shared.filtered.put(k, down, out);
        } else {
#pragma unroll
            for (int q = 0; q < kOwnMaps; ++q)
                if (has_map(q)) shared.filtered.value(k, down, kOwnMaps * part + q) = out.v[q];
        }
    }

    // Statistics of a row of the map, at kColumns columns.
    __device__ __forceinline__ void statistics_across(int row) {
        if (unsigned(row - map_begin) >= unsigned(map_rows)) {
            if constexpr (kBoth) {
                Column<A, kMaps> zeros;
                zeros.clear();
#pragma unroll
                for (int c = 0; c < kColumns; ++c) shared.partials.put_in_group(across_row, group, c, zeros);
            }
            return;
        }
        // With a gradient, weights come where partials are filtered down.
        constexpr bool kWeighs = kMask && !kBoth;
        RowWeights weights_ahead;
        if (kWeighs || (kAsksAhead && (flags & kMasked))) {
            const int column = statistics_column(group_again());
            weights_ahead.request(p, address(p.mask, tile, 0, row, column), flags & kAllColumns, p.packed_mask);
        }
        A moments[kColumns][kMoments];
        const Column<A, kMoments> first = shared.begin;
#pragma unroll
        for (int c = 0; c < kColumns; ++c)
#pragma unroll
            for (int q = 0; q < kMoments; ++q) moments[c][q] = kNormalized ? A(0) : first.v[q];
        shared.moments.template filter<R>(across_row, group, p.taps_x(), moments);
        // With one gradient there are no registers for both constants at once: each is read when it is used. (With two,
        // a block has fewer threads, which have more registers.)
        const Stability<A> stability = shared.stability;
        const volatile Stability<A>& stability_read_late = shared.stability;
        A here[kColumns];
        Kept kept;
        const bool is_counted = kMask && kBoth && is_own(row) && (flags & kOwned);  // by this block
        A weights[kColumns];
        if constexpr (kWeighs && G != 0) weights_ahead.get(p, flags & kAllColumns, p.packed_mask, weights);
#pragma unroll
        for (int c = 0; c < kColumns; ++c) {
            Moments<A> at = {moments[c][0], moments[c][1], moments[c][2], moments[c][3]};
            A u = A(1);
            if constexpr (kNormalized) u = normalize(at, moments[c][kMoments - 1], stability.c2x2);
            if constexpr (G != 0) {
                Column<A, kMaps> maps;
                const A of_variances = variance_grad_scale<T>(p);
                if constexpr (kStoresPartials)
                    here[c] = dssim_and_partials<G>(at, pivot, stability, u, at.m_s + shift.s, at.m_d + shift.d, maps.v,
                                                    of_variances);
                else
                    here[c] = G == 1 ? dssim_and_partials<G>(at, pivot, stability_read_late, u, maps.v, of_variances)
                                     : dssim_and_partials<G>(at, pivot, stability, u, maps.v, of_variances);
                if constexpr (kWeighs)
#pragma unroll
                    for (int q = 0; q < kMaps; ++q) maps.v[q] = weighted(weights[c], maps.v[q]);
                if constexpr (kMask && kBoth)
                    maps.v[kMaps] = is_counted ? here[c] : A(0);
                else
                    maps.fill();
                if constexpr (kBoth) {
                    shared.partials.put_in_group(across_row, group, c, maps);
                } else {
                    kept[c] = maps;
                }
            } else {
                here[c] = dssim(at, pivot, stability);
            }
        }
        if constexpr (kWeighs) {
            // Columns without an element of the map have no weight.
            dssim_sum += weights_ahead.sum_of(p, flags & kAllColumns, p.packed_mask, here);
            if constexpr (kStoresPartials) store_partials(kept);
        }
        if constexpr (kMask) return;
        if (!(flags & (kPlain | kSums))) {
            count_rarely(row, here, weights_ahead, kept);
            if constexpr (kStoresPartials) store_partials(kept);
            return;
        }
        if constexpr (kStoresPartials) store_partials(kept);
        if (kBoth && !(is_own(row) && (flags & kOwned))) return;
        if (flags & kSums) {
#pragma unroll
            for (int c = 0; c < kColumns; ++c) dssim_sum += flags >> c & 1 ? here[c] : A(0);
            return;
        }
        dssim_sum += (here[0] + here[1]) + (here[2] + here[3]);
        if (kColumns > 4 && (flags & kLast4))
            dssim_sum += (here[kColumns - 4] + here[kColumns - 3]) + (here[kColumns - 2] + here[kColumns - 1]);
    }

    // Writes the partials of a group; rows of the maps are long enough for all of them.
    __device__ __forceinline__ void store_partials(const Column<A, kMaps> (&from)[kColumns]) const {
#pragma unroll
        for (int q = 0; q < kMaps; ++q)
#pragma unroll
            for (int first = 0; first < kColumns; first += 4) {
                A values[4];
#pragma unroll
                for (int c = 0; c < 4; ++c) values[c] = from[first + c].v[q];
                Packed<A>::store(partials_at + q * p.maps_stride + first, values);
            }
    }

    // The rest of it where not all columns are alike, or more than their sum is wanted. The partials are in `kept`, or
    // in shared memory.
    using Kept = Column<A, kMaps>[kStoresPartials ? kColumns : 1];
    // General kernels ask for all weights of a group before they need one, where they have registers.
    static constexpr bool kAsksAhead = kGeneral && (kNormalized || (Shape::narrow && G));
    using RowWeights = WeightsAhead<A, (kMask && !kBoth) || kAsksAhead ? kColumns : 1>;
    __device__ __forceinline__ void count_rarely(int row, const A (&here)[kColumns], const RowWeights& weights_ahead,
                                                 Kept& kept) {
        const int column = statistics_column(group_again());
        const unsigned counted = flags & kAllColumns;
        A weights[kColumns];
#pragma unroll
        for (int c = 0; c < kColumns; ++c) weights[c] = A(1);
        if constexpr (kAsksAhead) {
            if (flags & kMasked) weights_ahead.get(p, counted, p.packed_mask, weights);
        } else if (p.mask.data) {
            load_weights(row, column, counted, weights);
        }
        if constexpr (G != 0)
            if (flags & kWeighted) weight_partials(row, column, counted, weights, kept);
        if (kBoth && !(is_own(row) && (flags & kOwned))) return;
#pragma unroll
        for (int c = 0; c < kColumns; ++c)
            if (counted >> c & 1) dssim_sum += weighted(weights[c], here[c]);
        if (!G && (flags & kStoresMap)) store_map(row, column, counted, here, weights);
    }
    // The mask at adjacent columns; a weight that is not positive counts as 0.
    __device__ __forceinline__ void load_weights(int row, int column, unsigned counted, A (&weights)[kColumns]) const {
        const char* const at = address(p.mask, tile, 0, row, column);
        if (row + Shape::rows < p.height) prefetch_line(at + Shape::rows * p.mask.h);
        if (!kBoth && p.packed_mask && counted == kAllColumns) {
            if (p.mask_is_bool)
                load_packed_weights<unsigned char>(at, weights);
            else
                load_packed_weights<A>(at, weights);
            return;
        }
        MaskBits<A> bits[kColumns];
        load_mask_row(p, at, counted, bits);
#pragma unroll
        for (int c = 0; c < kColumns; ++c) weights[c] = bits[c].weight(p.mask_is_bool);
    }
    template <class Element>
    __device__ __forceinline__ static void load_packed_weights(const char* at, A (&weights)[kColumns]) {
#pragma unroll
        for (int first = 0; first < kColumns; first += 4) {
            Element elements[4];
            Packed<Element>::load(at + first * sizeof(Element), elements);
#pragma unroll
            for (int c = 0; c < 4; ++c) weights[first + c] = A(mask_weight(elements[c]));
        }
    }
    // Multiplies the partials that this thread has just made by the mask, the upstream map and what edges weigh.
    __device__ __forceinline__ void weight_partials(int row, int column, unsigned counted, const A (&weights)[kColumns],
                                                    Kept& kept) {
        A upstream[kAsksAhead ? kColumns : 1];
        if constexpr (kAsksAhead) load_upstream(row, column, counted, upstream);
#pragma unroll
        for (int c = 0; c < kColumns; ++c) {
            if (!(counted >> c & 1)) continue;
            A u = weights[c];
            if (p.upstream == kUpstreamMap && u != A(0))
                u *= kAsksAhead ? upstream[kAsksAhead ? c : 0]
                                : cursor<A>(p.grad_out, row - p.crop_y(), column + c - p.crop_x()).value();
            if (flags & kEdges)
                u *= A(edge_partial_weight(border(), row, p.height) *
                       edge_partial_weight(border(), column + c, p.width));
            Column<A, kMaps> maps;
            if constexpr (kStoresPartials)
                maps = kept[c];
            else
                maps = shared.partials.get_in_group(across_row, group, c);
#pragma unroll
            for (int q = 0; q < kMaps; ++q) maps.v[q] = weighted(u, maps.v[q]);
            if constexpr (kStoresPartials)
                kept[c] = maps;
            else
                shared.partials.put_in_group(across_row, group, c, maps);
        }
    }

    // Adjacent elements of the upstream map; `wanted` has a bit for each. Without one they are any.
    template <int kCount>
    __device__ __forceinline__ void load_upstream(int row, int column, unsigned wanted, A (&values)[kCount]) const {
        if (p.upstream != kUpstreamMap) return;
        const Cursor<A> from = cursor<A>(p.grad_out, row - p.crop_y(), column - p.crop_x());
#pragma unroll
        for (int c = 0; c < kCount; ++c) values[c] = from.load(0, c, {}, wanted >> c & 1);
    }

    __device__ __forceinline__ void store_map(int row, int column, unsigned counted, const A (&here)[kColumns],
                                              const A (&weights)[kColumns]) const {
        // The formulas of map_value(), written out: see use_rarely() in volume.h. Images of 16 bits are loaded one by
        // one: with four at once the loop over rows takes 1 to 5 % longer for values, which need nothing of this.
        constexpr bool kLoadsByOne = sizeof(typename Access::Raw) == 2;
        const Cursor<A> at = cursor<A>(p.map, row - p.crop_y(), column - p.crop_x());
#pragma unroll
        for (int first = 0; first < kColumns; first += 4) {
            A values[4];
#pragma unroll
            for (int c = 0; c < 4; ++c) values[c] = ssim_from_dssim(here[first + c]);
            if constexpr (kLoadsByOne) {
                if (p.is_loss || p.mask.data)
#pragma unroll
                    for (int c = 0; c < 4; ++c) {
                        const int i = first + c;
                        if (!(counted >> i & 1)) continue;
                        if (p.is_loss) {
                            const A x_here = cursor(p.x, row, column + i).value(p.x_format);
                            const A y_here = cursor(p.y, row, column + i).value(p.y_format);
                            values[c] =
                                A(-2) * p.ssim_weight * not_negative(here[i]) + p.l1_weight * absolute(x_here - y_here);
                        }
                        if (p.mask.data) values[c] = weighted(weights[i], values[c]);
                    }
            } else {
                if (p.is_loss) {
                    A xs[4], ys[4];
                    load_row(p.x, p.x_format, row, column + first, counted >> first, xs);
                    load_row(p.y, p.y_format, row, column + first, counted >> first, ys);
#pragma unroll
                    for (int c = 0; c < 4; ++c)
                        values[c] = A(-2) * p.ssim_weight * not_negative(here[first + c]) +
                                    p.l1_weight * absolute(xs[c] - ys[c]);
                }
                if (p.mask.data)
#pragma unroll
                    for (int c = 0; c < 4; ++c) values[c] = weighted(weights[first + c], values[c]);
            }
            if (p.packed_map && (counted >> first & kFirst4) == kFirst4) {
                Packed<A>::store(at.at + first * sizeof(A), values);
            } else {
#pragma unroll
                for (int c = 0; c < 4; ++c)
                    if (counted >> (first + c) & 1) at.store(0, first + c, values[c]);
            }
        }
    }

    // 4 adjacent elements of an image; `wanted` has a bit for each. The others are 0.
    __device__ __forceinline__ void load_row(const ByteView& v, const Format<A>& format, int row, int column,
                                             unsigned wanted, A (&values)[4]) const {
        const Cursor<T> from = cursor(v, row, column);
        const auto is_wanted = [&](int c) { return wanted >> c & 1; };
        typename Access::Raw raw[4] = {};
        if constexpr (kGeneral) {
            Access::load(raw, format, is_wanted, [&](int c) { return from.at + c * v.w; });
            Access::values(raw, format, values);
        } else {
#pragma unroll
            for (int c = 0; c < 4; ++c) raw[c] = from.load(0, c, format, is_wanted(c));
#pragma unroll
            for (int c = 0; c < 4; ++c) values[c] = Access::value(raw[c], format);
        }
    }

    // The gradient of a row, at 4 columns.
    __device__ __forceinline__ void gradient_across(int row) {
        if (!is_own(row)) return;
        const int column = spot(gradient_column()).x;
        const bool packed = flags & kPacked;
        typename Access::Raw xs[4], ys[4];
        // Where statistics share the thread, registers are too short for images that are being loaded.
        if (!kBoth) load_images(column, packed, xs, ys);
        WeightsAhead<A, 4> weights_ahead;
        A weights[4];
        const Spot first = spot(kMaskAndL1 ? x0 + 4 * group_again() : 0);
        const auto request_weights = [&] {
            if (kMaskAndL1 && (flags & kRare))
                weights_ahead.request(p, address(p.mask, first.tile, 0, row, first.x), columns_inside(first.x),
                                      p.packed_mask);
        };
        if (!kBoth) request_weights();
        A filtered[4][kMaps] = {};
        shared.filtered.template filter<R>(across_row, group, p.taps_x(), filtered);
        if (kGeneral && __builtin_expect(border() == Border::replicate, false)) {
            const int again = x0 + 4 * (group_again());
#pragma unroll
            for (int c = 0; c < 4; ++c)
                if (again + c == 0 || again + c == p.width - 1)
                    shared.filtered.template filter_one<R>(across_row, group, c, p.taps[int(Axis::x)].edge,
                                                           filtered[c]);
        }
        if (kBoth) request_weights();
        if (kBoth) load_images(column, packed, xs, ys);
        // Of the elements as they are: a hole that counts makes the sum NaN.
        if constexpr (kMaskAndL1)
            if (flags & kRare) {
                weights_ahead.get(p, columns_inside(first.x), p.packed_mask, weights);
                A differences[4];
#pragma unroll
                for (int c = 0; c < 4; ++c) differences[c] = absolute(x_value(xs[c]) - y_value(ys[c]));
                if (kBoth && p.has_l1)
                    l1_sum += weights_ahead.sum_of(p, columns_inside(first.x), p.packed_mask, differences);
            }
        if ((flags & kMasked) && (!kMask || !is_finite(sum_of(xs) + sum_of(ys))))
#pragma unroll
            for (int c = 0; c < 4; ++c) {
                hide_holes<T>(xs[c], p.x_format);
                hide_holes<T>(ys[c], p.y_format);
            }
        A x[4], y[4];
        if constexpr (kGeneral) {
            Access::values(xs, p.x_format, x);
            Access::values(ys, p.y_format, y);
        } else {
#pragma unroll
            for (int c = 0; c < 4; ++c) {
                x[c] = x_value(xs[c]);
                y[c] = y_value(ys[c]);
            }
        }
        A grad_x[4], grad_y[4];
#pragma unroll
        for (int c = 0; c < 4; ++c) {
            unpack_gradient<G>(filtered[c], x[c], y[c], pivot, grad_x[c], grad_y[c]);
            A factor = scale;
            if (kGeneral && (flags & kEdges))
                factor *= A(edge_gradient_weight(border(), row, p.height) *
                            edge_gradient_weight(border(), column + c, p.width));
            grad_x[c] *= factor;
            if (G == 2) grad_y[c] *= factor;
        }
        if constexpr (kMaskAndL1 && !kBoth) {
            // 0, but NaN if the mean is one of nothing.
            const A excluded = A(0) * scale;
#pragma unroll
            for (int c = 0; c < 4; ++c)
                if (p.is_normalized) grad_x[c] = weights[c] != A(0) ? weights[c] * grad_x[c] : excluded;
        }
        if constexpr (kMask) {
            if (kMaskAndL1 && (flags & kL1Gradient))
#pragma unroll
                for (int c = 0; c < 4; ++c) grad_x[c] += weighted(weights[c], l1_derivative(l1_scale, x[c] - y[c]));
        } else if ((flags & (kL1Gradient | kRare)) == kL1Gradient) {
#pragma unroll
            for (int c = 0; c < 4; ++c) {
                const A l1 = l1_derivative(l1_scale, x[c] - y[c]);
                grad_x[c] += l1;
                if (G == 2) grad_y[c] -= l1;
            }
        } else if (flags & kRare) {
            const int again = x0 + 4 * (group_again());
            const unsigned inside = columns_inside(again);
            // General kernels ask for all weights before they wait for one.
            MaskBits<A> bits[kGeneral ? 4 : 1] = {};
            A upstream[kGeneral ? 4 : 1];
            if constexpr (kGeneral) {
                if (flags & kMasked) load_mask_row(p, address(p.mask, tile, 0, row, again), inside, bits);
                if (flags & kL1Gradient) load_upstream(row, again, inside, upstream);
            }
#pragma unroll
            for (int c = 0; c < 4; ++c)
                if (inside >> c & 1) {
                    A weight = A(1), l1 = l1_derivative(l1_scale, x[c] - y[c]);
                    if constexpr (kGeneral) {
                        if (flags & kMasked) weight = bits[c].weight(p.mask_is_bool);
                        if (p.upstream == kUpstreamMap && l1 != A(0)) l1 *= upstream[c];
                    } else {
                        weight = weight_at(p, tile, 0, row, again + c);
                    }
                    add_to_gradient<G, kGeneral>(p, tile, 0, row, again + c, weight, l1, kBoth ? A(0) : scale,
                                                 grad_x[c], grad_y[c]);
                    // Of the elements as they are: a hole that counts makes the sum NaN.
                    if (kBoth && p.mask.data && p.has_l1)
                        l1_sum += weighted(weight, absolute(x_value(x_here.load(0, c, p.x_format)) -
                                                            y_value(y_here.load(0, c, p.y_format))));
                }
        }
        store_gradient(to_x, p.x_format, column, packed, grad_x);
        if (G == 2) store_gradient(to_y, p.y_format, column, packed, grad_y);
    }
    // Of elements that have been loaded: not finite if one of them is not.
    __device__ __forceinline__ A sum_of(const typename Access::Raw (&raw)[4]) const {
        const Format<A> format = {};
        return (Access::value(raw[0], format) + Access::value(raw[1], format)) +
               (Access::value(raw[2], format) + Access::value(raw[3], format));
    }
    // A bit for each of 4 columns from this one on: it is in the image.
    __device__ __forceinline__ unsigned columns_inside(int first) const {
        unsigned inside = 0;
#pragma unroll
        for (int c = 0; c < 4; ++c) inside |= unsigned(first + c < p.width) << c;
        return inside;
    }
    // x and y at 4 columns. In one pass, they are still in a cache.
    __device__ __forceinline__ void load_images(int column, bool packed, typename Access::Raw (&xs)[4],
                                                typename Access::Raw (&ys)[4]) const {
        if (packed) {
            Packed<T>::load(x_here.at, xs);
            Packed<T>::load(y_here.at, ys);
        } else if constexpr (kGeneral) {
#pragma unroll
            for (int c = 0; c < 4; ++c) xs[c] = ys[c] = {};
            const auto is_inside = [&](int c) { return column + c < p.width; };
            Access::load(xs, p.x_format, is_inside, [&](int c) { return x_here.at + c * x_here.v.w; });
            Access::load(ys, p.y_format, is_inside, [&](int c) { return y_here.at + c * y_here.v.w; });
        } else {
#pragma unroll
            for (int c = 0; c < 4; ++c) {
                xs[c] = x_here.load(0, c, p.x_format, column + c < p.width);
                ys[c] = y_here.load(0, c, p.y_format, column + c < p.width);
            }
        }
    }
    __device__ __forceinline__ void store_gradient(const Cursor<T>& at, const Format<A>& format, int column,
                                                   bool packed, const A (&values)[4]) const {
        if (packed) {
            Packed<T>::store(at.at, values);
        } else {
#pragma unroll
            for (int c = 0; c < 4; ++c)
                if (column + c < p.width) at.store(0, c, values[c], format);
        }
    }
};

// A block goes through its pieces of strips.
template <class T, int R, int G, bool kNormalized, bool kSheets, Pass kPass = Pass::both, With kWith = With::nothing>
__device__ __forceinline__ void walk_pieces(const SsimParams<arithmetic_t<T>>& p) {
    using Walk = Strip<T, R, G, kNormalized, kSheets, kPass, kWith>;
    using Shape = typename Walk::Shape;
    __shared__ typename Walk::Shared shared;
    const Partition& partition = p.partition;
    for (long long strip = partition.begin(blockIdx.x) / p.height;; ++strip) {
        // Read again in each round: values computed from it would otherwise occupy registers during the walk.
        const int block = block_again();
        const long long begin = partition.begin(block), end = partition.begin(block + 1);
        const long long top = strip * p.height;
        if (top > end) break;
        const int row = begin > top ? int(begin - top) : 0, row_end = end - top < p.height ? int(end - top) : p.height;
        if (row >= row_end) {
            // A block whose rows end with a strip has a piece without rows in the next. Its sum has a place, too.
            if constexpr (Shape::has_statistics) store_no_sums(p, strip + block);
        } else {
            // What is never loaded is zero: these places are not written again.
            for (int i = threadIdx.x; i < int(sizeof shared / sizeof(float4)); i += Shape::threads)
                reinterpret_cast<float4*>(&shared)[i] = make_float4(0, 0, 0, 0);
            long long sheet = strip / partition.strips;
            int of_sheet = int(strip - sheet * partition.strips);
            if (partition.together > 1) partition.take_turns(strip, sheet, of_sheet);
            const Tile tile(kSheets ? sheet * partition.planes : sheet, p.channels, of_sheet);
            Walk walker(p, tile, row, row_end, shared);
            walker.walk();
            if constexpr (Shape::has_statistics)
                store_block_sums<Shape::threads>(p, strip + block, walker.dssim_sum, walker.l1_sum);
        }
        __syncthreads();
    }
    if constexpr (Shape::has_statistics && has_completion<typename Walk::A>(R, kNormalized))
        finish_block<Shape::threads>(p, blockIdx.x);
}

// The kernels of a family (instances.h), whose blocks have the shape FAMILY##_shape<TYPE, RADIUS, GRADS>.
#define FUSEDSSIM_STRIP_KERNEL(NAME, FAMILY, UNIT, PARAMS, TYPE, RADIUS, GRADS)                   \
    extern "C" __global__ void __launch_bounds__(FAMILY##_shape<TYPE, RADIUS, GRADS>::threads,    \
                                                 FAMILY##_shape<TYPE, RADIUS, GRADS>::min_blocks) \
        NAME(const __grid_constant__ PARAMS p) {                                                  \
        FAMILY<TYPE, RADIUS, GRADS>(p);                                                           \
    }
#define FUSEDSSIM_STRIP_KERNELS(FAMILY, KERNELS) KERNELS(FUSEDSSIM_STRIP_KERNEL)

}  // namespace fusedssim
