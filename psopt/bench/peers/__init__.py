"""torch.distributed on psopt's own problems: the same shards, batches, first iterate and step size. Needs PyTorch."""
