"""From raw arrays to the files of the example: digits.npz, classifier.safetensors and wiener.safetensors."""

import numpy as np
import torch
from digit_models import WienerFilter, classifier
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from torch.nn.functional import cross_entropy

digits = load_digits()
images = np.rint(digits.images / 16 * 255).astype(np.uint8)  # [1797, 8, 8]
labels = digits.target  # [1797], 0 to 9
held_out = np.arange(len(images)) % 5 == 0
np.savez("digits.npz", images=images[held_out], labels=labels[held_out])

torch.manual_seed(0)
x = torch.from_numpy(images[~held_out]).float()[:, None] / 255  # [N, C, H, W] in [0, 1]
y = torch.from_numpy(labels[~held_out])
network = classifier(num_pixels=64)
optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
for _ in range(200):
    optimizer.zero_grad()
    cross_entropy(network(x), y).backward()
    optimizer.step()
save_file(network.state_dict(), "classifier.safetensors")

wiener = WienerFilter(num_pixels=64)
wiener.mean = x.flatten(1).mean(dim=0)
wiener.variances, wiener.axes = torch.linalg.eigh(torch.cov(x.flatten(1).T))
save_file({name: tensor.contiguous() for name, tensor in wiener.state_dict().items()}, "wiener.safetensors")
