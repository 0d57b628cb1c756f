// What scores one user's candidates: a model's weights, and a request.
#pragma once

#include "net.h"
#include "recurrence.h"

enum Pooling : int64_t { NOT_POOLED, SUM, MEAN };  // mirrored by layout.py

// A feature of the data set. Mirrored by native_scorer.py, as are all.
template <class Real>
struct Feature {
    int64_t rows;     // of its table; 0 of a number, whose embedding is the table's one row times it
    int64_t size;     // of its embedding
    int64_t pooling;  // over the steps of a sequence
    const Real* table;  // (rows, size)
};

// One behaviour sequence, with layers as in attentional_gru.py and attention.py.
template <class Real>
struct SequenceWeights {
    int64_t behaviours, targets;  // how many features
    int64_t size, target_size;    // of their embeddings, side by side
    int64_t hidden, kind;
    int64_t softmax;              // 0: attention is the scores
    const int64_t* behaviour_features;  // (behaviours,), by number
    const int64_t* target_features;     // (targets,)
    const Real* extractor_ih;           // (3H, size)
    const Real* extractor_hh;           // (3H, H)
    const Real* extractor_bias;         // (3H,)
    const Real* evolution_ih;           // (3H, H)
    const Real* evolution_hh;           // (3H, H)
    const Real* evolution_bias;         // (3H,)
    const Real* query_weight;           // (H, target_size); null: the query is the target
    const Real* query_bias;             // (H,), or null
    Activation<Real> query_activation;
    Net<Real> unit;  // of a state q on queries h, as in attention.h; without layers attention is q h
};

template <class Real>
struct ScorerWeights {
    int64_t features, profile, sequences;
    int64_t sum_pooling;
    const Feature<Real>* of_features;           // (features,); the profile's come first, as the MLP takes them
    const SequenceWeights<Real>* of_sequences;  // (sequences,)
    Net<Real> mlp;  // on [h', and with sum_pooling sum e, e_a * sum e, of each sequence; profile]
};

// A feature's values: of candidates, or of the user, one or those of a sequence.
template <class Real>
struct Column {
    int64_t count;
    int64_t is_user;
    const int64_t* ids;   // (count,)
    const Real* numbers;  // (count,), of numbers instead
};

template <class Real>
struct Request {
    int64_t candidates;
    const Column<Real>* columns;  // (features,)
};
