// Compiled once for all nets.
#include "net.h"

#include <numeric>

#include "functions.h"

template <class Real>
void activate(const Activation<Real>& activation, int64_t size, int vectors, Real* lanes, Real* p) {
    const auto every = [&](auto act) {
        for (int64_t unit = 0; unit < size; ++unit) {
            Real* const at = lanes + unit * LANES;
            for_each_vector<Real>(1, vectors, [&](int64_t i) { store<Real>(at + i, act(load(at + i), unit, i)); });
        }
    };
    switch (activation.kind) {
        case SIGMOID: every([](Vector<Real> x, int64_t, int64_t) { return sigmoid<Real>(x); }); break;
        case RELU: every([](Vector<Real> x, int64_t, int64_t) { return x < Real(0) ? Vector<Real>{} : x; }); break;
        case TANH: every([](Vector<Real> x, int64_t, int64_t) { return tanh<Real>(x); }); break;
        case PRELU:
            every([&](Vector<Real> x, int64_t unit, int64_t) { return x < Real(0) ? activation.slope[unit] * x : x; });
            break;
        case DICE:
            every([&](Vector<Real> x, int64_t unit, int64_t i) {
                const Vector<Real> share = sigmoid<Real>(activation.scale[unit] * x + activation.shift[unit]);
                const Real alpha = activation.slope[unit];
                if (p) store<Real>(p + unit * LANES + i, share);
                return x * (alpha + (Real(1) - alpha) * share);
            });
            break;
        default: break;
    }
}

