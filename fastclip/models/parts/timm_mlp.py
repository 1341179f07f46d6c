"""The MLP of a block, under timm's names."""

from torch import Tensor, nn

from fastclip.models.parts.activations import make_activation


class Mlp(nn.Module):
    """An MLP on (..., width), with a hidden layer of `hidden_width` channels."""

    def __init__(self, width: int, hidden_width: int, activation: str) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden_width)
        self.act = make_activation(activation)
        self.fc2 = nn.Linear(hidden_width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))
