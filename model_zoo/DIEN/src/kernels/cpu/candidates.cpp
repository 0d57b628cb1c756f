// GRU, AIGRU, AGRU, AUGRU over rows that share their inputs, without gradients, for native_candidates.py.
#include "candidates.h"

#include <algorithm>
#include <vector>

#include "candidate_step.h"
#include "status.h"

namespace {

// A thread's working memory.
template <class Real>
struct CandidatesMemory {
    Buffer<Real> h, gates, attention, zeros;

    explicit CandidatesMemory(const Candidates<Real>& p)
        : h(p.hidden * LANES), gates(3 * p.hidden * LANES), attention(LANES), zeros(p.hidden) {}
};

// Takes up to LANES rows through all steps.
template <class Real>
void evolve_block(const Candidates<Real>& p, int64_t first, const CandidateStep<Real>& step,
                  CandidatesMemory<Real>& memory, Real* final) {
    const int rows = static_cast<int>(std::min<int64_t>(LANES, p.rows - first)), vectors = vectors_of<Real>(rows);
    Real *const h = memory.h.data(), *const attention = memory.attention.data();
    const Rows<Real> before(rows, memory.zeros.data(), [&](int lane) { return p.state + (first + lane) * p.hidden; });
    to_lanes(before.at, p.hidden, vectors, h);
    for (int64_t t = 0; t < p.steps; ++t) {
        std::copy_n(p.attention + t * p.rows + first, rows, attention);
        step.run(vectors, p.inputs + t * 3 * p.hidden, attention, memory.gates.data(), h);
    }
    Real* after[LANES];
    for (int lane = 0; lane < rows; ++lane) after[lane] = final + (first + lane) * p.hidden;
    from_lanes(h, p.hidden, rows, after);
}

template <class Real>
void evolve(const Candidates<Real>& p, Real* final) {
    const CandidateStep<Real> step(p.kind, p.hidden, p.weight_hh, p.bias);
    std::vector<CandidatesMemory<Real>> memory;
    for (int64_t i = 0; i < p.threads; ++i) memory.emplace_back(p);
    for_each_part((p.rows + LANES - 1) / LANES, p.threads,
                  [&](int64_t block) { evolve_block(p, block * LANES, step, memory[worker()], final); });
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
