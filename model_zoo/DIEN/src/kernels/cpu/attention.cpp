// Scores of DIN's attention unit, forward and backward, for native_attention.py. A backward pass computes its forward pass
// again: that takes less time than to keep and read what it leaves. Only what Dice normalises is kept: between its sums
// over all steps and its use there are other steps.
#include "attention_memory.h"

#include "status.h"

namespace {

// A part of the rows, by one thread.
template <class Real>
class AttentionPart {
public:
    AttentionPart(const AttentionProblem<Real>& p, const AttentionWeights<Real>& weights, AttentionMemory<Real>& memory,
                  int64_t number)
        : p_(p), weights_(weights), memory_(memory), H_(p.size), units_(p.net.units[0]), number_(number) {}

    void scores(int64_t begin, int64_t end, Real* scores) {
        for_each_chunk(begin, end, [&](int64_t first, int64_t last) {
            for_each_block(
                first, last,
                [&](int64_t row, int64_t step, int64_t end) {
                    if (p_.net.from_input()) begin_row(row, false);
                    for (; step < end; step += LANES) {
                        memory_.net.begin_block(block_++, LANES);
                        set_elements(LANES, [&](int lane) { return step + lane; });
                        if (p_.net.from_input()) {
                            memory_.row.read(p_.state(row, step));
                            memory_.row.run(memory_.net.units[0].data());
                        }
                        run_net(p_.net, weights_.net, vectors_of<Real>(LANES), memory_.net);
                        if (p_.net.to_output()) std::copy_n(memory_.net.output.data(), LANES, scores + step);
                    }
                },
                [&](const Steps& steps) {
                    memory_.net.begin_block(block_++, steps.count);
                    set_elements(steps.count, [&](int lane) { return steps.step[lane]; });
                    if (p_.net.from_input()) {
                        read(steps);
                        run_first_layer(steps);
                    }
                    run_net(p_.net, weights_.net, vectors_of<Real>(steps.count), memory_.net);
                    for (int lane = 0; p_.net.to_output() && lane < steps.count; ++lane) {
                        scores[steps.step[lane]] = memory_.net.output.data()[lane];
                    }
                });
        });
    }

    // sums: null where no gradient of weights is asked for.
    void gradients(int64_t begin, int64_t end, const Real* d_scores, const AttentionGradients<Real>& gradients,
                   const WeightSums<Real>* sums) {
        for_each_chunk(begin, end, [&](int64_t first, int64_t last) {
            clear(memory_.d_terms);
            clear(memory_.d_query);
            for_each_block(
                first, last,
                [&](int64_t row, int64_t step, int64_t end) {
                    if (p_.net.from_input()) begin_row(row, true);
                    for (; step < end; step += LANES) {
                        memory_.net.begin_block(block_++, LANES);
                        set_elements(LANES, [&](int lane) { return step + lane; });
                        if (p_.net.from_input()) memory_.row.read(p_.state(row, step));
                        if (p_.net.needs_first()) memory_.row.run(memory_.net.units[0].data());
                        run_net_again(p_.net, weights_.net, vectors_of<Real>(LANES), memory_.net);
                        if (p_.net.to_output()) std::copy_n(d_scores + step, LANES, memory_.net.output.data());
                        differentiate_net(p_.net, weights_.net, LANES, memory_.net, sums);
                        if (p_.net.from_input()) differentiate_row(step, gradients, sums);
                    }
                    if (!p_.net.from_input()) return;
                    memory_.row.add_to(memory_.d_terms[row - first_], memory_.d_query[row - first_]);
                    if (sums) memory_.row.add_to((*sums)[p_.net.layers + 1]);
                },
                [&](const Steps& steps) {
                    memory_.net.begin_block(block_++, steps.count);
                    set_elements(steps.count, [&](int lane) { return steps.step[lane]; });
                    if (p_.net.from_input()) read(steps);
                    if (p_.net.needs_first()) run_first_layer(steps);
                    run_net_again(p_.net, weights_.net, vectors_of<Real>(steps.count), memory_.net);
                    Real* const d = memory_.net.output.data();
                    for (int lane = 0; p_.net.to_output() && lane < LANES; ++lane) {
                        d[lane] = lane < steps.count ? d_scores[steps.step[lane]] : 0;
                    }
                    differentiate_net(p_.net, weights_.net, steps.count, memory_.net, sums);
                    if (p_.net.from_input()) differentiate_first_layer(steps, gradients, sums);
                });
            if (p_.net.from_input()) differentiate_terms(first, last, gradients, sums);
        });
    }

private:
    static void clear(RowNumbers<Real>& rows) { std::fill_n(rows[0], ROWS_AT_ONCE * rows.stride, Real(0)); }

