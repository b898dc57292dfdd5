"""`psopt bench network`: seconds to a target over emulated slow networks, psopt's and those of torch.distributed."""
