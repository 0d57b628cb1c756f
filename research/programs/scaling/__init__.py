"""What a training step costs on several processes: on paper, and measured on this machine."""