    // Rows as many as have their terms in memory at once.
    template <class Chunk>
    void for_each_chunk(int64_t begin, int64_t end, Chunk chunk) {
        for (int64_t first = begin; first < end; first += ROWS_AT_ONCE) {
            const int64_t last = std::min(end, first + ROWS_AT_ONCE);
            first_ = first;
            block_ = p_.first_block(first, number_);
            if (p_.net.from_input()) set_terms(first, last);
            chunk(first, last);
        }
    }

    void set_terms(int64_t first, int64_t last) {
        for_each_group(first, last, [&](int64_t group, int count) {
            Real* rows[LANES];
            for (int lane = 0; lane < count; ++lane) rows[lane] = memory_.terms[group - first + lane];
            Real* const terms = memory_.net.units[0].data();
            weights_.query.multiply({memory_.query.data(), LANES}, {terms, LANES}, vectors_of<Real>(count));
            from_lanes(terms, units_, count, rows);
        });
    }

    // Up to LANES rows, their queries in lanes.
    template <class Group>
    void for_each_group(int64_t first, int64_t last, Group group) {
        for (int64_t row = first; row < last; row += LANES) {
            const int count = static_cast<int>(std::min<int64_t>(LANES, last - row));
            const Rows<Real> queries(count, memory_.zeros.data(), [&](int lane) { return query(row + lane); });
            to_lanes(queries.at, H_, vectors_of<Real>(count), memory_.query.data());
            group(row, count);
        }
    }

    // Calls whole(row, step, end) for as many steps of a row as fill blocks, block(steps) for those that are left over.
    template <class Whole, class Block>
    void for_each_block(int64_t first, int64_t last, Whole whole, Block block) {
        Steps steps;
        for (int64_t row = first; row < last; ++row) {
            int64_t step = p_.offsets[row];
            const int64_t end = p_.offsets[row + 1], rest = step + (end - step) / LANES * LANES;
            if (step < rest) whole(row, step, rest);
            for (step = rest; step < end; ++step) {
                steps.step[steps.count] = step;
                steps.row[steps.count] = row;
                if (++steps.count == LANES) {
                    block(steps);
                    steps.count = 0;
                }
            }
        }
        if (steps.count) block(steps);
    }

    // step(lane): the step in a lane.
    template <class Step>
    void set_elements(int count, Step step) {
        if (!p_.net.elements) return;
        for (int lane = 0; lane < count; ++lane) memory_.net.elements.set(lane, p_.net.elements[step(lane)]);
    }

    void begin_row(int64_t row, bool differentiate) {
        memory_.row.begin(query(row), memory_.terms[row - first_], differentiate);
    }

    void differentiate_row(int64_t step, const AttentionGradients<Real>& gradients, const WeightSums<Real>* sums) {
        const Real* const d = memory_.net.d_units[0].data();
        if (gradients.query || sums) memory_.row.add(memory_.net.rows.of(d, units_, LANES));
        if (gradients.states) memory_.row.differentiate_states(d, gradients.states + step * H_);
    }

    // h and q * h, and q; lanes beside the steps read zeros.
    void read(const Steps& steps) {
        const int vectors = vectors_of<Real>(steps.count);
        const Real* const zeros = memory_.zeros.data();
        Real *const h = memory_.input.data(), *const product = h + H_ * LANES, *const q = memory_.query.data();
        const Rows<Real> states(steps.count, zeros,
                                [&](int lane) { return p_.state(steps.row[lane], steps.step[lane]); });
        const Rows<Real> queries(steps.count, zeros, [&](int lane) { return query(steps.row[lane]); });
        to_lanes(states.at, H_, vectors, h);
        to_lanes(queries.at, H_, vectors, q);
        for_each_vector<Real>(H_, vectors, [&](int64_t i) { store<Real>(product + i, load(h + i) * load(q + i)); });
    }

