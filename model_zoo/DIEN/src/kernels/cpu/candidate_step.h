// A step of rows that share their inputs, without gradients: what a step's input gives to the gates is the same number in
// every lane, and only what the state gives is a product.
#pragma once

#include "functions.h"
#include "product.h"
#include "recurrence.h"

// The state after a step, (2)-(5) and (9)-(12), from the gates' pre-activations and attention a.
template <class Real, Kind KIND>
inline Vector<Real> next_state(Vector<Real> before, Vector<Real> a, Vector<Real> u, Vector<Real> r, Vector<Real> W_h_x,
                               Vector<Real> U_h_h) {
    const Vector<Real> candidate = tanh<Real>(W_h_x + sigmoid<Real>(r) * U_h_h);
    const Vector<Real> gate = KIND == AGRU ? a : scaled_gate<Real>(KIND, sigmoid<Real>(u), a);
    return before + gate * (candidate - before);
}

template <class Real>
class CandidateStep {
public:
    // weight_hh: (3H, H), is packed. bias: (3H,), is referred to.
    CandidateStep(int64_t kind, int64_t hidden, const Real* weight_hh, const Real* bias)
        : kind_(kind), H_(hidden), first_gate_(kind == AGRU ? hidden : 0), bias_(bias),
          U_(3 * hidden - first_gate_, hidden,
             [&](int64_t m, int64_t k) { return weight_hh[(first_gate_ + m) * hidden + k]; }) {}

    // Moves h on. inputs: (3H,), W x. attention: of each lane. gates: (3H, LANES), is written.
    void run(int vectors, const Real* inputs, const Real* attention, Real* gates, Real* h) const {
        U_.multiply({h, LANES}, {gates + first_gate_ * LANES, LANES}, vectors);
        switch (kind_) {
            case GRU: advance<GRU>(vectors, inputs, attention, gates, h); break;
            case AIGRU: advance<AIGRU>(vectors, inputs, attention, gates, h); break;
            case AGRU: advance<AGRU>(vectors, inputs, attention, gates, h); break;
            case AUGRU: advance<AUGRU>(vectors, inputs, attention, gates, h); break;
            case AUGRU_TENSORFLOW: advance<AUGRU_TENSORFLOW>(vectors, inputs, attention, gates, h); break;
        }
    }

private:
    template <Kind KIND>
    void advance(int vectors, const Real* inputs, const Real* attention, const Real* gates, Real* h) const {
        for (int lane = 0; lane < vectors * WIDTH<Real>; lane += WIDTH<Real>) {
            const Vector<Real> a = load(attention + lane);
            const auto of_input = [&](int64_t gate) {
                return KIND == AIGRU ? a * inputs[gate] + bias_[gate] : all<Real>(inputs[gate] + bias_[gate]);
            };
            const auto of_state = [&](int64_t gate) { return load(gates + gate * LANES + lane); };
            for (int64_t i = 0; i < H_; ++i) {
                const Vector<Real> u = KIND == AGRU ? Vector<Real>{} : of_input(i) + of_state(i);
                Real* const at = h + i * LANES + lane;
                store<Real>(at, next_state<Real, KIND>(load(at), a, u, of_input(H_ + i) + of_state(H_ + i),
                                                       of_input(2 * H_ + i), of_state(2 * H_ + i)));
            }
        }
    }

    int64_t kind_, H_, first_gate_;
    const Real* bias_;
    Packed<Real> U_;
};
