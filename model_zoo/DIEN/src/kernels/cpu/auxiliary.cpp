// The auxiliary loss for auxiliary.py. It is a scalar, so that the pass that computes it computes its gradients, too.
#include "auxiliary.h"

#include <numeric>

#include "functions.h"
#include "status.h"

namespace {

// Part of the steps, by one thread.
template <class Real>
class AuxiliaryPart {
public:
    // gradients: null where none is asked for. sums: null where no gradient of weights is.
    AuxiliaryPart(const AuxiliaryProblem<Real>& p, const AuxiliaryWeights<Real>& weights, AuxiliaryMemory<Real>& memory,
                  const AuxiliaryGradients<Real>* gradients, const WeightSums<Real>* sums, int64_t number)
        : p_(p), weights_(weights), memory_(memory), gradients_(gradients), sums_(sums), H_(p.state_size),
          D_(p.behaviour_size), units_(p.net.units[0]), number_(number) {}

    double loss(int64_t begin, int64_t end) {
        block_ = p_.first_block(begin, number_);
        for (int64_t step = begin; step < end; ++step) {
            if (p_.counts(step)) {
                step_[count_] = step;
                if (++count_ == LANES) run();
            } else if (gradients_ && p_.net.from_input()) {
                clear(step);
            }
        }
        if (count_) run();
        return loss_;
    }

private:
    // The gradients of a step that does not count.
    void clear(int64_t step) {
        if (gradients_->states && step > 0) std::fill_n(gradients_->states + (step - 1) * H_, H_, Real(0));
        if (step == p_.steps) return;
        if (gradients_->clicks) std::fill_n(gradients_->clicks + step * D_, D_, Real(0));
        if (gradients_->others) std::fill_n(gradients_->others + step * p_.negatives * D_, p_.negatives * D_, Real(0));
    }

    // The steps that have come together.
    void run() {
        const int vectors = vectors_of<Real>(count_);
        if (p_.net.from_input()) {
            const Rows<Real> states(count_, memory_.zeros.data(), [&](int lane) { return before(p_.states, lane); });
            to_lanes(states.at, H_, vectors, memory_.state.data());
            weights_.state.multiply({memory_.state.data(), LANES}, {memory_.of_state.data(), LANES}, vectors);
            std::fill_n(memory_.d_of_state.data(), units_ * LANES, Real(0));
        }
        for (int64_t behaviour = 0; behaviour <= p_.negatives; ++behaviour) run(behaviour, vectors);
        if (gradients_ && p_.net.from_input()) differentiate_state(vectors);
        count_ = 0;
    }

    void run(int64_t behaviour, int vectors) {
        alignas(64) Real weight[LANES];
        for (int lane = 0; lane < LANES; ++lane) weight[lane] = lane < count_ ? p_.weight(step_[lane], behaviour) : 0;
        memory_.net.begin_block(block_++, weight);
        for (int lane = 0; p_.net.elements && lane < count_; ++lane) {
            memory_.net.elements.set(lane, p_.net.elements[step_[lane]] + behaviour);
        }
        if (p_.net.from_input()) run_first_layer(behaviour, weight, vectors);
        if (gradients_) {
            run_net_again(p_.net, weights_.net, vectors, memory_.net);
        } else {
            run_net(p_.net, weights_.net, vectors, memory_.net);
        }
        if (p_.net.to_output()) add_loss(behaviour ? 1 : -1, weight, vectors);
        if (gradients_) differentiate(behaviour, vectors);
    }

    void run_first_layer(int64_t behaviour, const Real* weight, int vectors) {
        const Rows<Real> rows(count_, memory_.zeros.data(), [&](int lane) -> const Real* {
            // What does not weigh may be anything.
            return weight[lane] != 0 ? p_.row(p_.clicks, p_.others, step_[lane], behaviour) : memory_.zeros.data();
        });
        Real* const units = memory_.net.units[0].data();
        to_lanes(rows.at, D_, vectors, memory_.behaviour.data());
        if (gradients_ && !p_.net.needs_first()) return;
        std::copy_n(memory_.of_state.data(), units_ * LANES, units);
        weights_.behaviour.multiply({memory_.behaviour.data(), LANES}, {units, LANES}, vectors, true);
    }

    // weight * softplus(sign * z); z turns into its gradient.
    void add_loss(Real sign, const Real* weight, int vectors) {
        Real* const z = memory_.net.output.data();
        alignas(64) Real loss[LANES];
        for (int lane = 0; lane < vectors * WIDTH<Real>; lane += WIDTH<Real>) {
            const Vector<Real> signed_z = sign * load(z + lane), w = load(weight + lane);
            store<Real>(loss + lane, w * softplus<Real>(signed_z));
            store<Real>(z + lane, sign * w * sigmoid<Real>(signed_z));
        }
        for (int lane = 0; lane < count_; ++lane) loss_ += loss[lane];
    }

