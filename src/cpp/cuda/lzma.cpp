// SPDX-License-Identifier: MIT
//
// After "LZMA specification", Igor Pavlov, 2015, in the public domain (https://www.7-zip.org/sdk.html).
#include "cuda/lzma.h"

#include <cstdint>

namespace fusedssim::cuda {

namespace {

// How probable a bit is to be 0, in units of 2^-11; learned from the bits before.
struct Probability {
    static constexpr int kBits = 11, kRate = 5;
    std::uint16_t value = 1 << (kBits - 1);
};

// Numbers of kBits bits: each bit has a probability for each way to come to it.
template <int kBits>
struct Tree {
    Probability nodes[1 << kBits];
};

// Reads bits. Behind the end of the stream it reads zeros.
class BitReader {
public:
    BitReader(const unsigned char* packed, std::size_t size) : at_(packed), end_(packed + size) {
        is_valid_ = next_byte() == 0;
        for (int i = 0; i < 4; ++i) code_ = code_ << 8 | next_byte();
    }
    // Whether the bits read so far were there; whether they were all, and end as a stream does.
    bool is_valid() const { return is_valid_; }
    bool is_complete() const { return is_valid_ && at_ == end_ && code_ == 0; }

    unsigned bit(Probability& probability) {
        const std::uint32_t bound = (range_ >> Probability::kBits) * probability.value;
        const bool is_one = code_ >= bound;
        if (is_one) {
            range_ -= bound;
            code_ -= bound;
            probability.value = std::uint16_t(probability.value - (probability.value >> Probability::kRate));
        } else {
            range_ = bound;
            const int rest = (1 << Probability::kBits) - probability.value;
            probability.value = std::uint16_t(probability.value + (rest >> Probability::kRate));
        }
        refill();
        return is_one;
    }
    // Bits that are as often 0 as 1.
    unsigned even_bits(int count) {
        unsigned number = 0;
        for (; count; --count) {
            range_ >>= 1;
            const bool is_one = code_ >= range_;
            if (is_one) code_ -= range_;
            number = number << 1 | unsigned(is_one);
            refill();
        }
        return number;
    }
    template <int kBits>
    unsigned number(Tree<kBits>& tree) {
        unsigned node = 1;
        while (node < 1u << kBits) node = node << 1 | bit(tree.nodes[node]);
        return node - (1u << kBits);
    }
    // The same, with the lowest bit first.
    unsigned reversed(Probability* nodes, int bits) {
        unsigned node = 1, number = 0;
        for (int i = 0; i < bits; ++i) {
            const unsigned next = bit(nodes[node]);
            node = node << 1 | next;
            number |= next << i;
        }
        return number;
    }

private:
    unsigned next_byte() {
        if (at_ != end_) return *at_++;
        is_valid_ = false;
        return 0;
    }
    void refill() {
        if (range_ >= 1u << 24) return;
        range_ <<= 8;
        code_ = code_ << 8 | next_byte();
    }

    const unsigned char *at_, *end_;
    std::uint32_t range_ = 0xffffffff, code_ = 0;
    bool is_valid_;
};

constexpr int kPlaceBits = 4;  // lp and pb
constexpr unsigned kPlaces = 1u << kPlaceBits;

// How many bytes a match has.
struct Lengths {
    Probability is_middle, is_high;
    Tree<3> low[kPlaces], middle[kPlaces];
    Tree<8> high;

    std::size_t read(BitReader& bits, unsigned place) {
        constexpr std::size_t kLeast = 2, kMiddle = kLeast + 8, kHigh = kMiddle + 8;
        if (!bits.bit(is_middle)) return kLeast + bits.number(low[place]);
        if (!bits.bit(is_high)) return kMiddle + bits.number(middle[place]);
        return kHigh + bits.number(high);
    }
};

// How far back a match begins.
struct Distances {
    static constexpr unsigned kFirstModelled = 4, kFirstEven = 14;  // slots
    static constexpr int kAlignBits = 4;
    Tree<6> slots[4];
    // For each slot from kFirstModelled to kFirstEven, all but the two highest bits of a distance.
    Probability lower[1 + (1 << kFirstEven / 2) - kFirstEven];
    Probability align[1 << kAlignBits];

