"""Session interests of DSIN (Feng et al., IJCAI 2019, sections 3.3 to 3.5)."""

import torch
from torch import Tensor, nn

from model_zoo.DIEN.src.attention import InterestAttention
from model_zoo.DIEN.src.layers.packing import Packing
from model_zoo.parts.reverse import reverse_steps
from model_zoo.parts.segments import Segments, segments_of
from model_zoo.parts.transformer_block import TransformerBlock


class BiasEncoding(nn.Module):
    """Encoding BE_(k,t,c) = w^K_k + w^T_t + w^C_c of sessions, places and values.

    k is the session, t the place in it, and c the index of the embedding's value. Sessions and places are counted back
    from the newest, so that they mean the same in long and short histories.

    Args:
        max_steps: T, largest number of behaviours in a row.
        size: D.
    """

    def __init__(self, max_steps: int, size: int) -> None:
        super().__init__()
        self.sessions = nn.Parameter(1e-4 * torch.randn(max_steps))
        self.places = nn.Parameter(1e-4 * torch.randn(max_steps))
        self.values = nn.Parameter(1e-4 * torch.randn(size))

    def forward(self, sessions: Segments, mask: Tensor) -> Tensor:
        """Return the encoding of real steps, (B, T, D).

        Args:
            sessions: sessions of the steps.
            mask: (B, T) bool.
        """
        session = (sessions.mask.sum(dim=1, keepdim=True) - 1 - sessions.segment).clamp(min=0)
        # `number` counts the real steps up to each step; below, the real steps up to the end of its session are
        # counted.
        number = mask.cumsum(dim=1)
        last = torch.zeros_like(sessions.mask, dtype=number.dtype).scatter_reduce(1, sessions.segment, number, "amax")
        place = last.gather(1, sessions.segment) - number
        return (self.sessions[session] + self.places[place]).unsqueeze(-1) + self.values


class SessionInterests(nn.Module):
    """Self-attention in sessions, Bi-LSTM over sessions, and target attention.

    Args:
        size: D of the behaviours.
        target_size: D_a.
        max_steps: largest number of behaviours in a row.
        num_heads, attention_dropout, dropout: settings of the transformer block.

    Attributes:
        output_size: 3D.
    """

    def __init__(
        self, size: int, target_size: int, max_steps: int, num_heads: int, attention_dropout: float, dropout: float
    ) -> None:
        super().__init__()
        self.bias_encoding = BiasEncoding(max_steps, size)
        self.block = TransformerBlock(size, num_heads, attention_dropout, dropout, layer_norm=True, use_residual=True)
        self.forwards = nn.LSTM(size, size, batch_first=True)
        self.backwards = nn.LSTM(size, size, batch_first=True)
        self.interest_attention = InterestAttention(size, target_size)
        self.interaction_attention = InterestAttention(2 * size, target_size)
        self.output_size = 3 * size

    def forward(self, mask: Tensor, behaviours: Tensor, times: Tensor, target: Tensor) -> Tensor:
        """Return [U^I, U^H], (B, 3D).

        Args:
            mask: (B, T) bool.
            behaviours: (B, T, D).
            times: (B, T), session tokens.
            target: (B, D_a).
        """
        sessions = segments_of(times, mask)
        steps = self.block(behaviours + self.bias_encoding(sessions, mask), self.visible(sessions, mask))
        interests = sessions.mean(steps, mask)
        interacting = self.interact(interests, sessions.mask)
        packing = Packing.of_mask(sessions.mask)
        attended = []
        for attention, of_sessions in ((self.interest_attention, interests), (self.interaction_attention, interacting)):
            real = of_sessions[sessions.mask]
            attended.append(packing.sum(attention(real, target, packing).unsqueeze(1) * real))
        return torch.cat(attended, dim=-1)

    def visible(self, sessions: Segments, mask: Tensor) -> Tensor:
        """Return which steps attend to which, (B, T, T) bool.

        Real steps attend to real steps of their session. Padding attends only to itself, and no real step attends to
        padding.
        """
        same = sessions.segment.unsqueeze(1) == sessions.segment.unsqueeze(2)
        real = same & mask.unsqueeze(1) & mask.unsqueeze(2)
        return real | torch.eye(mask.size(1), dtype=torch.bool, device=mask.device)

    def interact(self, interests: Tensor, mask: Tensor) -> Tensor:
        """Run the Bi-LSTM over sessions; return (B, K, 2D).

        Args:
            interests: (B, K, D), interests of the sessions.
            mask: (B, K) bool, real sessions first.
        """
        before, _ = self.forwards(interests)
        after, _ = self.backwards(reverse_steps(interests, mask))
        return torch.cat([before, reverse_steps(after, mask)], dim=-1)
