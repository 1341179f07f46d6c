"""The projection of the features of timm's image towers to the shared space: `visual.head`."""

from torch import Tensor, nn

LINEAR, MLP = "linear", "mlp"


class Mlp(nn.Module):
    """Projects (B, width) to (B, embed_dim) with a hidden layer of 2 * embed_dim channels."""

    def __init__(self, width: int, embed_dim: int, has_bias: bool, drop: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 2 * embed_dim)
        self.act = nn.GELU()
        self.drop1 = nn.Dropout(drop)
        self.fc2 = nn.Linear(2 * embed_dim, embed_dim, bias=has_bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.drop1(self.act(self.fc1(x))))


def projection_head(
    kind: str, width: int, embed_dim: int, has_bias: bool, drop: float
) -> nn.Sequential:
    """Build the projection; its layers have open_clip's names: `proj`, or `mlp.fc1` and `mlp.fc2`.

    Args:
        kind: LINEAR or MLP.
        width: channels of the features.
        embed_dim: channels of the shared space.
        has_bias: whether the last layer has a bias.
        drop: the rate of dropout, before the linear layer or inside the MLP.
    """
    head = nn.Sequential()
    if kind == LINEAR:
        head.add_module("drop", nn.Dropout(drop))
        head.add_module("proj", nn.Linear(width, embed_dim, bias=has_bias))
    else:
        head.add_module("mlp", Mlp(width, embed_dim, has_bias, drop))
    return head
