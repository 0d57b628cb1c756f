// Masks of dropout by a counter-based generator, Philox4x32-10 (Salmon et al., SC 2011). layers/dropout.py has them in
// torch.
#pragma once

#include "lanes.h"

// Of the step in each lane, the two lowest words of the counter.
struct Elements {
    alignas(64) uint32_t low[LANES], high[LANES];

    void set(int lane, int64_t element) {
        low[lane] = static_cast<uint32_t>(element);
        high[lane] = static_cast<uint32_t>(element >> 32);
    }
};

struct PhiloxWords {
    alignas(64) uint32_t at[4][LANES];
};

inline void run_philox(int64_t key, PhiloxWords& words) {
    constexpr int ROUNDS = 10;
    uint32_t low = static_cast<uint32_t>(key), high = static_cast<uint32_t>(key >> 32);
    for (int round = 0; round < ROUNDS; ++round) {
        for (int lane = 0; lane < LANES; ++lane) {
            const uint64_t one = uint64_t(0xD2511F53) * words.at[0][lane], two = uint64_t(0xCD9E8D57) * words.at[2][lane];
            words.at[0][lane] = static_cast<uint32_t>(two >> 32) ^ words.at[1][lane] ^ low;
            words.at[1][lane] = static_cast<uint32_t>(two);
            words.at[2][lane] = static_cast<uint32_t>(one >> 32) ^ words.at[3][lane] ^ high;
            words.at[3][lane] = static_cast<uint32_t>(one);
        }
        low += 0x9E3779B9;
        high += 0xBB67AE85;
    }
}

// A unit has 16 bits, which drop it where they are below `dropped`.
constexpr int64_t MASK_VALUES = 1 << 16;

// Of units in lanes: 0, or what keeps the mean.
template <class Real>
inline void draw_masks(int64_t key, int64_t dropped, const Elements& elements, int64_t units, Real* masks) {
    constexpr int64_t AT_ONCE = 8;
    const Real kept = Real(MASK_VALUES) / Real(MASK_VALUES - dropped);
    const uint32_t below = static_cast<uint32_t>(dropped);
    PhiloxWords words;
    for (int64_t first = 0; first < units; first += AT_ONCE) {
        for (int lane = 0; lane < LANES; ++lane) {
            words.at[0][lane] = elements.low[lane];
            words.at[1][lane] = elements.high[lane];
            words.at[2][lane] = static_cast<uint32_t>(first / AT_ONCE);
            words.at[3][lane] = 0;
        }
        run_philox(key, words);
        for (int64_t unit = first; unit < std::min(units, first + AT_ONCE); ++unit) {
            const uint32_t* const word = words.at[unit % 4];
            const int shift = unit / 4 % 2 * 16;
            for (int lane = 0; lane < LANES; ++lane) {
                masks[unit * LANES + lane] = (word[lane] >> shift & 0xFFFF) < below ? Real(0) : kept;
            }
        }
    }
}
