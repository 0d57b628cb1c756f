// A net of hidden layers and one output behind its first pre-activation, which each net makes in its own way. Steps lie
// in lanes.
#pragma once

#include <vector>

#include "dropout.h"
#include "lanes.h"
#include "product.h"
#include "threads.h"
#include "weight_sums.h"

enum ActivationKind : int64_t { NONE, SIGMOID, RELU, TANH, PRELU, DICE };  // mirrored by layout.py

// What follows a layer; its numbers are one a unit, null where the kind has none. Mirrored by net.py.
template <class Real>
struct Activation {
    int64_t kind;
    const Real* slope;  // of PReLU for x < 0, and Dice's alpha
    const Real* scale;  // of Dice: p = sigmoid(scale x + shift)
    const Real* shift;
    // Null but in training. Of Dice whose statistics are those of the batch: the pre-activations x of all blocks, and
    // their gradients as far as a row's own loss tells; the statistics add d_scale x + d_shift.
    Real* kept;
    Real* d_kept;
    const Real* d_scale;
    const Real* d_shift;
    // (3, units), added to: in a forward pass that ends here, the sums of x and x^2; in the backward pass, with g the
    // gradient of scale x + shift, those of g and g x, and the gradient of the slope.
    double* sums;
    // Of dropout behind the activation, in training.
    int64_t key;
    int64_t dropped;  // of MASK_VALUES; 0 where there is none
};

// A pass begins with the input, or with the pre-activations of a layer, which are kept, and ends with those of a later
// layer, or with the output. Mirrored by net.py.
template <class Real>
struct Net {
    int64_t layers;  // hidden ones
    int64_t begin;   // -1: the input
    int64_t end;     // layers: the output
    const int64_t* units;                 // (layers,)
    const Activation<Real>* activations;  // (layers + 1,), the output's last
    const Real* const* weights;           // (layers + 1,): (units, inputs) each, the output's (1, units)
    const Real* const* biases;            // (layers + 1,)
    const int64_t* elements;              // of each step, for dropout; null where there is none

    bool from_input() const { return begin < 0; }
    bool to_output() const { return end == layers; }
    int64_t first() const { return std::max<int64_t>(begin, 0); }
    bool needs_first() const { return from_input() && end > 0; }  // in a backward pass: the first pre-activations

    // Of the sums of the layers behind the first, the output's last.
    std::vector<Shape> shapes() const {
        std::vector<Shape> shapes;
        for (int64_t layer = 1; layer < layers; ++layer) shapes.push_back({units[layer - 1] + 1, units[layer]});
        shapes.push_back({units[layers - 1] + 1, WIDTH<Real>});
        return shapes;
    }

    // Of the sums of the activations: a row is a vector.
    std::vector<Shape> activation_shapes() const {
        std::vector<Shape> shapes;
        for (int64_t layer = 0; layer < layers; ++layer) {
            shapes.push_back({activations[layer].sums ? 3 * units[layer] : 0, WIDTH<double>});
        }
        return shapes;
    }

    // Whether there are sums of activations. The parts of the work are then the same for all numbers of threads.
    bool has_sums() const {
        return std::any_of(activations, activations + layers, [](const auto& each) { return each.sums; });
    }

    int64_t widest() const { return *std::max_element(units, units + layers); }
};

// How many parts of the steps a pass takes.
template <class Real>
int64_t count_parts(const Net<Real>& net, int64_t steps, int64_t threads, int64_t bytes_of_sums) {
    constexpr int64_t THREADS = 8;
    return count_parts(steps, net.has_sums() ? THREADS : threads, bytes_of_sums);
}

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
    std::vector<Buffer<Real>> before;   // pre-activations of PReLU and Dice, where gradients follow
    std::vector<Buffer<Real>> p;        // of Dice
    std::vector<Buffer<Real>> masks;    // of dropout
    Elements elements = {};
    Buffer<Real> output;
    StepRows<Real> rows;
    Buffer<Real> counts;                 // of each lane: 0 where it has no step that counts
    int64_t block = 0;           // number of the steps in lanes, for what is kept
    WeightSums<double>* sums = nullptr;  // of activations, in this part

    explicit NetMemory(const Net<Real>& net) : output(LANES), rows(net.widest()), counts(LANES) {
        for (int64_t layer = 0; layer < net.layers; ++layer) {
            const int64_t size = net.units[layer], slopes = net.activations[layer].sums ? size : 0;
            units.emplace_back((size + 1) * LANES);
            d_units.emplace_back(size * LANES);
            before.emplace_back(slopes * LANES);
            p.emplace_back(net.activations[layer].kind == DICE ? slopes * LANES : 0);
            masks.emplace_back(net.activations[layer].dropped ? size * LANES : 0);
            std::fill_n(units[layer].data() + size * LANES, LANES, Real(1));
        }
    }

    // weight: of each lane, 0 where it does not count.
    void begin_block(int64_t number, const Real* weight) {
        block = number;
        std::copy_n(weight, LANES, counts.data());
    }
    void begin_block(int64_t number, int count) {
        block = number;
        for (int lane = 0; lane < LANES; ++lane) counts.data()[lane] = lane < count;
    }
};

// act(i) for the places of size numbers in lanes.
template <class Real, class Act>
inline void for_each_vector(int64_t size, int vectors, Act act) {
    for (int64_t i = 0; i < size * LANES; i += LANES) {
        for (int v = 0; v < vectors; ++v) act(i + v * WIDTH<Real>);
    }
}

// Of size units in lanes, in place. p: where Dice's is written, null where it is not asked for.
template <class Real>
void activate(const Activation<Real>& activation, int64_t size, int vectors, Real* lanes, Real* p = nullptr);

// From the pre-activations of the first hidden layer, in units[0], or from kept ones, to memory.output, or to kept ones.
template <class Real>
void run_net(const Net<Real>& net, const NetWeights<Real>& weights, int vectors, NetMemory<Real>& memory);

// The same once more, in a backward pass: where it ends with kept pre-activations, their gradients go to d_units.
template <class Real>
void run_net_again(const Net<Real>& net, const NetWeights<Real>& weights, int vectors, NetMemory<Real>& memory);

// After run_net_again, from the gradient of the output, in memory.output, or of kept pre-activations to that of the first
// ones, in d_units[0], or of kept ones. sums: null where no gradient of weights is asked for.
template <class Real>
void differentiate_net(const Net<Real>& net, const NetWeights<Real>& weights, int count, NetMemory<Real>& memory,
                       const WeightSums<Real>* sums);

// Writes the gradients of the pass's layers behind the first.
template <class Real>
void write_gradients(const Net<Real>& net, const WeightSums<Real>& sums, const NetGradients<Real>& gradients);

// Sums of activations of each part; empty where there are none.
template <class Real>
std::vector<WeightSums<double>> activation_sums(const Net<Real>& net, int64_t parts) {
    std::vector<WeightSums<double>> sums;
    for (int64_t i = 0; net.has_sums() && i < parts; ++i) sums.emplace_back(net.activation_shapes());
    return sums;
}

// Writes their total.
template <class Real>
void write_activation_sums(const Net<Real>& net, std::vector<WeightSums<double>>& sums, int64_t threads);
