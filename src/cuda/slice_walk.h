// SPDX-License-Identifier: MIT
//
// The walk of a block along z, which both kernels of volume.h share. They differ in what they filter (a SliceSource)
// and in what they do with the results.
#pragma once

#include "slice_filter.h"

namespace fusedssim {

// The first of a thread's columns, and the slices of its chunk.
template <class A, int R>
struct Place {
    using Block = Block3d<A, R>;
    const int column, row, z_begin, z_end;
    __device__ __forceinline__ Place(const SsimParams<A>& p, const Tile& tile, int thread)
        : column(tile.tile_x * Block::out_x + thread % (Block::out_x / Block::columns) * Block::columns),
          row(tile.tile_y * Block::out_y + thread / (Block::out_x / Block::columns)), z_begin(tile.chunk * p.chunk),
          z_end(imin(z_begin + p.chunk, p.depth)) {}
    // A bit for each column of the thread: it is in the volume.
    __device__ __forceinline__ unsigned inside(const SsimParams<A>& p) const {
        unsigned bits = 0;
#pragma unroll
        for (int c = 0; c < Block::columns; ++c) bits |= unsigned(row < p.height && column + c < p.width) << c;
        return bits;
    }
};

// The parts of a slice, or of a band of it, that a thread brings into shared memory. A part is kWidth adjacent elements
// of a row. There are in_y rows of kColumns parts, the first of which begins kMargin elements before the tile, or a
// number of bands behind that. Thread t has the parts t, t + kStep, t + 2 kStep, ...; threads from kStep on have none.
template <class A, int R, int kColumns, int kWidth, int kMargin, int kStep = Block3d<A, R>::threads>
struct Parts {
    using Block = Block3d<A, R>;
    static constexpr int kAll = Block::in_y * kColumns;
    static constexpr int kCount = (kAll + kStep - 1) / kStep;
    unsigned flags;  // a bit for each part of this thread: it is loaded. The bits from kFree on are the user's.
    static constexpr unsigned kFree = 1u << kCount;

    __device__ __forceinline__ Parts() : flags(0) {}
    __device__ __forceinline__ bool is_valid(int i) const { return flags >> i & 1; }
    __device__ __forceinline__ static int index(int i) { return threadIdx.x + i * kStep; }
    __device__ __forceinline__ static bool exists(int i) {
        return (kStep == Block::threads || threadIdx.x < kStep) && index(i) < kAll;
    }
    // The row and the column of part e in its plane.
    __device__ __forceinline__ static int row(const Tile& tile, int e) {
        return tile.tile_y * Block::out_y - R + e / kColumns;
    }
    __device__ __forceinline__ static int column(const Tile& tile, int e) {
        return tile.tile_x * Block::out_x - kMargin + e % kColumns * kWidth;
    }
};

// Parts of the slice that are loaded from one offset each.
template <class A, int R, int kColumns, int kWidth, int kMargin>
struct Slots : Parts<A, R, kColumns, kWidth, kMargin> {
    using Base = Parts<A, R, kColumns, kWidth, kMargin>;
    using Base::flags, Base::index, Base::row, Base::column;
    // Of each part from the slice's first element, in the unit of the view's strides. The launchers have seen that 32
    // bits suffice: fits_pairs() for images, has_short_maps() for partial maps.
    unsigned offset[Base::kCount];

