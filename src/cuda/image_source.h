// SPDX-License-Identifier: MIT
//
// What the forward kernel of volume.h filters: the images, and the mask.
#pragma once

#include "pivot_sample.h"
#include "slice_walk.h"

namespace fusedssim {

// s' and d' of the images, and the mask if it normalises. kStrided: nothing is known of the images' strides. Otherwise
// they are those of pairs (fits_pairs() in the launchers), unless the kernel is general.
template <class T, int R, bool kNormalized, bool kStrided, With kWith>
struct ImageSource : SliceSource<arithmetic_t<T>, kNormalized ? 3 : 2> {
    using A = arithmetic_t<T>;
    using Block = Block3d<A, R>;
    using Access = Elements<T>;
    static constexpr int kValues = kNormalized ? 3 : 2;
    static constexpr bool kEarly = true;
    static constexpr bool kMaskAndL1 = kWith == With::mask_and_l1, kSumsLate = kMaskAndL1;
    static constexpr bool kGeneral = is_general<T>;
    // Parts of a slice: pairs of elements, or single ones.
    static constexpr bool kPairs = !kGeneral && !kStrided;
    static constexpr int kWidth = kPairs ? 2 : 1;
    static constexpr int kMargin = kPairs ? R + R % 2 : R;  // columns before the tile: whole parts
    static constexpr int kParts = kGeneral ? Block::band_x : (Block::out_x + kMargin + R + kWidth - 1) / kWidth;
    static constexpr int kPitch = kWidth * kParts;
    using PartSlots = either_t<kPairs, Slots<A, R, kParts, kWidth, kMargin>,
                               either_t<kGeneral, ElementSlots<A, R>, StridedSlots<A, R>>>;
    static constexpr int kElements = PartSlots::kAll * kWidth;
    using Stage = Planes<A, kValues, kElements + kElements % 2>;
    // General kernels: the rows of a tile in x, in y, and in the mask if it normalises. From the plane, in bytes.
    struct RowTables {
        long long rows[kNormalized ? 3 : 2][ElementSlots<A, R>::kRows];
    };
    struct NoTables {};
    // Numbers of a tile that a thread needs once in a while. Not in registers, which are short.
    struct Constants : either_t<kGeneral, RowTables, NoTables> {
        Stability<A> stability;
        Column<A, 4> slice_beyond, begin;  // `begin`: what moments begin with
    };
    const SsimParams<A>& p;
    const Tile& tile;
    const Constants& constants;
    Pivot<A> pivot;   // of the tile and its chunk
    PartSlots slots;  // of both images
    // More bits of slots.flags, for what does not change from slice to slice.
    static constexpr unsigned kSumsL1 = PartSlots::kFree;  // |x - y| is summed
    // The map has all elements of this thread, and nothing rare is wanted.
    static constexpr unsigned kPlain = 2 * PartSlots::kFree;
    // The slice that will be requested next; in general kernels, this thread's column in the first row of slice 0.
    const char *x_at, *y_at;
    const char* l1_weights_at;  // With::mask_and_l1: this thread's weights in the slice that is delivered next
    // The parts that are being loaded.
    using Part = either_t<kPairs, RawRow<T, 2>, typename Access::Raw>;
    Part x[PartSlots::kCount], y[PartSlots::kCount];
    // Of pairs of bytes, the first holds both.
    MaskBits<A> mask[kNormalized ? kWidth * PartSlots::kCount : 1];
    unsigned mask_offset[kNormalized && kPairs ? PartSlots::kCount : 1];  // as slots.offset: has_mask_pairs()
    const char* mask_at;
    // With::mask_and_l1: of this thread's columns, in the slice that is in the stage.
    WeightsAhead<A, Block::columns> l1_weights;
    A l1_sum;

