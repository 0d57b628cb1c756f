// Evolution of one user's interests towards candidates that lie in lanes.
#pragma once

#include <optional>

#include "attention_row.h"
#include "scorer_interests.h"

// Scores of DIN's unit: each step is a row of attention_row.h, and the candidates' queries are the states that rows share.
template <class Real>
class UnitScores {
public:
    UnitScores(const Net<Real>& net, int64_t hidden)
        : net_(net), weights_(net), memory_(net), problem_{0, hidden, 1, 1, nullptr, nullptr, nullptr, net}, row_(problem_),
          term_(net.units[0], hidden + 1, [&](int64_t m, int64_t k) {
              return k < hidden ? problem_.of_query(m, k) : net.biases[0][m];
          }) {}

    int64_t term_size() const { return term_.stride(); }
    void terms(const Real* states, int count, Real* to) const { term_.of_lanes(states, count, to); }

    // Of a step, before queries [q, 1].
    const Real* run(const Real* state, const Real* term, const Real* queries, int vectors) {
        row_.begin(state, term, false);
        row_.run_lanes(queries, vectors, memory_.units[0].data());
        run_net(net_, weights_, vectors, memory_);
        return memory_.output.data();
    }

private:
    const Net<Real> net_;
    const NetWeights<Real> weights_;
    NetMemory<Real> memory_;
    const AttentionProblem<Real> problem_;
    AttentionRow<Real> row_;
    RowProduct<Real> term_;
};

template <class Real>
class CandidateEvolution {
public:
    explicit CandidateEvolution(const SequenceWeights<Real>& p)
        : p_(p), H_(p.hidden), input_(3 * H_, H_, [&](int64_t m, int64_t k) { return p.evolution_ih[m * H_ + k]; }),
          step_(p.kind, H_, p.evolution_hh, p.evolution_bias), block_((H_ + 1) * LANES), query_((H_ + 1) * LANES),
          h_(H_ * LANES), gates_(3 * H_ * LANES) {
        if (p.query_weight) {
            project_.emplace(H_, p.target_size + 1, [&](int64_t m, int64_t k) {
                if (k < p.target_size) return p.query_weight[m * p.target_size + k];
                return p.query_bias ? p.query_bias[m] : Real(0);
            });
        }
        if (p.kind != GRU && p.unit.layers) unit_.emplace(p.unit, H_);
        std::fill_n(block_.data() + H_ * LANES, LANES, Real(1));
        std::fill_n(query_.data() + H_ * LANES, LANES, Real(1));
    }

    // Once a request: what candidates share.
    void begin(const UserInterests<Real>& interests) {
        interests_ = &interests;
        const int64_t steps = interests.steps();
        of_input_.of(steps * input_.stride());
        scores_.of((steps + 1) * LANES);
        if (unit_) terms_.of(steps * unit_->term_size());
        else lanes_.of(round_up(steps, LANES) * H_);
        for (int64_t t = 0; t < steps; t += LANES) {
            const int count = static_cast<int>(std::min<int64_t>(LANES, steps - t));
            const Rows<Real> states(count, interests.state(t), [&](int lane) { return interests.state(t + lane); });
            to_lanes(states.at, H_, vectors_of<Real>(count), block_.data());
            input_.of_lanes(block_.data(), count, of_input_.data() + t * input_.stride());
            if (unit_) unit_->terms(block_.data(), count, terms_.data() + t * unit_->term_size());
            else std::copy_n(block_.data(), H_ * LANES, lanes_.data() + t * H_);
        }
    }

    // Of targets [e_a, 1]. Returns h'_T, (8)-(12).
    const Real* run(const Real* targets, int vectors) {
        if (p_.kind != GRU) attend(targets, vectors);
        std::fill_n(h_.data(), H_ * LANES, Real(0));
        for (int64_t t = 0; t < interests_->steps(); ++t) {
            step_.run(vectors, of_input_.data() + t * input_.stride(), scores_.data() + t * LANES, gates_.data(), h_.data());
        }
        return h_.data();
    }

private:
    void attend(const Real* targets, int vectors) {
        if (project_) project_->multiply({targets, LANES}, {query_.data(), LANES}, vectors);
        else std::copy_n(targets, H_ * LANES, query_.data());
        activate(p_.query_activation, H_, vectors, query_.data());
        Real* const scores = scores_.data();
        const int64_t steps = interests_->steps();
        if (unit_) {
            for (int64_t t = 0; t < steps; ++t) {
                const Real* const term = terms_.data() + t * unit_->term_size();
                std::copy_n(unit_->run(interests_->state(t), term, query_.data(), vectors), LANES, scores + t * LANES);
            }
        } else {
            for (int64_t t = 0; t < steps; t += LANES) {
                multiply<Real>({lanes_.data() + t * H_, LANES}, {query_.data(), LANES}, {scores + t * LANES, LANES},
                               std::min<int64_t>(LANES, steps - t), H_, vectors, false);
            }
        }
        if (p_.softmax) softmax(vectors);
    }

    // Over the steps, in each lane.
    void softmax(int vectors) {
        for (int lane = 0; lane < vectors * WIDTH<Real>; lane += WIDTH<Real>) {
            Real* const first = scores_.data() + lane;
            Real* const last = first + interests_->steps() * LANES;
            Vector<Real> largest = load(first), sum = {};
            for (Real* at = first; at < last; at += LANES) {
                const Vector<Real> score = load(at);
                largest = score > largest ? score : largest;
            }
            for (Real* at = first; at < last; at += LANES) {
                const Vector<Real> e = exp_minus<Real>(load(at) - largest, 0);
                store<Real>(at, e);
                sum += e;
            }
            const Vector<Real> share = Real(1) / sum;
            for (Real* at = first; at < last; at += LANES) store<Real>(at, load(at) * share);
        }
    }

    const SequenceWeights<Real> p_;
    const int64_t H_;
    const RowProduct<Real> input_;
    const CandidateStep<Real> step_;
    std::optional<Packed<Real>> project_;
    std::optional<UnitScores<Real>> unit_;
    const UserInterests<Real>* interests_ = nullptr;
    Buffer<Real> block_, query_, h_, gates_;  // in lanes: [states, 1], [q, 1]
    Scratch<Real> of_input_, terms_, lanes_, scores_;
};