    // place_of(row): where it stands in the view.
    template <class V, class PlaceOf>
    __device__ __forceinline__ Slots(const SsimParams<A>& p, const Tile& tile, const V& v, int width,
                                     PlaceOf place_of) {
#pragma unroll
        for (int i = 0; i < Base::kCount; ++i) {
            const int y = row(tile, index(i)), x = column(tile, index(i));
            const bool in_slice = Base::exists(i) && y >= 0 && y < p.height && x >= 0 && x < width;
            flags |= unsigned(in_slice) << i;
            offset[i] = unsigned(place_of(y) * v.h + x * v.w);
        }
    }
};

// Parts of one element. All those of a thread lie in one column, kRowStep rows apart, so that an address is a sum: one
// part is of a row, the other of the column. (A few threads have nothing to load: 4 of 256 with 11 taps, 48 at most.)
template <class A, int R>
struct ElementsOfColumn
    : Parts<A, R, Block3d<A, R>::band_x, 1, R, Block3d<A, R>::threads / Block3d<A, R>::band_x * Block3d<A, R>::band_x> {
    static constexpr int kRowStep = Block3d<A, R>::threads / Block3d<A, R>::band_x;
};

// Elements of two images, each with strides of its own, in bytes. There are no registers for offsets of all parts in
// both images. So there is one of a thread's first part, and it grows by so many rows from part to part.
template <class A, int R>
struct StridedSlots : ElementsOfColumn<A, R> {
    using Base = ElementsOfColumn<A, R>;
    using Base::flags, Base::index, Base::row, Base::column, Base::kCount;
    unsigned x_offset, y_offset;  // as numbers of 32 bits with a sign: has_short_offsets() in the launchers

    __device__ __forceinline__ StridedSlots(const SsimParams<A>& p, const Tile& tile) {
        const int x = column(tile, index(0)), first = row(tile, index(0));
#pragma unroll
        for (int i = 0; i < kCount; ++i) {
            const int y = row(tile, index(i));
            flags |= unsigned(Base::exists(i) && y >= 0 && y < p.height && x >= 0 && x < p.width) << i;
        }
        x_offset = first * unsigned(p.x.h) + x * unsigned(p.x.w);
        y_offset = first * unsigned(p.y.h) + x * unsigned(p.y.w);
    }
    // From part to part.
    __device__ __forceinline__ static unsigned step(const ByteView& v) { return Base::kRowStep * unsigned(v.h); }
};

// The same for general kernels: elements wherever they lie, and beyond the border those that are seen there. If slices
// come in bands, these are the elements of one band.
template <class A, int R>
struct ElementSlots : ElementsOfColumn<A, R> {
    using Block = Block3d<A, R>;
    using Base = ElementsOfColumn<A, R>;
    using Base::flags, Base::index, Base::row, Base::column, Base::kCount;
    int column_seen;
    // Of the rows of all parts, also those of threads that have none.
    static constexpr int kRows = kCount * Base::kRowStep + 1;

    // Without a border that is seen, `border` is zeros.
    __device__ __forceinline__ void seek(const SsimParams<A>& p, const Tile& tile, Border border, int band) {
        const int x = column(tile, threadIdx.x) + band * Block::band_x;
        column_seen = place_seen(border, x, p.width);
        flags &= ~(Base::kFree - 1);
#pragma unroll
        for (int i = 0; i < kCount; ++i)
            flags |= unsigned(Base::exists(i) && sees_element(border, row(tile, index(i)), p.height) &&
                              sees_element(border, x, p.width))
                     << i;
    }
    // The element that is seen at a position, or, if there is none, the first one, which can be loaded as well.
    __device__ __forceinline__ static int place_seen(Border border, int position, int size) {
        return sees_element(border, position, size) ? element_seen(border, position, size) : 0;
    }
    // The row in the tile of part 0, and what is seen there.
    __device__ __forceinline__ static int row_in_tile() { return threadIdx.x / Block::band_x; }
    __device__ __forceinline__ static int row_seen(const SsimParams<A>& p, const Tile& tile, Border border,
                                                   int in_tile) {
        return place_seen(border, tile.tile_y * Block::out_y - R + in_tile, p.height);
    }
};

// The first of two types, or the second.
template <bool kFirst, class First, class Second>
struct Either {
    using type = First;
};
template <class First, class Second>
struct Either<false, First, Second> {
    using type = Second;
};
template <bool kFirst, class First, class Second>
using either_t = typename Either<kFirst, First, Second>::type;

// What walk_slices() wants of a source of slices. A source derives from this and hides what is deleted here; the others
// are defaults. There is nothing virtual. z is a slice of the volume.
template <class A, int kValuesOfElement>
struct SliceSource {
    // How many numbers the source delivers for an element.
    static constexpr int kValues = kValuesOfElement;
    // A slice is filtered along y while the one before is filtered along x and z, and the next one is being loaded. So
    // a slice costs one barrier instead of two. Needs a second stage in shared memory: if there is no room, the walk
    // does not do it.
    static constexpr bool kOverlaps = false;
    // Without kOverlaps: a slice is requested before the one before is filtered along y, instead of after it.
    static constexpr bool kEarly = false;
    // The shared memory of a slice, with a function fill(). The source defines a type of this name.
    struct Stage;

