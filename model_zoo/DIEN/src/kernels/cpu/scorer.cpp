// The whole forward pass of one user and any number of candidates, for native_scorer.py: look-ups, extraction, attention,
// evolution, MLP. Weights are packed once; candidates go through all of it LANES at a time, so that what lies between the
// layers stays in the first caches.
#include "scorer.h"

#include <deque>

#include "scorer_evolution.h"
#include "scorer_profile.h"
#include "status.h"

namespace {

template <class Real>
bool has(const Feature<Real>& feature, int64_t id) {
    return 0 <= id && id < feature.rows;
}

// Whether every id that is looked up has a row.
template <class Real>
bool ids_exist(const ScorerWeights<Real>& p, const Request<Real>& request) {
    for (int64_t i = 0; i < p.profile; ++i) {
        const Column<Real>& column = request.columns[i];
        if (!p.of_features[i].rows) continue;
        const auto exists = [&](int64_t id) { return has(p.of_features[i], id); };
        if (!std::all_of(column.ids, column.ids + column.count, exists)) return false;
    }
    for (int64_t s = 0; s < p.sequences; ++s) {
        const SequenceWeights<Real>& sequence = p.of_sequences[s];
        const Column<Real>& first = request.columns[sequence.behaviour_features[0]];
        for (int64_t t = 0; t < first.count; ++t) {
            if (!UserInterests<Real>::is_real(first.ids[t])) continue;
            for (int64_t i = 0; i < sequence.behaviours; ++i) {
                const int64_t number = sequence.behaviour_features[i];
                if (!has(p.of_features[number], request.columns[number].ids[t])) return false;
            }
        }
    }
    return true;
}

// One sequence, with its share of the MLP's first layer.
template <class Real>
struct Sequence {
    const SequenceWeights<Real> p;
    UserInterests<Real> interests;
    CandidateEvolution<Real> evolution;
    Packed<Real> of_final, of_pooled, of_product;
    Buffer<Real> targets, lanes;  // [e_a, 1]; what sum pooling adds

    template <class At>
    Sequence(const ScorerWeights<Real>& w, const SequenceWeights<Real>& p, int64_t first, At weight)
        : p(p), interests(w.of_features, p), evolution(p),
          of_final(w.mlp.units[0], p.hidden, [&](int64_t m, int64_t k) { return weight(m, first + k); }),
          of_pooled(w.mlp.units[0], w.sum_pooling ? p.size : 0,
                    [&](int64_t m, int64_t k) { return weight(m, first + p.hidden + k); }),
          of_product(w.mlp.units[0], w.sum_pooling ? p.size : 0,
                     [&](int64_t m, int64_t k) { return weight(m, first + p.hidden + p.size + k); }),
          targets((p.target_size + 1) * LANES), lanes(p.size * LANES) {
        std::fill_n(targets.data() + p.target_size * LANES, LANES, Real(1));
    }

    void gather_targets(const Profile<Real>& profile) {
        Real* to = targets.data();
        for (int64_t i = 0; i < p.targets; ++i) {
            const int64_t feature = p.target_features[i];
            to = std::copy_n(profile[feature], profile.size(feature) * LANES, to);
        }
    }
};

template <class Real>
class Scorer {
public:
    explicit Scorer(const ScorerWeights<Real>& p)
        : p_(p), units_(p.mlp.units[0]), profile_(p), net_(p.mlp), memory_(p.mlp), term_(units_ * LANES) {
        int64_t inputs = 0;
        for (int64_t i = 0; i < p.profile; ++i) inputs += p.of_features[i].size;
        for (int64_t s = 0; s < p.sequences; ++s) inputs += inputs_of(p.of_sequences[s]);
        const auto weight = [&](int64_t m, int64_t k) { return p.mlp.weights[0][m * inputs + k]; };
        int64_t first = 0;
        for (int64_t s = 0; s < p.sequences; ++s) {
            sequences_.emplace_back(p, p.of_sequences[s], first, weight);
            first += inputs_of(p.of_sequences[s]);
        }
        for (int64_t i = 0; i < p.profile; ++i) {
            const int64_t size = p.of_features[i].size;
            of_features_.emplace_back(units_, size, [&](int64_t m, int64_t k) { return weight(m, first + k); });
            first += size;
        }
    }