    // To units[0], whose lanes beside the steps mean nothing.
    void run_first_layer(const Steps& steps) {
        const int vectors = vectors_of<Real>(steps.count);
        const Rows<Real> terms(steps.count, memory_.zeros.data(),
                               [&](int lane) { return memory_.terms[steps.row[lane] - first_]; });
        Real* const units = memory_.net.units[0].data();
        to_lanes(terms.at, units_, vectors, units);
        weights_.step.multiply({memory_.input.data(), LANES}, {units, LANES}, vectors, true);
    }

    void differentiate_first_layer(const Steps& steps, const AttentionGradients<Real>& gradients,
                                   const WeightSums<Real>* sums) {
        const int vectors = vectors_of<Real>(steps.count);
        const Real* const d = memory_.net.d_units[0].data();
        if (gradients.query || sums) {
            const Matrix<const Real> rows = memory_.net.rows.of(d, units_, steps.count);
            for (int lane = 0; lane < steps.count; ++lane) {
                memory_.d_terms.add(steps.row[lane] - first_, memory_.net.rows.at[lane]);
            }
            if (sums) {
                multiply_lanes<Real>(memory_.input.data(), rows, (*sums)[p_.net.layers + 1], 2 * H_, steps.count,
                                     vectors_of<Real>(units_), true);
            }
        }
        if (!gradients.query && !gradients.states) return;
        Real *const d_h = memory_.d_input.data(), *const d_product = d_h + H_ * LANES;
        const Real *const h = memory_.input.data(), *const q = memory_.query.data();
        weights_.d_step.multiply({d, LANES}, {d_h, LANES}, vectors);
        for_each_vector<Real>(H_, vectors, [&](int64_t i) {
            const Vector<Real> d_qh = load(d_product + i);
            store<Real>(d_h + i, load(d_h + i) + load(q + i) * d_qh);
            store<Real>(d_product + i, load(h + i) * d_qh);
        });
        if (gradients.states) {
            Real* rows[LANES];
            for (int lane = 0; lane < steps.count; ++lane) rows[lane] = gradients.states + steps.step[lane] * H_;
            from_lanes(d_h, H_, steps.count, rows);
        }
        if (gradients.query) {
            memory_.d_query_rows.of(d_product, H_, steps.count);
            for (int lane = 0; lane < steps.count; ++lane) {
                memory_.d_query.add(steps.row[lane] - first_, memory_.d_query_rows.at[lane]);
            }
        }
    }

    // From the gradients of rows' terms.
    void differentiate_terms(int64_t first, int64_t last, const AttentionGradients<Real>& gradients,
                             const WeightSums<Real>* sums) {
        if (!gradients.query && !sums) return;
        for_each_group(first, last, [&](int64_t group, int count) {
            const Matrix<const Real> d_rows = {memory_.d_terms[group - first], memory_.d_terms.stride};
            if (sums) {
                multiply_lanes<Real>(memory_.query.data(), d_rows, (*sums)[p_.net.layers], H_ + 1, count,
                                     vectors_of<Real>(units_), true);
            }
            if (!gradients.query) return;
            Real *const d = memory_.net.d_units[0].data(), *const d_q = memory_.d_input.data();
            const Rows<Real> d_terms(count, memory_.zeros.data(),
                                     [&](int lane) { return memory_.d_terms[group - first + lane]; });
            to_lanes(d_terms.at, units_, vectors_of<Real>(count), d);
            weights_.d_query.multiply({d, LANES}, {d_q, LANES}, vectors_of<Real>(count));
            memory_.d_query_rows.of(d_q, H_, count);
            for (int lane = 0; lane < count; ++lane) {
                const int64_t row = group + lane;
                memory_.d_query.add(row - first, memory_.d_query_rows.at[lane]);
                std::copy_n(memory_.d_query[row - first], H_, gradients.query + row * H_);
            }
        });
    }

    const Real* query(int64_t row) const { return p_.query + row * H_; }

