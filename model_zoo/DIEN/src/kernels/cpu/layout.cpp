// What Python writes down, too: layout.py compares it name by name when it loads the library. Layouts are those of float;
// those of double are the same, as numbers lie behind pointers.
#include <cstddef>
#include <string>

#include "attention.h"
#include "auxiliary.h"
#include "candidates.h"
#include "recurrence_backward.h"
#include "scorer.h"
#include "status.h"

namespace {

struct Line {
    std::string name, value;
};

#define NUMBER(name, number) Line{name, std::to_string(number)}
#define SIZE(Struct) Line{#Struct, "size " + std::to_string(sizeof(Struct<float>))}
#define FIELD(Struct, field)                                                                       \
    Line{#Struct "." #field, "offset " + std::to_string(offsetof(Struct<float>, field)) + " size " + \
                                 std::to_string(sizeof(Struct<float>::field))}

const Line LINES[] = {
    NUMBER("LANES", LANES),
    NUMBER("NO_MEMORY", NO_MEMORY),
    NUMBER("BAD_OFFSETS", BAD_OFFSETS),
    NUMBER("BAD_ID", BAD_ID),
    NUMBER("ActivationKind.none", NONE),
    NUMBER("ActivationKind.sigmoid", SIGMOID),
    NUMBER("ActivationKind.relu", RELU),
    NUMBER("ActivationKind.tanh", TANH),
    NUMBER("ActivationKind.prelu", PRELU),
    NUMBER("ActivationKind.dice", DICE),
    NUMBER("Pooling.not pooled", NOT_POOLED),
    NUMBER("Pooling.sum", SUM),
    NUMBER("Pooling.mean", MEAN),
    NUMBER("Kind.GRU", GRU),
    NUMBER("Kind.AIGRU", AIGRU),
    NUMBER("Kind.AGRU", AGRU),
    NUMBER("Kind.AUGRU", AUGRU),
    NUMBER("Kind.AUGRU-tensorflow", AUGRU_TENSORFLOW),
    SIZE(Problem),
    FIELD(Problem, rows),
    FIELD(Problem, inputs),
    FIELD(Problem, hidden),
    FIELD(Problem, kind),
    FIELD(Problem, threads),
    FIELD(Problem, blocks),
    FIELD(Problem, rows_per_block),
    FIELD(Problem, offsets),
    FIELD(Problem, order),
    FIELD(Problem, first_step),
    FIELD(Problem, x),
    FIELD(Problem, attention),
    FIELD(Problem, state),
    FIELD(Problem, weight_ih),
    FIELD(Problem, weight_hh),
    FIELD(Problem, bias),
    SIZE(Outcome),
    FIELD(Outcome, states),
    FIELD(Outcome, kept),
    FIELD(Outcome, d_states),
    FIELD(Outcome, d_final),
    SIZE(Gradients),
    FIELD(Gradients, x),
    FIELD(Gradients, attention),
    FIELD(Gradients, state),
    FIELD(Gradients, weight_ih),
    FIELD(Gradients, weight_hh),
    FIELD(Gradients, bias),
    SIZE(Candidates),
    FIELD(Candidates, rows),
    FIELD(Candidates, steps),
    FIELD(Candidates, hidden),
    FIELD(Candidates, kind),
    FIELD(Candidates, threads),
    FIELD(Candidates, inputs),
    FIELD(Candidates, attention),
    FIELD(Candidates, state),
    FIELD(Candidates, weight_hh),
    FIELD(Candidates, bias),
    SIZE(Activation),
    FIELD(Activation, kind),
    FIELD(Activation, slope),
    FIELD(Activation, scale),
    FIELD(Activation, shift),
    FIELD(Activation, kept),
    FIELD(Activation, d_kept),
    FIELD(Activation, d_scale),
    FIELD(Activation, d_shift),
    FIELD(Activation, sums),
    FIELD(Activation, key),
    FIELD(Activation, dropped),
    SIZE(Net),
    FIELD(Net, layers),
    FIELD(Net, begin),
    FIELD(Net, end),
    FIELD(Net, units),
    FIELD(Net, activations),
    FIELD(Net, weights),
    FIELD(Net, biases),
    FIELD(Net, elements),
    SIZE(NetGradients),
    FIELD(NetGradients, weights),
    FIELD(NetGradients, biases),
    SIZE(AttentionProblem),
    FIELD(AttentionProblem, rows),
    FIELD(AttentionProblem, size),
    FIELD(AttentionProblem, threads),
    FIELD(AttentionProblem, shared),
    FIELD(AttentionProblem, offsets),
    FIELD(AttentionProblem, states),
    FIELD(AttentionProblem, query),
    FIELD(AttentionProblem, net),
    SIZE(AttentionGradients),
    FIELD(AttentionGradients, states),
    FIELD(AttentionGradients, query),
    FIELD(AttentionGradients, net),
    SIZE(AuxiliaryProblem),
    FIELD(AuxiliaryProblem, steps),
    FIELD(AuxiliaryProblem, state_size),
    FIELD(AuxiliaryProblem, behaviour_size),
    FIELD(AuxiliaryProblem, negatives),
    FIELD(AuxiliaryProblem, threads),
    FIELD(AuxiliaryProblem, states),
    FIELD(AuxiliaryProblem, clicks),
    FIELD(AuxiliaryProblem, others),
    FIELD(AuxiliaryProblem, positive_weight),
    FIELD(AuxiliaryProblem, negative_weight),
    FIELD(AuxiliaryProblem, net),
    SIZE(AuxiliaryGradients),
    FIELD(AuxiliaryGradients, states),
    FIELD(AuxiliaryGradients, clicks),
    FIELD(AuxiliaryGradients, others),
    FIELD(AuxiliaryGradients, net),
    SIZE(Feature),
    FIELD(Feature, rows),
    FIELD(Feature, size),
    FIELD(Feature, pooling),
    FIELD(Feature, table),
    SIZE(SequenceWeights),
    FIELD(SequenceWeights, behaviours),
    FIELD(SequenceWeights, targets),
    FIELD(SequenceWeights, size),
    FIELD(SequenceWeights, target_size),
    FIELD(SequenceWeights, hidden),
    FIELD(SequenceWeights, kind),
    FIELD(SequenceWeights, softmax),
    FIELD(SequenceWeights, behaviour_features),
    FIELD(SequenceWeights, target_features),
    FIELD(SequenceWeights, extractor_ih),
    FIELD(SequenceWeights, extractor_hh),
    FIELD(SequenceWeights, extractor_bias),
    FIELD(SequenceWeights, evolution_ih),
    FIELD(SequenceWeights, evolution_hh),
    FIELD(SequenceWeights, evolution_bias),
    FIELD(SequenceWeights, query_weight),
    FIELD(SequenceWeights, query_bias),
    FIELD(SequenceWeights, query_activation),
    FIELD(SequenceWeights, unit),
    SIZE(ScorerWeights),
    FIELD(ScorerWeights, features),
    FIELD(ScorerWeights, profile),
    FIELD(ScorerWeights, sequences),
    FIELD(ScorerWeights, sum_pooling),
    FIELD(ScorerWeights, of_features),
    FIELD(ScorerWeights, of_sequences),
    FIELD(ScorerWeights, mlp),
    SIZE(Column),
    FIELD(Column, count),
    FIELD(Column, is_user),
    FIELD(Column, ids),
    FIELD(Column, numbers),
    SIZE(Request),
    FIELD(Request, candidates),
    FIELD(Request, columns),
};

}  // namespace

// A line each: the name, a tab, and the number or where a field lies.
extern "C" const char* layout() {
    static const std::string text = [] {
        std::string text;
        for (const Line& line : LINES) text += line.name + '\t' + line.value + '\n';
        return text;
    }();
    return text.c_str();
}