    int score(const Request<Real>& request, Real* scores) {
        if (!ids_exist(p_, request)) return BAD_ID;
        begin(request);
        for (int64_t first = 0; first < request.candidates; first += LANES) {
            const int count = static_cast<int>(std::min<int64_t>(LANES, request.candidates - first));
            profile_.read(first, count);
            run(vectors_of<Real>(count));
            std::copy_n(memory_.output.data(), count, scores + first);
        }
        return OK;
    }

private:
    int64_t inputs_of(const SequenceWeights<Real>& sequence) const {
        return sequence.hidden + (p_.sum_pooling ? 2 * sequence.size : 0);
    }

    // All that is the user's alone, and its share of the MLP's first layer, the same in all lanes of a vector.
    void begin(const Request<Real>& request) {
        Real* const term = term_.data();
        for (int64_t m = 0; m < units_; ++m) store<Real>(term + m * LANES, all<Real>(p_.mlp.biases[0][m]));
        profile_.begin(request.columns);
        for (int64_t i = 0; i < profile_.count(); ++i) {
            if (profile_.is_user(i)) of_features_[i].multiply({profile_[i], LANES}, {term, LANES}, 1, true);
        }
        for (Sequence<Real>& sequence : sequences_) {
            sequence.interests.extract(request.columns);
            sequence.evolution.begin(sequence.interests);
            if (!p_.sum_pooling) continue;
            Real* const pooled = sequence.lanes.data();
            for (int64_t k = 0; k < sequence.p.size; ++k) {
                store<Real>(pooled + k * LANES, all<Real>(sequence.interests.pooled()[k]));
            }
            sequence.of_pooled.multiply({pooled, LANES}, {term, LANES}, 1, true);
        }
    }

    // The candidates of a block, to memory_.output.
    void run(int vectors) {
        Real* const units = memory_.units[0].data();
        for_each_vector<Real>(units_, vectors,
                              [&](int64_t i) { store<Real>(units + i, load(term_.data() + i / LANES * LANES)); });
        for (Sequence<Real>& sequence : sequences_) {
            sequence.gather_targets(profile_);
            const Real* const target = sequence.targets.data();
            const Real* const final = sequence.evolution.run(target, vectors);
            sequence.of_final.multiply({final, LANES}, {units, LANES}, vectors, true);
            if (!p_.sum_pooling) continue;
            const Real* const pooled = sequence.interests.pooled();
            Real* const product = sequence.lanes.data();
            for_each_vector<Real>(sequence.p.size, vectors, [&](int64_t i) {
                store<Real>(product + i, pooled[i / LANES] * load(target + i));
            });
            sequence.of_product.multiply({product, LANES}, {units, LANES}, vectors, true);
        }
        for (int64_t i = 0; i < profile_.count(); ++i) {
            if (!profile_.is_user(i)) of_features_[i].multiply({profile_[i], LANES}, {units, LANES}, vectors, true);
        }
        run_net(p_.mlp, net_, vectors, memory_);
    }

    const ScorerWeights<Real> p_;
    const int64_t units_;
    Profile<Real> profile_;
    std::deque<Sequence<Real>> sequences_;
    std::vector<Packed<Real>> of_features_;
    const NetWeights<Real> net_;
    NetMemory<Real> memory_;
    Buffer<Real> term_;
};

}  // namespace

extern "C" {

// The scorer keeps pointers into weights. It runs in one thread at a time.
int scorer_make_float(const ScorerWeights<float>* weights, void** scorer) {
    return reported([&] { *scorer = new Scorer<float>(*weights); });
}

int scorer_free_float(void* scorer) {
    delete static_cast<Scorer<float>*>(scorer);
    return OK;
}

int scorer_score_float(void* scorer, const Request<float>* request, float* scores) {
    int status = OK;
    const int memory = reported([&] { status = static_cast<Scorer<float>*>(scorer)->score(*request, scores); });
    return memory == OK ? status : memory;
}
}