namespace {

// Calls to(part) for the numbers of a vector in double precision, in parts of whole vectors.
template <class Real, class To>
inline void widened(Vector<Real> x, To to) {
    if constexpr (std::is_same_v<Real, double>) {
        to(x);
    } else {
        typedef float Half __attribute__((vector_size(VECTOR_BYTES / 2)));
        Half halves[2];
        __builtin_memcpy(halves, &x, sizeof x);
        to(__builtin_convertvector(halves[0], Vector<double>));
        to(__builtin_convertvector(halves[1], Vector<double>));
    }
}

inline void add(double* sum, Vector<double> x) { store<double>(sum, load(sum) + x); }

template <class Real>
inline void add_widened(double* sum, Vector<Real> x) {
    widened<Real>(x, [&](Vector<double> part) { add(sum, part); });
}

template <class Real>
void multiply_by(const Buffer<Real>& masks, int64_t size, int vectors, Real* lanes) {
    for_each_vector<Real>(size, vectors, [&](int64_t i) { store<Real>(lanes + i, load(lanes + i) * load(masks.data() + i)); });
}

// From the gradient of what a layer passes on, in place, to that of pre-activations; with Dice, as far as a row's own loss
// tells.
template <class Real>
void differentiate(const Net<Real>& net, int64_t layer, int vectors, NetMemory<Real>& memory, Real* d) {
    const Activation<Real>& activation = net.activations[layer];
    const int64_t size = net.units[layer];
    const Real *const after = memory.units[layer].data(), *const before = memory.before[layer].data();
    const auto every = [&](auto change) {
        for (int64_t unit = 0; unit < size; ++unit) {
            for_each_vector<Real>(1, vectors, [&](int64_t lane) {
                const int64_t i = unit * LANES + lane;
                store<Real>(d + i, change(load(d + i), i, unit));
            });
        }
    };
    const auto sum = [&](int64_t number, int64_t unit) {
        return (*memory.sums)[layer].first + (number * size + unit) * WIDTH<double>;
    };
    if (activation.dropped) multiply_by(memory.masks[layer], size, vectors, d);
    switch (activation.kind) {
        case SIGMOID: {
            const Real of_kept = Real(MASK_VALUES - activation.dropped) / Real(MASK_VALUES);
            every([&](Vector<Real> g, int64_t i, int64_t) {
                const Vector<Real> a = of_kept * load(after + i);  // dropped ones have no gradient
                return g * a * (Real(1) - a);
            });
            break;
        }
        case RELU:
            every([&](Vector<Real> g, int64_t i, int64_t) { return load(after + i) > Real(0) ? g : Vector<Real>{}; });
            break;
        case PRELU:
            every([&](Vector<Real> g, int64_t i, int64_t unit) {
                const Vector<Real> x = load(before + i);
                add_widened<Real>(sum(2, unit), x > Real(0) ? Vector<Real>{} : g * x);
                return x > Real(0) ? g : activation.slope[unit] * g;
            });
            break;
        default: {  // DICE
            const Real* const p = memory.p[layer].data();
            every([&](Vector<Real> g, int64_t i, int64_t unit) {
                const Vector<Real> x = load(before + i), share = load(p + i);
                const Real alpha = activation.slope[unit];
                const Vector<Real> of_slope = g * x * (Real(1) - share);
                const Vector<Real> of_normal = of_slope * share * (Real(1) - alpha);
                add_widened<Real>(sum(0, unit), of_normal);
                add_widened<Real>(sum(1, unit), of_normal * x);
                add_widened<Real>(sum(2, unit), of_slope);
                return g * (alpha + (Real(1) - alpha) * share) + activation.scale[unit] * of_normal;
            });
        }
    }
}

// Where the numbers of a block lie among those of all.
template <class Real>
int64_t place(const Net<Real>& net, int64_t layer, const NetMemory<Real>& memory) {
    return memory.block * net.units[layer] * LANES;
}

// Up to the activations before the last pre-activations.
template <class Real>
void run_layers(const Net<Real>& net, const NetWeights<Real>& weights, int vectors, NetMemory<Real>& memory) {
    if (!net.from_input()) {
        const Real* const kept = net.activations[net.begin].kept + place(net, net.begin, memory);
        std::copy_n(kept, net.units[net.begin] * LANES, memory.units[net.begin].data());
    }
    for (int64_t layer = net.first(); layer < net.end; ++layer) {
        const Activation<Real>& activation = net.activations[layer];
        Real* const units = memory.units[layer].data();
        if (activation.sums) std::copy_n(units, net.units[layer] * LANES, memory.before[layer].data());
        activate(activation, net.units[layer], vectors, units,
                 activation.sums && activation.kind == DICE ? memory.p[layer].data() : nullptr);
        if (activation.dropped) {
            Buffer<Real>& masks = memory.masks[layer];
            draw_masks(activation.key, activation.dropped, memory.elements, net.units[layer], masks.data());
            multiply_by(masks, net.units[layer], vectors, units);
        }
        if (layer + 1 < net.end) {
            weights.forward[layer].multiply({units, LANES}, {memory.units[layer + 1].data(), LANES}, vectors);
        }
    }
}

// Keeps pre-activations, and adds to their sums.
template <class Real>
void keep(const Net<Real>& net, int vectors, NetMemory<Real>& memory) {
    const Activation<Real>& activation = net.activations[net.end];
    const int64_t size = net.units[net.end];
    const Real* const units = memory.units[net.end].data();
    Real* const kept = activation.kept + place(net, net.end, memory);
    double* const sums = (*memory.sums)[net.end].first;
    for (int64_t unit = 0; unit < size; ++unit) {
        double *const sum = sums + unit * WIDTH<double>, *const square = sum + size * WIDTH<double>;
        for_each_vector<Real>(1, vectors, [&](int64_t lane) {
            const Vector<Real> x = load(units + unit * LANES + lane);
            store<Real>(kept + unit * LANES + lane, x);
            widened<Real>(load(memory.counts.data() + lane) != Real(0) ? x : Vector<Real>{}, [&](Vector<double> part) {
                add(sum, part);
                add(square, part * part);
            });
        });
    }
}

template <class Real>
void run_output(const Net<Real>& net, const NetWeights<Real>& weights, int vectors, NetMemory<Real>& memory) {
    weights.forward[net.layers - 1].multiply({memory.units[net.layers - 1].data(), LANES},
                                             {memory.output.data(), LANES}, vectors);
    activate(net.activations[net.layers], 1, vectors, memory.output.data());
}

}  // namespace

