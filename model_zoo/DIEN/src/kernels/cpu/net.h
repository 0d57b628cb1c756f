// A net of hidden layers and one output behind its first pre-activation, which each net makes in its own way. Steps lie
// in lanes.
#pragma once

#include <vector>

#include "lanes.h"
#include "product.h"
#include "weight_sums.h"

enum ActivationKind : int64_t { NONE, SIGMOID, RELU, TANH, PRELU, DICE };  // mirrored by layout.py

// What follows a layer; its numbers are those of inference, one a unit, null where the kind has none. Mirrored by net.py.
template <class Real>
struct Activation {
    int64_t kind;
    const Real* slope;  // of PReLU for x < 0, and Dice's alpha
    const Real* scale;  // of Dice: p = sigmoid(scale x + shift)
    const Real* shift;
};

// Mirrored by net.py.
template <class Real>
struct Net {
    int64_t layers;  // hidden ones
    const int64_t* units;                 // (layers,)
    const Activation<Real>* activations;  // (layers + 1,), the output's last; a backward pass has SIGMOID and RELU
    const Real* const* weights;           // (layers + 1,): (units, inputs) each, the output's (1, units)
    const Real* const* biases;            // (layers + 1,)

    // Of the sums of the layers behind the first, the output's last.
    std::vector<Shape> shapes() const {
        std::vector<Shape> shapes;
        for (int64_t layer = 1; layer < layers; ++layer) shapes.push_back({units[layer - 1] + 1, units[layer]});
        shapes.push_back({units[layers - 1] + 1, WIDTH<Real>});
        return shapes;
    }

    int64_t widest() const { return *std::max_element(units, units + layers); }
};

// Gradients, as the weights and biases of a net.
template <class Real>
struct NetGradients {
    Real* const* weights;  // null where none is asked for
    Real* const* biases;
};

// The weights of the layers behind the first, the output's last.
template <class Real>
struct NetWeights {
    std::vector<Packed<Real>> forward, backward;  // [W, b], and W transposed

    explicit NetWeights(const Net<Real>& net) {
        for (int64_t layer = 1; layer <= net.layers; ++layer) {
            const int64_t outputs = layer < net.layers ? net.units[layer] : 1, inputs = net.units[layer - 1];
            const Real *const W = net.weights[layer], *const b = net.biases[layer];
            forward.emplace_back(outputs, inputs + 1,
                                 [&](int64_t m, int64_t k) { return k < inputs ? W[m * inputs + k] : b[m]; });
            backward.emplace_back(inputs, outputs, [&](int64_t m, int64_t k) { return W[k * inputs + m]; });
        }
    }
};

// Rows of steps, side by side in lanes before.
template <class Real>
struct StepRows {
    int64_t stride;
    Buffer<Real> numbers;
    Real* at[LANES];

    explicit StepRows(int64_t size) : stride(round_up(size, WIDTH<Real>)), numbers(LANES * stride) {
        for (int lane = 0; lane < LANES; ++lane) at[lane] = numbers.data() + lane * stride;
    }

    Matrix<const Real> of(const Real* lanes, int64_t size, int count) {
        from_lanes(lanes, size, count, at);
        return {numbers.data(), stride};
    }
};

// A thread's working memory of a net.
template <class Real>
struct NetMemory {
    std::vector<Buffer<Real>> units;    // of each hidden layer, [activations, 1]
    std::vector<Buffer<Real>> d_units;  // gradients of pre-activations
    Buffer<Real> output;
    StepRows<Real> rows;

    explicit NetMemory(const Net<Real>& net) : output(LANES), rows(net.widest()) {
        for (int64_t layer = 0; layer < net.layers; ++layer) {
            units.emplace_back((net.units[layer] + 1) * LANES);
            d_units.emplace_back(net.units[layer] * LANES);
            std::fill_n(units[layer].data() + net.units[layer] * LANES, LANES, Real(1));
        }
    }
};

// act(i) for the places of size numbers in lanes.
template <class Real, class Act>
inline void for_each_vector(int64_t size, int vectors, Act act) {
    for (int64_t i = 0; i < size * LANES; i += LANES) {
        for (int v = 0; v < vectors; ++v) act(i + v * WIDTH<Real>);
    }
}

// Of size units in lanes, in place.
template <class Real>
void activate(const Activation<Real>& activation, int64_t size, int vectors, Real* lanes);

// From the pre-activations of the first hidden layer, in units[0], to memory.output.
template <class Real>
void run_net(const Net<Real>& net, const NetWeights<Real>& weights, int vectors, NetMemory<Real>& memory);

// From the gradient of the output, in memory.output, to that of the first pre-activations, in d_units[0].
// sums: null where no gradient of weights is asked for.
template <class Real>
void differentiate_net(const Net<Real>& net, const NetWeights<Real>& weights, int count, NetMemory<Real>& memory,
                       const WeightSums<Real>* sums);

// Writes the gradients of the layers behind the first.
template <class Real>
void write_gradients(const Net<Real>& net, const WeightSums<Real>& sums, const NetGradients<Real>& gradients);
