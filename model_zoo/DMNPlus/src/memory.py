"""Input module and episodic memory of DMN+ (Xiong et al., ICML 2016, 3.1, 3.3)."""

import torch
from torch import Tensor, nn

from model_zoo.DIEN.src.attentional_gru import AttentionalGRU
from model_zoo.DIEN.src.layers.packing import Packing
from model_zoo.DIEN.src.layers.step_mlp import StepMLP


class InputFusion(nn.Module):
    """Layer that adds the states of two GRUs, one per direction.

    The resulting facts depend on earlier and on later behaviours.

    Args:
        input_size: D.
        hidden_size: H.
        backend: backend of the recurrences.
    """

    def __init__(self, input_size: int, hidden_size: int, backend: str = "auto") -> None:
        super().__init__()
        self.forwards = AttentionalGRU(input_size, hidden_size, "GRU", backend)
        self.backwards = AttentionalGRU(input_size, hidden_size, "GRU", backend)

    def forward(self, behaviours: Tensor, packing: Packing) -> Tensor:
        """Return the facts (N, H) of behaviours (N, D)."""
        before, _ = self.forwards(behaviours, packing)
        after, _ = self.backwards(behaviours[packing.reverse], packing)
        return before + after[packing.reverse]


class EpisodicMemory(nn.Module):
    """Memory that reads the facts in several passes, guided by the last pass.

    A pass i weights the facts, reads them with the attention GRU, and updates the memory:

            z_t = [f_t * q, f_t * m, |f_t - q|, |f_t - m|] with m = m^{i-1}, m^0 = q
            g_t = softmax_t(W_2 tanh(W_1 z_t + b_1) + b_2) over the real steps
            c   = the last h_t = g_t h~_t + (1 - g_t) h_{t-1}, which is AGRU, eq. (10) of DIEN
            m^i = ReLU(W^i [m^{i-1}; c; q] + b^i)

    All passes share the gate and the attention GRU; each has its own weights of the update.

    Args:
        size: H of facts, question and memory.
        num_passes: P.
        gate_size: size of the gate's hidden layer.
        backend: backend of the attention GRU.
    """

    def __init__(self, size: int, num_passes: int, gate_size: int, backend: str = "auto") -> None:
        super().__init__()
        self.gate = StepMLP(4 * size, [gate_size], "Tanh")
        self.attention_gru = AttentionalGRU(size, size, "AGRU", backend)
        self.updates = nn.ModuleList(nn.Linear(3 * size, size) for _ in range(num_passes))

    def forward(self, facts: Tensor, question: Tensor, packing: Packing) -> Tensor:
        """Return the last memory m^P, (B, H).

        Args:
            facts: (N, H).
            question: (B, H).
            packing: packing of B rows with N steps.
        """
        memory = question
        for update in self.updates:
            _, context = self.attention_gru(facts, packing, self.attend(facts, question, memory, packing))
            memory = torch.relu(update(torch.cat([memory, context, question], dim=-1)))
        return memory

    def attend(self, facts: Tensor, question: Tensor, memory: Tensor, packing: Packing) -> Tensor:
        """Return the gates g (N,) of one pass.

        Args:
            facts: (N, H).
            question: (B, H).
            memory: (B, H).
            packing: packing of B rows with N steps.
        """
        q, m = packing.spread(question), packing.spread(memory)
        scores = self.gate(torch.cat([facts * q, facts * m, (facts - q).abs(), (facts - m).abs()], dim=-1))
        return packing.softmax(scores)
