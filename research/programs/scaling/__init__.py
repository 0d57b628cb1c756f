"""What a training step costs on several workers: on paper, and measured on this machine."""
