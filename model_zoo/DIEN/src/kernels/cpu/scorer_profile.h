// Embeddings of what has one value a row, in lanes: the user's once a request, the candidates' a block at a time.
#pragma once

#include <vector>

#include "scorer.h"

template <class Real>
class Profile {
public:
    explicit Profile(const ScorerWeights<Real>& p) : features_(p.of_features, p.of_features + p.profile) {
        int64_t widest = 0, size = 0;
        for (const Feature<Real>& feature : features_) {
            begin_.push_back(size);
            size += feature.size;
            widest = std::max(widest, feature.size);
        }
        lanes_ = Buffer<Real>(size * LANES);
        row_ = Buffer<Real>(widest);
    }

    int64_t count() const { return static_cast<int64_t>(features_.size()); }
    bool is_user(int64_t feature) const { return columns_[feature].is_user; }
    int64_t size(int64_t feature) const { return features_[feature].size; }
    const Real* operator[](int64_t feature) const { return lanes_.data() + begin_[feature] * LANES; }

    void begin(const Column<Real>* columns) {
        columns_ = columns;
        for (int64_t i = 0; i < count(); ++i) {
            if (!is_user(i)) continue;
            const Real* const row = user_row(features_[i], columns[i]);
            const Rows<Real> rows(LANES, row, [&](int) { return row; });
            to_lanes(rows.at, size(i), vectors_of<Real>(LANES), lanes(i));
        }
    }

    void read(int64_t first, int count_of_lanes) {
        const int vectors = vectors_of<Real>(count_of_lanes);
        for (int64_t i = 0; i < count(); ++i) {
            const Feature<Real>& feature = features_[i];
            if (is_user(i)) continue;
            if (feature.rows) {
                const int64_t* const ids = columns_[i].ids + first;
                const Rows<Real> rows(count_of_lanes, feature.table,
                                      [&](int lane) { return feature.table + ids[lane] * feature.size; });
                to_lanes(rows.at, feature.size, vectors, lanes(i));
            } else {
                for (int64_t k = 0; k < feature.size; ++k) {
                    for (int lane = 0; lane < count_of_lanes; ++lane) {
                        lanes(i)[k * LANES + lane] = feature.table[k] * columns_[i].numbers[first + lane];
                    }
                }
            }
        }
    }

private:
    Real* lanes(int64_t feature) { return lanes_.data() + begin_[feature] * LANES; }

    const Real* user_row(const Feature<Real>& feature, const Column<Real>& column) {
        if (feature.rows && feature.pooling == NOT_POOLED) return feature.table + *column.ids * feature.size;
        Real* const row = row_.data();
        if (!feature.rows) {
            for (int64_t k = 0; k < feature.size; ++k) row[k] = feature.table[k] * *column.numbers;
            return row;
        }
        std::fill_n(row, feature.size, Real(0));
        Real steps = 0;  // the zoo's mean is over the steps whose embeddings do not sum to 0
        for (int64_t t = 0; t < column.count; ++t) {
            const Real* const from = feature.table + column.ids[t] * feature.size;
            Real sum = 0;
            for (int64_t k = 0; k < feature.size; ++k) row[k] += from[k], sum += from[k];
            steps += sum != 0;
        }
        if (feature.pooling == MEAN) {
            for (int64_t k = 0; k < feature.size; ++k) row[k] /= steps + Real(1e-12);
        }
        return row;
    }

    std::vector<Feature<Real>> features_;
    std::vector<int64_t> begin_;
    Buffer<Real> lanes_{0}, row_{0};
    const Column<Real>* columns_ = nullptr;
};