    // Writes `shared`; the walk begins with a barrier.
    __device__ __forceinline__ ImageSource(const SsimParams<A>& params, const Tile& at, const Pivot<A>& level,
                                           Constants& shared)
        : p(params), tile(at), constants(shared), pivot(level), slots(make_slots()), l1_sum(0) {
        if (threadIdx.x == 0) {
            shared.stability = image_stability(p, tile);
            if (!kNormalized) {
                const Moments<A> first = moments_begin(pivot, p.window_rest, shared.stability.c2x2);
                shared.begin = {first.m_s, first.m_d, first.sq, first.sq_d};
                A outside[4];
                expand<false>(-pivot.s, -pivot.d, A(0), outside);
#pragma unroll
                for (int q = 0; q < 4; ++q) shared.slice_beyond.v[q] = p.window_sum_yx() * outside[q];
            }
        }
        if constexpr (kGeneral)
            for (int row = threadIdx.x; row < PartSlots::kRows; row += Block::threads) {
                const long long seen = PartSlots::row_seen(p, tile, border(), row);
                shared.rows[0][row] = seen * p.x.h;
                shared.rows[1][row] = seen * p.y.h;
                if (kNormalized) shared.rows[kNormalized ? 2 : 0][row] = seen * p.mask.h;
            }
        if (p.has_l1) slots.flags |= kSumsL1;
        if constexpr (kNormalized && kPairs)
#pragma unroll
            for (int i = 0; i < PartSlots::kCount; ++i)
                mask_offset[i] = unsigned(PartSlots::row(tile, PartSlots::index(i)) * p.mask.h +
                                          PartSlots::column(tile, PartSlots::index(i)) * p.mask.w);
    }
    __device__ __forceinline__ Column<A, 2> beyond() const { return {-pivot.s, -pivot.d}; }
    // Under a mask that normalises, what is outside has no mass.
    static constexpr bool kHasBeyond = !kNormalized;
    __device__ __forceinline__ const A* slice_beyond() const { return constants.slice_beyond.v; }
    __device__ __forceinline__ static int empty_slices() { return 0; }
    __device__ __forceinline__ Border border() const { return border_of<T>(p); }
    __device__ __forceinline__ bool is_endless() const { return border() != Border::zeros; }
    __device__ __forceinline__ PartSlots make_slots() const {
        if constexpr (kGeneral)
            return PartSlots();
        else if constexpr (kStrided)
            return PartSlots(p, tile);
        else
            return PartSlots(p, tile, p.x, p.width, [](int y) { return y; });
    }
    __device__ __forceinline__ void seek_band(int band) {
        slots.seek(p, tile, border(), band);
        x_at = address(p.x, tile, 0, 0, slots.column_seen);
        y_at = address(p.y, tile, 0, 0, slots.column_seen);
        if (kNormalized) mask_at = address(p.mask, tile, 0, 0, slots.column_seen);
    }
    __device__ __forceinline__ void seek(int z) {
        if constexpr (kGeneral) return seek_band(0);
        x_at = address(p.x, tile, z, 0, 0);
        y_at = address(p.y, tile, z, 0, 0);
        if constexpr (kNormalized && kPairs) mask_at = address(p.mask, tile, z, 0, 0);
        if constexpr (kMaskAndL1) {
            const Place<A, R> place(p, tile, threadIdx.x);
            l1_weights_at = address(p.mask, tile, z, place.row, place.column);
        }
    }
    __device__ __forceinline__ void request(int z, int band, Stage&) {
        if constexpr (kGeneral) {
            if (Block::bands > 1) seek_band(band);
            const long long z_seen = element_seen(border(), z, p.depth);
            // Also elements that are not used: what is no part, or seen nowhere, is loaded from another place.
            const auto all = [](int) { return true; };
            const auto row = [&](int image, int i) {
                return constants.rows[image][PartSlots::row_in_tile() + i * PartSlots::kRowStep];
            };
            const char *const x_slice = x_at + z_seen * p.x.d, *const y_slice = y_at + z_seen * p.y.d;
            Access::load(x, p.x_format, all, [&](int i) { return x_slice + row(0, i); });
            Access::load(y, p.y_format, all, [&](int i) { return y_slice + row(1, i); });
            if constexpr (kNormalized) {
                const char* const mask_slice = mask_at + z_seen * p.mask.d;
#pragma unroll
                for (int i = 0; i < PartSlots::kCount; ++i)
                    mask[i] = load_mask_bits<A>(mask_slice + row(2, i), p.mask_is_bool);
            }
            return;
        } else
            request_next();
    }
    __device__ __forceinline__ void request_next() {
        if constexpr (kPairs) {
#pragma unroll
            for (int i = 0; i < PartSlots::kCount; ++i) {
                if (!slots.is_valid(i)) continue;
                x[i].load(x_at + slots.offset[i]);
                y[i].load(y_at + slots.offset[i]);
            }
            if constexpr (kNormalized) request_mask_pairs();
        } else {
            unsigned x_offset = slots.x_offset, y_offset = slots.y_offset;
#pragma unroll
            for (int i = 0; i < PartSlots::kCount; ++i) {
                if (slots.is_valid(i)) {
                    x[i] = Access::load(x_at + int(x_offset), p.x_format);
                    y[i] = Access::load(y_at + int(y_offset), p.y_format);
                }
                x_offset += slots.step(p.x);
                y_offset += slots.step(p.y);
            }
        }
        x_at += p.x.d;
        y_at += p.y.d;
    }
    __device__ __forceinline__ void request_mask_pairs() {
#pragma unroll
        for (int i = 0; i < PartSlots::kCount; ++i) {
            if (!slots.is_valid(i)) continue;
            const char* const at = mask_at + mask_offset[i];
            if (p.mask_is_bool) {
                mask[2 * i] = {*reinterpret_cast<const unsigned short*>(at)};
            } else {
                MaskBits<A> two[2];
                Packed<MaskBits<A>, 2>::load(at, two);
                mask[2 * i] = two[0];
                mask[2 * i + 1] = two[1];
            }
        }
        mask_at += p.mask.d;
    }
    // Of element c of pair i.
    __device__ __forceinline__ MaskBits<A> mask_of_pair(int i, int c) const {
        if (!kNormalized) return {};
        return p.mask_is_bool ? MaskBits<A>{mask[2 * i].bits >> 8 * c & 0xff} : mask[2 * i + c];
    }
    __device__ __forceinline__ void deliver(int, int, Stage& stage) {
        if constexpr (kMaskAndL1) {
            constexpr unsigned kAll = (1u << Block::columns) - 1;
            const unsigned wanted = slots.flags & kPlain ? kAll : Place<A, R>(p, tile, thread_again()).inside(p);
            if (slots.flags & kSumsL1) l1_weights.request(p, l1_weights_at, wanted, false);
            l1_weights_at += p.mask.d;
        }
        if constexpr (kGeneral) {
            A xs[PartSlots::kCount], ys[PartSlots::kCount];
            Access::values(x, p.x_format, xs);
            Access::values(y, p.y_format, ys);
#pragma unroll
            for (int i = 0; i < PartSlots::kCount; ++i) {
                if (!(Block::bands == 1 ? slots.is_valid(i) : PartSlots::exists(i))) continue;
                A values[kValues];
                combine(xs[i], ys[i], mask[kNormalized ? i : 0], values);
                // Before this band the place was another's.
                if (Block::bands > 1 && !slots.is_valid(i)) {
                    values[0] = beyond().v[0];
                    values[1] = beyond().v[1];
                    if (kNormalized) values[kValues - 1] = A(0);
                }
                stage.put(PartSlots::index(i), values);
            }
        } else {
#pragma unroll
            for (int i = 0; i < PartSlots::kCount; ++i) {
                if (!slots.is_valid(i)) continue;
                A values[kWidth][kValues];
                if constexpr (kPairs) {
#pragma unroll
                    for (int c = 0; c < kWidth; ++c)
                        combine(Access::value(x[i].get(c), p.x_format), Access::value(y[i].get(c), p.y_format),
                                mask_of_pair(kNormalized ? i : 0, c), values[c]);
                    stage.put_two(kWidth * PartSlots::index(i), values);
                } else {
                    combine(Access::value(x[i], p.x_format), Access::value(y[i], p.y_format), {}, values[0]);
                    stage.put(PartSlots::index(i), values[0]);
                }
            }
        }
    }
    // |x - y| at this thread's columns, from the stage, where it is zero beside the volume.
    __device__ __forceinline__ void sum_l1(int z, int band, const Stage& stage) {
        if (kWith == With::mask) return;
        if (!(slots.flags & kSumsL1) || z < tile.chunk * p.chunk || z >= (tile.chunk + 1) * p.chunk) return;
        if (kGeneral && z >= p.depth) return;
        const Place<A, R> place(p, tile, thread_again());
        const int row = place.row - tile.tile_y * Block::out_y, column = place.column - tile.tile_x * Block::out_x;
        MaskBits<A> weights[Block::columns];
        A differences[Block::columns];
        // A mask that normalises is in the stage as well.
        constexpr bool kLoadsMask = !kMaskAndL1 && !kNormalized;
        if (kLoadsMask && p.mask.data)
            load_mask_row(p, address(p.mask, tile, z, place.row, place.column), place.inside(p), weights);
#pragma unroll
        for (int c = 0; c < Block::columns; ++c) {
            const int of_band = column + c + kMargin - band * Block::band_x;
            if (Block::bands > 1 && unsigned(of_band) >= unsigned(Block::band_x)) continue;
            const int at = (row + R) * kPitch + of_band;
            const A difference = absolute(stage.pairs[0][at].v[1] + pivot.d);
            differences[c] = difference;
            if (kMaskAndL1) continue;
            const bool is_inside = place.row < p.height && place.column + c < p.width;
            if (kGeneral && !is_inside) continue;
            if constexpr (kNormalized)
                l1_sum += weighted(stage.last[at], difference);
            else
                l1_sum +=
                    p.mask.data && is_inside ? weighted(weights[c].weight(p.mask_is_bool), difference) : difference;
        }
        if constexpr (kMaskAndL1) l1_sum += l1_weights.sum_of(p, 0, false, differences);
    }
    __device__ __forceinline__ void combine(A xv, A yv, MaskBits<A> mask_here, A (&out)[kValues]) const {
        out[0] = (xv + yv) - pivot.s;
        out[1] = (xv - yv) - pivot.d;
        if constexpr (kNormalized) {
            out[2] = mask_here.weight(p.mask_is_bool);
            // Without a mass any number will do; this is what lies beside the volume, where sum_l1() wants a d of 0.
            if (out[2] == A(0)) {
                out[0] = -pivot.s;
                out[1] = -pivot.d;
            }
        }
    }
    __device__ __forceinline__ void read(const Stage& stage, int row, int column, A (&out)[1][kValues]) const {
        stage.get(row * kPitch + column + (kMargin - R), out);
    }
};

}  // namespace fusedssim