    void differentiate(int64_t behaviour, int vectors) {
        differentiate_net(p_.net, weights_.net, count_, memory_.net, sums_);
        if (!p_.net.from_input()) return;
        Real *const d = memory_.net.d_units[0].data(), *const d_of_state = memory_.d_of_state.data();
        for_each_vector<Real>(units_, vectors,
                              [&](int64_t i) { store<Real>(d_of_state + i, load(d_of_state + i) + load(d + i)); });
        if (sums_) {
            multiply_lanes<Real>(memory_.behaviour.data(), memory_.net.rows.of(d, units_, count_),
                                 (*sums_)[p_.net.layers + 1], D_, count_, vectors_of<Real>(units_), true);
        }
        if (behaviour ? !gradients_->others : !gradients_->clicks) return;
        Real* rows[LANES];
        for (int lane = 0; lane < count_; ++lane) {
            rows[lane] = p_.row(gradients_->clicks, gradients_->others, step_[lane], behaviour);
        }
        weights_.d_behaviour.multiply({d, LANES}, {memory_.d_input.data(), LANES}, vectors);
        from_lanes(memory_.d_input.data(), D_, count_, rows);
    }

    void differentiate_state(int vectors) {
        const Real* const d = memory_.d_of_state.data();
        if (sums_) {
            multiply_lanes<Real>(memory_.state.data(), memory_.net.rows.of(d, units_, count_), (*sums_)[p_.net.layers],
                                 H_ + 1, count_, vectors_of<Real>(units_), true);
        }
        if (!gradients_->states) return;
        Real* rows[LANES];
        for (int lane = 0; lane < count_; ++lane) rows[lane] = before(gradients_->states, lane);
        weights_.d_state.multiply({d, LANES}, {memory_.d_input.data(), LANES}, vectors);
        from_lanes(memory_.d_input.data(), H_, count_, rows);
    }

    // The row of the step before a lane's.
    template <class Number>
    Number* before(Number* states, int lane) const {
        return states + (step_[lane] - 1) * H_;
    }

    const AuxiliaryProblem<Real>& p_;
    const AuxiliaryWeights<Real>& weights_;
    AuxiliaryMemory<Real>& memory_;
    const AuxiliaryGradients<Real>* const gradients_;
    const WeightSums<Real>* const sums_;
    const int64_t H_, D_, units_, number_;
    int count_ = 0;
    int64_t block_ = 0;
    int64_t step_[LANES];
    double loss_ = 0;
};

template <class Real>
void write_first_layer(const AuxiliaryProblem<Real>& p, const WeightSums<Real>& sums, const NetGradients<Real>& to) {
    const int64_t H = p.state_size, D = p.behaviour_size, units = p.net.units[0];
    const Matrix<Real> of_state = sums[p.net.layers], of_behaviour = sums[p.net.layers + 1];
    write_transposed<Real>({of_state.first, of_state.stride}, H, units, {to.weights[0], H + D});
    write_transposed<Real>({of_behaviour.first, of_behaviour.stride}, D, units, {to.weights[0] + H, H + D});
    std::copy_n(of_state.first + H * of_state.stride, units, to.biases[0]);
}

template <class Real>
double auxiliary_loss(const AuxiliaryProblem<Real>& p, const AuxiliaryGradients<Real>* gradients) {
    const std::vector<Shape> shapes = p.shapes();
    const bool wanted = gradients && gradients->net.weights;
    const int64_t parts = p.parts();
    const AuxiliaryWeights<Real> weights(p);
    std::vector<AuxiliaryMemory<Real>> memory;
    for (int64_t i = 0; i < p.threads; ++i) memory.emplace_back(p);
    std::vector<WeightSums<Real>> sums;
    for (int64_t i = 0; wanted && i < parts; ++i) sums.emplace_back(shapes);
    std::vector<WeightSums<double>> activations = activation_sums(p.net, parts);
    std::vector<double> losses(parts);
    const int64_t places = p.steps + 1;  // the last state has no step behind it
    for_each_part(parts, p.threads, [&](int64_t number) {
        if (!activations.empty()) memory[worker()].net.sums = &activations[number];
        AuxiliaryPart<Real> part(p, weights, memory[worker()], gradients, wanted ? &sums[number] : nullptr, number);
        losses[number] = part.loss(places * number / parts, places * (number + 1) / parts);
    });
    write_activation_sums(p.net, activations, p.threads);
    if (wanted) {
        const WeightSums<Real>& total = WeightSums<Real>::total(sums, p.threads);
        if (p.net.from_input()) write_first_layer(p, total, gradients->net);
        write_gradients(p.net, total, gradients->net);
    }
    return std::accumulate(losses.begin(), losses.end(), 0.0);
}

}  // namespace

extern "C" {

// gradients: null where none is asked for.
#define FOR_TYPE(Real)                                                                                          \
    int auxiliary_blocks_##Real(const AuxiliaryProblem<Real>* problem, int64_t* blocks) {                       \
        return reported([&] { *blocks = problem->blocks(); });                                                  \
    }                                                                                                           \
    int auxiliary_loss_##Real(const AuxiliaryProblem<Real>* problem, const AuxiliaryGradients<Real>* gradients, \
                              double* loss) {                                                                   \
        return reported([&] {                                                                                   \
            const double sum = auxiliary_loss(*problem, gradients);                                             \
            if (problem->net.to_output()) *loss = sum;                                                          \
        });                                  \
    }

FOR_TYPE(float)
FOR_TYPE(double)
}
