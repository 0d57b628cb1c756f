"""Transformer layer of BST (Chen et al., DLP-KDD 2019, 2.2) and DSIN."""

import torch.nn.functional as F
from torch import Tensor, nn


class TransformerBlock(nn.Module):
    """Self-attention and feed-forward, each with residual, dropout and layer norm.

    MH(E) = Concat(head_1, ..., head_h) W^O with head_i = softmax(E W^Q (E W^K)^T / sqrt(d)) E W^V, then S = LayerNorm(E
    + Dropout(MH(E))), F = LayerNorm(S + Dropout(LeakyReLU(S W_1 + b_1) W_2 + b_2)).

    Args:
        size: D.
        num_heads: number of heads; must divide D.
        attention_dropout: dropout of the attention weights.
        dropout: dropout of the two outputs.
        layer_norm, use_residual: False leaves them out.
    """

    def __init__(
        self, size: int, num_heads: int, attention_dropout: float, dropout: float, layer_norm: bool, use_residual: bool
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.attention_dropout = attention_dropout
        self.use_residual = use_residual
        self.query_key_value = nn.Linear(size, 3 * size)
        self.output = nn.Linear(size, size)
        self.feed_forward = nn.Sequential(nn.Linear(size, size), nn.LeakyReLU(), nn.Linear(size, size))
        self.dropout = nn.Dropout(dropout)
        self.attention_norm = nn.LayerNorm(size) if layer_norm else nn.Identity()
        self.output_norm = nn.LayerNorm(size) if layer_norm else nn.Identity()

    def forward(self, x: Tensor, visible: Tensor) -> Tensor:
        """Return (B, L, D).

        Args:
            x: (B, L, D).
            visible: (B, L, L) bool, which steps (last axis) each step attends to; at least one.
        """
        s = self.attention_norm(self._add(x, self._attend(x, visible)))
        return self.output_norm(self._add(s, self.feed_forward(s)))

    def _add(self, x: Tensor, change: Tensor) -> Tensor:
        change = self.dropout(change)
        return x + change if self.use_residual else change

    def _attend(self, x: Tensor, visible: Tensor) -> Tensor:
        heads = self.query_key_value(x).unflatten(-1, (3, self.num_heads, -1))  # (B, L, 3, heads, d)
        q, k, v = heads.permute(2, 0, 3, 1, 4)
        dropout = self.attention_dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=visible.unsqueeze(1), dropout_p=dropout)
        return self.output(attended.transpose(1, 2).flatten(2))


def check_heads(num_heads: int, size: int, what: str) -> None:
    """Raise ValueError if the number of heads does not divide `size`.

    Args:
        num_heads: number of heads.
        size: number of values.
        what: name of the values, for the message.
    """
    if size % num_heads:
        allowed = ", ".join(str(n) for n in range(1, size + 1) if size % n == 0)
        raise ValueError(f"num_heads={num_heads} does not divide the {size} values of {what}; allowed: {allowed}")