    // The distance, less 1.
    std::uint32_t read(BitReader& bits, std::size_t length) {
        const unsigned slot = bits.number(slots[length < 5 ? length - 2 : 3]);
        if (slot < kFirstModelled) return slot;
        const int count = int(slot / 2) - 1;
        const std::uint32_t distance = (2 | (slot & 1)) << count;
        if (slot < kFirstEven) return distance + bits.reversed(lower + distance - slot, count);
        return distance + (bits.even_bits(count - kAlignBits) << kAlignBits) + bits.reversed(align, kAlignBits);
    }
};

// What came before, as far as it matters for the next bits: states below kMatched follow a literal.
class State {
public:
    unsigned index() const { return state_; }
    bool follows_literal() const { return state_ < kMatched; }
    void add_literal() { state_ = state_ < 4 ? 0 : state_ < 10 ? state_ - 3 : state_ - 6; }
    void add_match() { state_ = follows_literal() ? kMatched : 10; }
    void add_repeated() { state_ = follows_literal() ? 8 : 11; }
    void add_byte() { state_ = follows_literal() ? 9 : 11; }

    static constexpr unsigned kCount = 12;

private:
    static constexpr unsigned kMatched = 7;
    unsigned state_ = 0;
};

struct Model {
    Probability literals[kPlaces][3][256];  // the next byte, and, behind a match, where it is 0 or 1 in the other
    Probability is_match[State::kCount][kPlaces], is_repeated[State::kCount];
    Probability is_older[State::kCount], is_second_older[State::kCount], is_oldest[State::kCount];
    Probability is_longer[State::kCount][kPlaces];
    Lengths lengths, repeated_lengths;
    Distances distances;
};

// The next byte alone; `likely`: the one that would go on with the last match, if that has just ended, or -1.
unsigned char read_literal(BitReader& bits, Probability (&nodes)[3][256], int likely) {
    unsigned node = 1;
    // As long as it is what would go on, that has a say.
    for (unsigned other = unsigned(likely); likely >= 0 && node < 256;) {
        other <<= 1;
        const unsigned expected = other >> 8 & 1, found = bits.bit(nodes[1 + expected][node]);
        node = node << 1 | found;
        if (found != expected) break;
    }
    while (node < 256) node = node << 1 | bits.bit(nodes[0][node]);
    return static_cast<unsigned char>(node);
}

// Makes the distance that is repeated the newest. Returns whether a length follows; otherwise it is a single byte.
bool read_repeated(BitReader& bits, Model& model, unsigned before, unsigned place, std::uint32_t (&back)[4]) {
    if (!bits.bit(model.is_older[before])) return bits.bit(model.is_longer[before][place]) != 0;
    const int which = !bits.bit(model.is_second_older[before]) ? 1 : !bits.bit(model.is_oldest[before]) ? 2 : 3;
    const std::uint32_t distance = back[which];
    for (int i = which; i > 0; --i) back[i] = back[i - 1];
    back[0] = distance;
    return true;
}

}  // namespace

bool unpack_lzma(const unsigned char* packed, std::size_t packed_size, unsigned char* out, std::size_t size) {
    constexpr std::uint32_t kEnd = 0xffffffff;  // in place of a distance
    BitReader bits(packed, packed_size);
    Model model;
    State state;
    std::uint32_t back[4] = {};  // the last distances, less 1; the newest first
    std::size_t at = 0;
    while (bits.is_valid()) {
        const unsigned place = at % kPlaces, before = state.index();
        if (!bits.bit(model.is_match[before][place])) {
            if (at == size || (!state.follows_literal() && back[0] >= at)) return false;
            const int likely = state.follows_literal() ? -1 : out[at - back[0] - 1];
            out[at++] = read_literal(bits, model.literals[place], likely);
            state.add_literal();
            continue;
        }
        std::size_t length = 1;
        if (!bits.bit(model.is_repeated[before])) {
            length = model.lengths.read(bits, place);
            for (int i = 3; i > 0; --i) back[i] = back[i - 1];
            back[0] = model.distances.read(bits, length);
            if (back[0] == kEnd) return at == size && bits.is_complete();
            state.add_match();
        } else if (read_repeated(bits, model, before, place, back)) {
            length = model.repeated_lengths.read(bits, place);
            state.add_repeated();
        } else {
            state.add_byte();
        }
        if (back[0] >= at || length > size - at) return false;
        for (; length; --length, ++at) out[at] = out[at - back[0] - 1];
    }
    return false;
}

}  // namespace fusedssim::cuda