    // The first two numbers of an element beyond the border; the others are 0 there.
    Column<A, 2> beyond() const = delete;
    // Whether the filters along y and x make anything but zeros of a slice beyond the border, and what they make of it:
    // [kQuantities], in shared memory that is written before the walk.
    static constexpr bool kHasBeyond = false;
    const A* slice_beyond() const = delete;

    // So many slices at each end of the volume are like those beyond the border. They are not read.
    int empty_slices() const = delete;
    // Whether there are slices beyond the border, which are read like others.
    __device__ __forceinline__ static bool is_endless() { return false; }
    // Whether the outputs at the ends of each axis take the edge's taps (Border::replicate).
    __device__ __forceinline__ static bool has_edge_taps() { return false; }
    // Makes z the slice that is requested next.
    void seek(int z) = delete;
    // Begins to load a band of slice z. After the last band it moves on to the next slice.
    template <class AnyStage>
    void request(int z, int band, AnyStage& stage) = delete;
    // Ends it: after the next barrier all threads see the band in the stage.
    template <class AnyStage>
    void deliver(int z, int band, AnyStage& stage) = delete;
    // An element of what is in the stage. Row and column are counted from the first halo element of the tile and the
    // band.
    template <class AnyStage>
    void read(const AnyStage& stage, int row, int column, A (&values)[1][kValues]) const = delete;
    // Called once for each band of a slice, while it is in the stage: before it is filtered, or behind that.
    static constexpr bool kSumsLate = false;
    template <class AnyStage>
    __device__ __forceinline__ static void sum_l1(int, int, const AnyStage&) {}
};

// Walks a tile along z, and filters kQuantities along all three axes.
//
//     expand(values, quantities)     computes what is filtered from the numbers of an element
//     prepare()                      is called well before each use() in the chunk, to load what that will need
//     use(z, in_chunk, results)      gets the filtered quantities of slice z at this thread's columns. Slices come in
//                                    order, also those before the chunk
template <class A, int R, int kQuantities, class Source, class Expand, class Prepare, class Use>
__device__ __forceinline__ void walk_slices(const SsimParams<A>& p, const Tile& tile, Source& source, Expand expand,
                                            Prepare prepare, Use use) {
    using Block = Block3d<A, R>;
    struct Shared {
        typename Source::Stage stage;
        SliceFilter<A, R, kQuantities> slice;
    };
    constexpr bool kOverlaps = Source::kOverlaps && Block::bands == 1 && 2 * sizeof(Shared) <= kStaticShared;
    __shared__ Shared shared[kOverlaps ? 2 : 1];
    const auto at = [&](int z) -> Shared& { return shared[kOverlaps ? z & 1 : 0]; };
    const Place<A, R> place(p, tile, threadIdx.x);
    TransposedFir<A, R> fir[Block::columns][kQuantities];
    EdgeSums<A, R, kQuantities> edge_sums[Block::columns];

    static_assert(__is_base_of(SliceSource<A, Source::kValues>, Source), "a source derives from SliceSource");

    // What is never loaded is constant.
    for (Shared& each : shared) each.stage.fill(source.beyond());
    __syncthreads();
    // Slices beyond the border are all alike: those before the first other one have left their sums, those behind the
    // last one are not loaded or filtered along y and x.
    if constexpr (Source::kHasBeyond) {
        const A* const beyond = source.slice_beyond();
#pragma unroll
        for (int q = 0; q < kQuantities; ++q)
#pragma unroll
            for (int c = 0; c < Block::columns; ++c) fir[c][q].begin(beyond[q], p.taps_z());
    }
    const int end = place.z_end + R, last = source.is_endless() ? end : imin(end, p.depth - source.empty_slices());
    int z = source.is_endless() ? place.z_begin - R : imax(place.z_begin - R, source.empty_slices());
    const auto filter_y = [&](int slice, int band) {
        if (!Source::kSumsLate) source.sum_l1(slice, band, at(slice).stage);
        at(slice).slice.template filter_y<Source::kValues>(
            p.taps[int(Axis::y)], source.has_edge_taps() ? p.height : 0, tile.tile_y * Block::out_y, band,
            [&](int row, int column, A(&values)[1][Source::kValues]) {
                source.read(at(slice).stage, row, column, values);
            },
            expand);
        if (Source::kSumsLate) source.sum_l1(slice, band, at(slice).stage);
    };
    const auto request = [&](int slice, int band) { source.request(slice, band, at(slice).stage); };
    const auto deliver = [&](int slice, int band) { source.deliver(slice, band, at(slice).stage); };
    source.seek(z);
    if (z < last) request(z, 0);
    if (kOverlaps && z < last) {
        deliver(z, 0);
        __syncthreads();
        if (z + 1 < last) request(z + 1, 0);
        filter_y(z, 0);
    }
    for (; z < end; ++z) {
        A filtered[Block::columns][kQuantities] = {};
        if (z < last) {
            if constexpr (kOverlaps) {
                if (z + 1 < last) deliver(z + 1, 0);
                __syncthreads();
                if (z + 2 < last) request(z + 2, 0);
                if (z - R >= place.z_begin) prepare();
                if (z + 1 < last) filter_y(z + 1, 0);
            } else {
#pragma unroll 1
                for (int band = 0; band < Block::bands; ++band) {
                    const bool is_last = band + 1 == Block::bands;
                    const int next_z = is_last ? z + 1 : z, next_band = is_last ? 0 : band + 1;
                    deliver(z, band);
                    __syncthreads();
                    if (Source::kEarly && next_z < last) request(next_z, next_band);
                    filter_y(z, band);
                    __syncthreads();
                    if (!Source::kEarly && next_z < last) request(next_z, next_band);
                }
                if (z - R >= place.z_begin) prepare();
            }
            at(z).slice.filter_x(p.taps_x(), filtered);
            if (source.has_edge_taps())
                at(z).slice.filter_x_at_edges(p.taps[int(Axis::x)].edge, p.width, place.column, filtered);
        } else {
            if constexpr (Source::kHasBeyond) {
                const volatile A* const beyond = source.slice_beyond();  // not read in advance
#pragma unroll
                for (int q = 0; q < kQuantities; ++q) {
                    const A value = beyond[q];
#pragma unroll
                    for (int c = 0; c < Block::columns; ++c) filtered[c][q] = value;
                }
            }
            if (z - R >= place.z_begin) prepare();
        }
        A before[Block::columns][kQuantities];
#pragma unroll
        for (int q = 0; q < kQuantities; ++q)
#pragma unroll
            for (int c = 0; c < Block::columns; ++c) {
                before[c][q] = filtered[c][q];
                filtered[c][q] = fir[c][q].template step<true>(filtered[c][q], p.taps_z());
            }
        if (source.has_edge_taps())
#pragma unroll
            for (int c = 0; c < Block::columns; ++c)
                edge_sums[c].step(p.taps[int(Axis::z)], z, p.depth, before[c], filtered[c]);
        use(z - R, z - R >= place.z_begin, filtered);
    }
}

}  // namespace fusedssim