    const AttentionProblem<Real>& p_;
    const AttentionWeights<Real>& weights_;
    AttentionMemory<Real>& memory_;
    const int64_t H_, units_, number_;
    int64_t first_ = 0;  // row of those at once
    int64_t block_ = 0;  // of steps in lanes
};

// Calls work(part, begin, end) for the rows of every part.
template <class Real, class Work>
void for_each_attention_part(const AttentionProblem<Real>& p, int64_t parts, Work work) {
    const AttentionWeights<Real> weights(p);
    std::vector<AttentionMemory<Real>> memory;
    for (int64_t i = 0; i < p.threads; ++i) memory.emplace_back(p);
    std::vector<WeightSums<double>> sums = activation_sums(p.net, parts);
    for_each_part(parts, p.threads, [&](int64_t number) {
        if (!sums.empty()) memory[worker()].net.sums = &sums[number];
        AttentionPart<Real> part(p, weights, memory[worker()], number);
        work(part, number, p.first_row(number, parts), p.first_row(number + 1, parts));
    });
    write_activation_sums(p.net, sums, p.threads);
}

template <class Real>
void attention_scores(const AttentionProblem<Real>& p, Real* scores) {
    const int64_t parts = p.parts(false);
    for_each_attention_part(p, parts, [&](AttentionPart<Real>& part, int64_t, int64_t begin, int64_t end) {
        part.scores(begin, end, scores);
    });
}

template <class Real>
void write_first_layer(const AttentionProblem<Real>& p, const WeightSums<Real>& sums, const NetGradients<Real>& to) {
    const Matrix<Real> of_query = sums[p.net.layers], of_state = sums[p.net.layers + 1];
    const Real* const of_product = of_state.first + p.size * of_state.stride;
    for (int64_t m = 0; m < p.net.units[0]; ++m) {
        Real* const weight = to.weights[0] + m * 4 * p.size;
        for (int64_t k = 0; k < p.size; ++k) {
            const Real d_query = of_query.first[k * of_query.stride + m];
            const Real d_state = of_state.first[k * of_state.stride + m];
            weight[k] = d_query;
            weight[p.size + k] = d_state;
            weight[2 * p.size + k] = d_query - d_state;
            weight[3 * p.size + k] = of_product[k * of_state.stride + m];
        }
        to.biases[0][m] = of_query.first[p.size * of_query.stride + m];
    }
}

template <class Real>
void attention_gradients(const AttentionProblem<Real>& p, const Real* d_scores,
                         const AttentionGradients<Real>& gradients) {
    const std::vector<Shape> shapes = p.shapes();
    const bool wanted = gradients.net.weights;
    const int64_t parts = p.parts(wanted);
    std::vector<WeightSums<Real>> sums;
    for (int64_t i = 0; wanted && i < parts; ++i) sums.emplace_back(shapes);
    for_each_attention_part(p, parts, [&](AttentionPart<Real>& part, int64_t number, int64_t begin, int64_t end) {
        part.gradients(begin, end, d_scores, gradients, wanted ? &sums[number] : nullptr);
    });
    if (!wanted) return;
    const WeightSums<Real>& total = WeightSums<Real>::total(sums, p.threads);
    if (p.net.from_input()) write_first_layer(p, total, gradients.net);
    write_gradients(p.net, total, gradients.net);
}

}  // namespace

extern "C" {

#define FOR_TYPE(Real)                                                                                             \
    int attention_blocks_##Real(const AttentionProblem<Real>* problem, int64_t* blocks) {                          \
        return reported([&] { *blocks = problem->blocks(); });                                                     \
    }                                                                                                              \
    int attention_forward_##Real(const AttentionProblem<Real>* problem, Real* scores) {                            \
        return reported([&] { attention_scores(*problem, scores); });                                              \
    }                                                                                                              \
    int attention_backward_##Real(const AttentionProblem<Real>* problem, const Real* d_scores,                     \
                                  const AttentionGradients<Real>* gradients) {                                     \
        return reported([&] { attention_gradients(*problem, d_scores, *gradients); });                             \
    }

FOR_TYPE(float)
FOR_TYPE(double)
}
