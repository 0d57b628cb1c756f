// Compiled once for all nets.
#include "net.h"

#include "functions.h"

template <class Real>
void activate(const Activation<Real>& activation, int64_t size, int vectors, Real* lanes) {
    const auto every = [&](auto act) {
        for (int64_t unit = 0; unit < size; ++unit) {
            Real* const at = lanes + unit * LANES;
            for_each_vector<Real>(1, vectors, [&](int64_t i) { store<Real>(at + i, act(load(at + i), unit)); });
        }
    };
    switch (activation.kind) {
        case SIGMOID: every([](Vector<Real> x, int64_t) { return sigmoid<Real>(x); }); break;
        case RELU: every([](Vector<Real> x, int64_t) { return x < Real(0) ? Vector<Real>{} : x; }); break;
        case TANH: every([](Vector<Real> x, int64_t) { return tanh<Real>(x); }); break;
        case PRELU:
            every([&](Vector<Real> x, int64_t unit) { return x < Real(0) ? activation.slope[unit] * x : x; });
            break;
        case DICE:
            every([&](Vector<Real> x, int64_t unit) {
                const Vector<Real> p = sigmoid<Real>(activation.scale[unit] * x + activation.shift[unit]);
                const Real alpha = activation.slope[unit];
                return x * (alpha + (Real(1) - alpha) * p);
            });
            break;
        default: break;
    }
}

namespace {

// From the gradient of activations, in place, to that of pre-activations.
template <class Real>
void differentiate(int64_t kind, int64_t size, int vectors, const Real* activations, Real* d) {
    if (kind == SIGMOID) {
        for_each_vector<Real>(size, vectors, [&](int64_t i) {
            const Vector<Real> a = load(activations + i);
            store<Real>(d + i, load(d + i) * a * (Real(1) - a));
        });
    } else {
        for_each_vector<Real>(size, vectors, [&](int64_t i) {
            store<Real>(d + i, load(activations + i) > Real(0) ? load(d + i) : Vector<Real>{});
        });
    }
}

}  // namespace

template <class Real>
void run_net(const Net<Real>& net, const NetWeights<Real>& weights, int vectors, NetMemory<Real>& memory) {
    for (int64_t layer = 0; layer < net.layers; ++layer) {
        Real* const units = memory.units[layer].data();
        activate(net.activations[layer], net.units[layer], vectors, units);
        Real* const next = layer + 1 < net.layers ? memory.units[layer + 1].data() : memory.output.data();
        weights.forward[layer].multiply({units, LANES}, {next, LANES}, vectors);
    }
    activate(net.activations[net.layers], 1, vectors, memory.output.data());
}

template <class Real>
void differentiate_net(const Net<Real>& net, const NetWeights<Real>& weights, int count, NetMemory<Real>& memory,
                       const WeightSums<Real>* sums) {
    const int vectors = vectors_of<Real>(count);
    const Real* d = memory.output.data();
    for (int64_t layer = net.layers; layer > 0; --layer) {
        const Real* const units = memory.units[layer - 1].data();
        const int64_t inputs = net.units[layer - 1];
        if (sums && layer == net.layers) {
            Real* const sum = (*sums)[layer - 1].first;
            for (int64_t i = 0; i <= inputs; ++i) {
                for (int v = 0; v < vectors; ++v) {
                    const int64_t lane = v * WIDTH<Real>;
                    const Vector<Real> product = load(d + lane) * load(units + i * LANES + lane);
                    store<Real>(sum + i * WIDTH<Real>, load(sum + i * WIDTH<Real>) + product);
                }
            }
        } else if (sums) {
            multiply_lanes<Real>(units, memory.rows.of(d, net.units[layer], count), (*sums)[layer - 1], inputs + 1,
                                 count, vectors_of<Real>(net.units[layer]), true);
        }
        Real* const before = memory.d_units[layer - 1].data();
        weights.backward[layer - 1].multiply({d, LANES}, {before, LANES}, vectors);
        differentiate(net.activations[layer - 1].kind, inputs, vectors, units, before);
        d = before;
    }
}

template <class Real>
void write_gradients(const Net<Real>& net, const WeightSums<Real>& sums, const NetGradients<Real>& gradients) {
    for (int64_t layer = 1; layer <= net.layers; ++layer) {
        const int64_t inputs = net.units[layer - 1], outputs = layer < net.layers ? net.units[layer] : 1;
        const Matrix<Real> sum = sums[layer - 1];
        if (layer == net.layers) {  // a vector a row: its lanes are yet to be added
            for (int64_t k = 0; k <= inputs; ++k) {
                for (int i = 1; i < WIDTH<Real>; ++i) sum.first[k * sum.stride] += sum.first[k * sum.stride + i];
            }
        }
        write_transposed<Real>({sum.first, sum.stride}, inputs, outputs, {gradients.weights[layer], inputs});
        std::copy_n(sum.first + inputs * sum.stride, outputs, gradients.biases[layer]);
    }
}

#define FOR_TYPE(Real)                                                                                             \
    template void activate(const Activation<Real>&, int64_t, int, Real*);                                          \
    template void run_net(const Net<Real>&, const NetWeights<Real>&, int, NetMemory<Real>&);                       \
    template void differentiate_net(const Net<Real>&, const NetWeights<Real>&, int, NetMemory<Real>&,              \
                                    const WeightSums<Real>*);                                                      \
    template void write_gradients(const Net<Real>&, const WeightSums<Real>&, const NetGradients<Real>&);

FOR_TYPE(float)
FOR_TYPE(double)
