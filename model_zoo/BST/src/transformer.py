"""Transformer of BST (Chen et al., DLP-KDD 2019, section 2.2)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model_zoo.parts.transformer_block import TransformerBlock


class BehaviorTransformer(nn.Module):
    """Transformer over a sequence: position 0 is the target, 1 the newest behaviour.

    Args:
        input_size: size of a step.
        position_size: size of a position's embedding, which is concatenated to each step; 0 for none. These embeddings
            start as small as the zoo's; sinusoids outweigh them in the first layer norm and validate worse.
        max_steps: largest number of steps in a row, including the target.
        num_blocks: number of TransformerBlocks.
        num_heads: number of attention heads; must divide D = input_size + position_size.
        attention_dropout, dropout, layer_norm, use_residual: settings of each block.
        use_causal_mask: lets a step attend only to itself and older steps.
        pooling: `mean`, `sum`, `target` or `concat`.

    Attributes:
        output_size: D, or max_steps * D for `concat`.
    """

    def __init__(
        self,
        input_size: int,
        position_size: int,
        max_steps: int,
        num_blocks: int,
        num_heads: int,
        attention_dropout: float,
        dropout: float,
        layer_norm: bool,
        use_residual: bool,
        use_causal_mask: bool,
        pooling: str,
    ) -> None:
        super().__init__()
        size = input_size + position_size
        self.max_steps = max_steps
        self.use_causal_mask = use_causal_mask
        self.pooling = pooling
        self.output_size = size * max_steps if pooling == "concat" else size
        self.positions = nn.Parameter(1e-4 * torch.randn(max_steps, position_size)) if position_size else None
        self.blocks = nn.ModuleList(
            TransformerBlock(size, num_heads, attention_dropout, dropout, layer_norm, use_residual)
            for _ in range(num_blocks)
        )

    def forward(self, mask: Tensor, steps: Tensor) -> Tensor:
        """Return the pooled output of the transformer, (B, output_size).

        Args:
            mask: (B, L) bool, True for real steps; always True at position 0.
            steps: (B, L, input_size).
        """
        if self.positions is not None:
            positions = self.positions[: steps.size(1)].expand(len(steps), -1, -1)
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
        """Return which steps attend to which, (B, L, L) bool, from a mask (B, L).

        Real steps attend to real steps. Padding attends only to itself, and no real step attends to padding.
        """
        real = mask.unsqueeze(1) & mask.unsqueeze(2)
        if self.use_causal_mask:
            real = real.triu()
        return real | torch.eye(mask.size(1), dtype=torch.bool, device=mask.device)
