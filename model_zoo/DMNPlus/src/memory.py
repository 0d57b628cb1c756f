"""Input module and episodic memory of DMN+ (Xiong et al., ICML 2016, sections 3.1 and 3.3)."""

import torch
from torch import Tensor, nn

from model_zoo.DIEN.src.attentional_gru import AttentionalGRU
from model_zoo.DIEN.src.layers.packing import Packing
from model_zoo.DIEN.src.layers.step_mlp import StepMLP


class InputFusion(nn.Module):
    """Facts that know what came before and after: the states of two GRUs added, one a direction.

    Args:
        input_size: D. hidden_size: H. backend: of the recurrences.
    """

    def __init__(self, input_size: int, hidden_size: int, backend: str = "auto") -> None:
        super().__init__()
        self.forwards = AttentionalGRU(input_size, hidden_size, "GRU", backend)
        self.backwards = AttentionalGRU(input_size, hidden_size, "GRU", backend)

    def forward(self, behaviours: Tensor, packing: Packing) -> Tensor:
        """behaviours: (N, D), packing: of N steps. Returns facts (N, H)."""
        before, _ = self.forwards(behaviours, packing)
        after, _ = self.backwards(behaviours[packing.reverse], packing)
        return before + after[packing.reverse]


class EpisodicMemory(nn.Module):
    """Reads the facts several times, each time looking for what the memory of the last pass points at.

    A pass i weighs the facts, reads them with the attention GRU, and updates the memory:
        z_t = [f_t * q, f_t * m, |f_t - q|, |f_t - m|] with m = m^{i-1}, m^0 = q
        g_t = softmax_t(W_2 tanh(W_1 z_t + b_1) + b_2) over the real steps
        c   = the last h_t = g_t h~_t + (1 - g_t) h_{t-1}, which is AGRU, eq. (10) of DIEN
        m^i = ReLU(W^i [m^{i-1}; c; q] + b^i)
    Gate and attention GRU are the same in every pass, the update has weights of its own in each.

    Args:
        size: H of facts, question and memory. num_passes: P. gate_size: of the gate's hidden layer.
        backend: of the attention GRU.
    """

    def __init__(self, size: int, num_passes: int, gate_size: int, backend: str = "auto") -> None:
        super().__init__()
        self.gate = StepMLP(4 * size, [gate_size], "Tanh")
        self.attention_gru = AttentionalGRU(size, size, "AGRU", backend)
        self.updates = nn.ModuleList(nn.Linear(3 * size, size) for _ in range(num_passes))

    def forward(self, facts: Tensor, question: Tensor, packing: Packing) -> Tensor:
        """facts: (N, H), question: (B, H), packing: of B rows with N steps. Returns the last memory m^P, (B, H)."""
        memory = question
        for update in self.updates:
            _, context = self.attention_gru(facts, packing, self.attend(facts, question, memory, packing))
            memory = torch.relu(update(torch.cat([memory, context, question], dim=-1)))
        return memory

    def attend(self, facts: Tensor, question: Tensor, memory: Tensor, packing: Packing) -> Tensor:
        """The gates g of one pass: facts (N, H), question and memory (B, H). Returns (N,)."""
        q, m = packing.spread(question), packing.spread(memory)
        scores = self.gate(torch.cat([facts * q, facts * m, (facts - q).abs(), (facts - m).abs()], dim=-1))
        return packing.softmax(scores)
