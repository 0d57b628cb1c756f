// GRU, AIGRU, AGRU, AUGRU over rows that share their inputs, without gradients, for candidates.py: what a step's input
// gives to the gates is the same number in every lane, and only what the state gives is a product.
#include <algorithm>
#include <vector>

#include "candidates.h"
#include "functions.h"
#include "product.h"
#include "status.h"

namespace {

// A thread's working memory.
template <class Real>
struct CandidatesMemory {
    Buffer<Real> h, gates, attention, zeros;

    explicit CandidatesMemory(const Candidates<Real>& p)
        : h(p.hidden * LANES), gates(3 * p.hidden * LANES), attention(LANES), zeros(p.hidden) {}
};

// Moves h on by a step. inputs: its row of W x. gates: U h.
template <class Real, Kind KIND>
void advance(const Candidates<Real>& p, int vectors, const Real* inputs, const Real* attention, const Real* gates,
             Real* h) {
    const int64_t H = p.hidden;
    for (int lane = 0; lane < vectors * WIDTH<Real>; lane += WIDTH<Real>) {
        const Vector<Real> a = load(attention + lane);
        const auto of_input = [&](int64_t gate) {
            return KIND == AIGRU ? a * inputs[gate] + p.bias[gate] : all<Real>(inputs[gate] + p.bias[gate]);
        };
        const auto of_state = [&](int64_t gate) { return load(gates + gate * LANES + lane); };
        for (int64_t i = 0; i < H; ++i) {
            const Vector<Real> u = KIND == AGRU ? Vector<Real>{} : sigmoid<Real>(of_input(i) + of_state(i));
            const Vector<Real> r = sigmoid<Real>(of_input(H + i) + of_state(H + i));
            const Vector<Real> candidate = tanh<Real>(of_input(2 * H + i) + r * of_state(2 * H + i));
            const Vector<Real> before = load(h + i * LANES + lane);
            store<Real>(h + i * LANES + lane, before + scaled_gate<Real>(KIND, u, a) * (candidate - before));
        }
    }
}

// Takes up to LANES rows through all steps.
template <class Real>
void evolve_block(const Candidates<Real>& p, int64_t first, const Packed<Real>& U, CandidatesMemory<Real>& memory,
                  Real* final) {
    const int rows = static_cast<int>(std::min<int64_t>(LANES, p.rows - first)), vectors = vectors_of<Real>(rows);
    Real *const h = memory.h.data(), *const gates = memory.gates.data(), *const attention = memory.attention.data();
    const Rows<Real> before(rows, memory.zeros.data(), [&](int lane) { return p.state + (first + lane) * p.hidden; });
    to_lanes(before.at, p.hidden, vectors, h);
    for (int64_t t = 0; t < p.steps; ++t) {
        const Real* const inputs = p.inputs + t * 3 * p.hidden;
        std::copy_n(p.attention + t * p.rows + first, rows, attention);
        U.multiply({h, LANES}, {gates + p.first_gate() * LANES, LANES}, vectors);
        switch (p.kind) {
            case GRU: advance<Real, GRU>(p, vectors, inputs, attention, gates, h); break;
            case AIGRU: advance<Real, AIGRU>(p, vectors, inputs, attention, gates, h); break;
            case AGRU: advance<Real, AGRU>(p, vectors, inputs, attention, gates, h); break;
            case AUGRU: advance<Real, AUGRU>(p, vectors, inputs, attention, gates, h); break;
            case AUGRU_CODE: advance<Real, AUGRU_CODE>(p, vectors, inputs, attention, gates, h); break;
        }
    }
    Real* after[LANES];
    for (int lane = 0; lane < rows; ++lane) after[lane] = final + (first + lane) * p.hidden;
    from_lanes(h, p.hidden, rows, after);
}

template <class Real>
void evolve(const Candidates<Real>& p, Real* final) {
    const int64_t H = p.hidden, begin = p.first_gate();
    const Packed<Real> U(3 * H - begin, H, [&](int64_t m, int64_t k) { return p.weight_hh[(begin + m) * H + k]; });
    std::vector<CandidatesMemory<Real>> memory;
    for (int64_t i = 0; i < p.threads; ++i) memory.emplace_back(p);
    for_each_part((p.rows + LANES - 1) / LANES, p.threads,
                  [&](int64_t block) { evolve_block(p, block * LANES, U, memory[worker()], final); });
}

}  // namespace

extern "C" {

#define FOR_TYPE(Real)                                                           \
    int evolve_candidates_##Real(const Candidates<Real>* problem, Real* final) { \
        return reported([&] { evolve(*problem, final); });                       \
    }

FOR_TYPE(float)
FOR_TYPE(double)
}
