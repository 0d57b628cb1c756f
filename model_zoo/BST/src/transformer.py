"""The transformer layer of BST (Chen et al., DLP-KDD 2019, section 2.2)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

POOLINGS = ("mean", "sum", "target", "concat")


class TransformerBlock(nn.Module):
    """Self-attention and feed-forward, each with residual, dropout and layer norm.

    MH(E) = Concat(head_1, ..., head_h) W^O with head_i = softmax(E W^Q (E W^K)^T / sqrt(d)) E W^V, then
    S = LayerNorm(E + Dropout(MH(E))), F = LayerNorm(S + Dropout(LeakyReLU(S W_1 + b_1) W_2 + b_2)).

    Args:
        size: D. num_heads: divides D.
        attention_dropout: of the attention's weights. dropout: of the two outputs.
        layer_norm, use_residual: False leaves them out.
    """

    def __init__(self, size: int, num_heads: int, attention_dropout: float, dropout: float, layer_norm: bool,
                 use_residual: bool) -> None:
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
        """x: (B, L, D). visible: (B, L, L) bool, which steps (last) each step sees: one at least. Returns (B, L, D)."""
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


class BehaviorTransformer(nn.Module):
    """Transformer blocks over a sequence whose place 0 is the target, 1 the newest behaviour, and so on.

    Args:
        input_size: of a step. position_size: of a position's embedding, put beside each step; 0 for none. They start
            as small as the zoo's embeddings do; sinusoids outweigh these in the first layer norm, and validate worse.
        max_steps: steps that a row can have, the target among them.
        num_blocks: how many TransformerBlocks. num_heads: divides D = input_size + position_size.
        attention_dropout, dropout, layer_norm, use_residual: of a block.
        use_causal_mask: a step sees itself and what is older.
        pooling: one of ``POOLINGS``.

    Attributes:
        output_size: D, or max_steps * D for ``concat``.
    """

    def __init__(self, input_size: int, position_size: int, max_steps: int, num_blocks: int, num_heads: int,
                 attention_dropout: float, dropout: float, layer_norm: bool, use_residual: bool,
                 use_causal_mask: bool, pooling: str) -> None:
        super().__init__()
        size = input_size + position_size
        self.max_steps = max_steps
        self.use_causal_mask = use_causal_mask
        self.pooling = pooling
        self.output_size = size * max_steps if pooling == "concat" else size
        self.positions = nn.Parameter(1e-4 * torch.randn(max_steps, position_size)) if position_size else None
        self.blocks = nn.ModuleList(
            TransformerBlock(size, num_heads, attention_dropout, dropout, layer_norm, use_residual)
            for _ in range(num_blocks))

    def forward(self, steps: Tensor, mask: Tensor) -> Tensor:
        """steps: (B, L, input_size), mask: (B, L) bool, True at place 0. Returns (B, output_size)."""
        if self.positions is not None:
            positions = self.positions[:steps.size(1)].expand(len(steps), -1, -1)
            steps = torch.cat([steps, positions], dim=-1)
        visible = self.visible(mask)
        for block in self.blocks:
            steps = block(steps, visible)
        steps = steps.masked_fill(~mask.unsqueeze(-1), 0)
        if self.pooling == "target":
            return steps[:, 0]
        if self.pooling == "concat":
            return F.pad(steps, (0, 0, 0, self.max_steps - steps.size(1))).flatten(1)
        total = steps.sum(dim=1)
        return total / mask.sum(dim=1, keepdim=True) if self.pooling == "mean" else total

    def visible(self, mask: Tensor) -> Tensor:
        """(B, L) to (B, L, L): real steps see real steps; padding sees only itself, and nobody sees it."""
        real = mask.unsqueeze(1) & mask.unsqueeze(2)
        if self.use_causal_mask:
            real = real.triu()
        return real | torch.eye(mask.size(1), dtype=torch.bool, device=mask.device)