template <class Real>
void run_net(const Net<Real>& net, const NetWeights<Real>& weights, int vectors, NetMemory<Real>& memory) {
    run_layers(net, weights, vectors, memory);
    if (net.to_output()) {
        run_output(net, weights, vectors, memory);
    } else {
        if (net.end > 0) {
            weights.forward[net.end - 1].multiply({memory.units[net.end - 1].data(), LANES},
                                                  {memory.units[net.end].data(), LANES}, vectors);
        }
        keep(net, vectors, memory);
    }
}

template <class Real>
void run_net_again(const Net<Real>& net, const NetWeights<Real>& weights, int vectors, NetMemory<Real>& memory) {
    run_layers(net, weights, vectors, memory);
    if (net.to_output()) return run_output(net, weights, vectors, memory);
    const Activation<Real>& activation = net.activations[net.end];
    const Real* const kept = activation.kept + place(net, net.end, memory);
    const Real* const d_kept = activation.d_kept + place(net, net.end, memory);
    Real* const d = memory.d_units[net.end].data();
    for (int64_t unit = 0; unit < net.units[net.end]; ++unit) {
        for_each_vector<Real>(1, vectors, [&](int64_t lane) {
            const int64_t i = unit * LANES + lane;
            const Vector<Real> of_batch = activation.d_scale[unit] * load(kept + i) + activation.d_shift[unit];
            store<Real>(d + i, load(memory.counts.data() + lane) != Real(0) ? load(d_kept + i) + of_batch : Vector<Real>{});
        });
    }
}

template <class Real>
void differentiate_net(const Net<Real>& net, const NetWeights<Real>& weights, int count, NetMemory<Real>& memory,
                       const WeightSums<Real>* sums) {
    const int vectors = vectors_of<Real>(count);
    const Real* d = net.to_output() ? memory.output.data() : memory.d_units[net.end].data();
    for (int64_t layer = net.end; layer > net.first(); --layer) {
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
        differentiate(net, layer - 1, vectors, memory, before);
        d = before;
    }
    if (!net.from_input()) {
        std::copy_n(d, net.units[net.begin] * LANES, net.activations[net.begin].d_kept + place(net, net.begin, memory));
    }
}

template <class Real>
void write_gradients(const Net<Real>& net, const WeightSums<Real>& sums, const NetGradients<Real>& gradients) {
    for (int64_t layer = net.first() + 1; layer <= net.end; ++layer) {
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

template <class Real>
void write_activation_sums(const Net<Real>& net, std::vector<WeightSums<double>>& sums, int64_t threads) {
    if (sums.empty()) return;
    const WeightSums<double>& total = WeightSums<double>::total(sums, threads);
    for (int64_t layer = 0; layer < net.layers; ++layer) {
        double* const to = net.activations[layer].sums;
        for (int64_t i = 0; to && i < 3 * net.units[layer]; ++i) {
            const double* const lanes = total[layer].first + i * WIDTH<double>;
            to[i] = std::accumulate(lanes, lanes + WIDTH<double>, to[i]);
        }
    }
}

#define FOR_TYPE(Real)                                                                                             \
    template void activate(const Activation<Real>&, int64_t, int, Real*, Real*);                                         \
    template void run_net(const Net<Real>&, const NetWeights<Real>&, int, NetMemory<Real>&);                       \
    template void run_net_again(const Net<Real>&, const NetWeights<Real>&, int, NetMemory<Real>&);                 \
    template void differentiate_net(const Net<Real>&, const NetWeights<Real>&, int, NetMemory<Real>&,              \
                                    const WeightSums<Real>*);                                                      \
    template void write_gradients(const Net<Real>&, const WeightSums<Real>&, const NetGradients<Real>&);           \
    template void write_activation_sums(const Net<Real>&, std::vector<WeightSums<double>>&, int64_t);

FOR_TYPE(float)
FOR_TYPE(double)
