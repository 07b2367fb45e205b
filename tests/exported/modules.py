"""Small PyTorch modules of many kinds; cases.py exports them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Seeded standard normal numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def integers(high: int, *shape: int, seed: int = 0) -> Tensor:
    """Seeded integers from 0 up to `high`, exclusive."""
    return torch.randint(high, shape, generator=torch.Generator().manual_seed(seed))


class ConvNet(nn.Module):
    """Strided, grouped and dilated convolutions, both poolings, a linear classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8))
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.dilated = nn.Conv2d(8, 8, 3, padding=2, dilation=2)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True)
        self.mean = nn.AvgPool2d(2)
        self.classifier = nn.Linear(16, 5)

    def forward(self, image: Tensor) -> Tensor:
        """[batch, 3, 20, 20] to [batch, 5]."""
        x = F.hardswish(self.stem(image))
        x = torch.cat([F.leaky_relu(self.depthwise(x)), F.silu(self.dilated(x))], dim=1)
        x = self.mean(self.pool(x))
        return self.classifier(F.adaptive_avg_pool2d(x, 1).flatten(1)).softmax(dim=-1)


class Attention(nn.Module):
    """Multi-head attention over keys and values that may come from before."""

    def __init__(self, size: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.projection = nn.Linear(size, 3 * size)
        self.output = nn.Linear(size, size)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each [batch, heads, length, size / heads]."""
        batch, length, size = x.shape
        parts = self.projection(x).view(batch, length, 3, self.heads, size // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        return query, key, value

    def join(self, x: Tensor) -> Tensor:
        """Heads beside each other again: [batch, length, size]."""
        return self.output(x.transpose(1, 2).flatten(2))


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward, normalised before; padding is masked."""

    def __init__(self, size: int, heads: int) -> None:
        super().__init__()
        self.attention = Attention(size, heads)
        self.norms = nn.ModuleList([nn.LayerNorm(size), nn.LayerNorm(size)])
        self.feed_forward = nn.Sequential(
            nn.Linear(size, 2 * size), nn.GELU(), nn.Linear(2 * size, size)
        )

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        query, key, value = self.attention.split(self.norms[0](x))
        context = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        x = x + self.attention.join(context)
        return x + self.feed_forward(self.norms[1](x))


class Encoder(nn.Module):
    """A transformer encoder of two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(50, 16)
        self.positions = nn.Embedding(32, 16)
        self.layers = nn.ModuleList([EncoderLayer(16, 2) for _ in range(2)])

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """ids and mask [batch, length] to states [batch, length, 16]."""
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1]))
        keep = mask[:, None, None, :].bool()
        for layer in self.layers:
            x = layer(x, keep)
        return x


class Decoder(nn.Module):
    """A decoder layer that continues from a cache of keys and values and returns the longer one."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(50, 16)
        self.norm = nn.LayerNorm(16)
        self.attention = Attention(16, 2)
        self.head = nn.Linear(16, 50)

    def forward(self, ids: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """ids [batch, new], cache [batch, 2, past, 8] to logits and a cache of past + new."""
        x = self.tokens(ids)
        query, key, value = self.attention.split(self.norm(x))
        past, new = keys.shape[2], ids.shape[1]
        keys = torch.cat([keys, key], dim=2)
        values = torch.cat([values, value], dim=2)
        columns = torch.arange(past + new)[None, :]
        rows = torch.arange(new)[:, None] + past
        scores = query @ keys.transpose(-1, -2) / 8**0.5
        scores = scores.masked_fill(columns > rows, -1e9)
        x = x + self.attention.join(scores.softmax(dim=-1) @ values)
        return self.head(x), keys, values


class Recurrent(nn.Module):
    """Two bidirectional recurrent layers from a given state; the last state is returned too."""

    def __init__(self, kind: type[nn.LSTM] | type[nn.GRU]) -> None:
        super().__init__()
        self.layers = kind(6, 8, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """x [batch, length, 6], hidden [4, batch, 8] to [batch, length, 4] and a hidden state."""
        if isinstance(self.layers, nn.LSTM):
            states, (hidden, _) = self.layers(x, (hidden, torch.zeros_like(hidden)))
        else:
            states, hidden = self.layers(x, hidden)
        return self.head(states), hidden


class UNet(nn.Module):
    """Down and up again, nearest and bilinear, with connections across."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Conv2d(1, 4, 3, padding=1)
        self.down = nn.Conv2d(4, 8, 3, stride=2, padding=1)
        self.bottom = nn.Conv2d(8, 8, 3, stride=2, padding=1)
        self.up = nn.Conv2d(16, 4, 3, padding=1)
        self.transposed = nn.ConvTranspose2d(4, 4, 2, stride=2)
        self.leave = nn.Conv2d(12, 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        """[batch, 1, height, width] to [batch, 2, height, width]; sizes are multiples of 4."""
        first = torch.relu(self.enter(image))
        second = torch.relu(self.down(first))
        third = torch.relu(self.bottom(second))
        x = F.interpolate(third, scale_factor=2.0, mode="nearest")
        x = torch.relu(self.up(torch.cat([x, second], dim=1)))
        smooth = F.interpolate(x, size=first.shape[-2:], mode="bilinear", align_corners=False)
        return self.leave(torch.cat([smooth, self.transposed(x), first], dim=1))


class Detector(nn.Module):
    """A grid of boxes, the best of them by score, those that overlap a better one struck out."""

    CANDIDATES = 10

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Conv2d(3, 8, 3, stride=4, padding=1)
        self.boxes = nn.Conv2d(8, 4, 1)
        self.scores = nn.Conv2d(8, 3, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[1, 3, 24, 24] to boxes [1, 10, 4], scores [1, 10] and labels [1, 10]."""
        x = torch.relu(self.backbone(image))
        offsets = self.boxes(x).flatten(2).transpose(1, 2)
        scores, labels = (4 * self.scores(x)).sigmoid().flatten(2).max(dim=1)
        ys, xs = torch.meshgrid(torch.arange(6.0), torch.arange(6.0), indexing="ij")
        centres = torch.stack([xs.flatten(), ys.flatten()], dim=-1) * 4 + 4 * offsets[..., :2]
        half = 8 * offsets[..., 2:].exp()
        boxes = torch.cat([centres - half, centres + half], dim=-1)
        scores, order = scores.topk(self.CANDIDATES, dim=1)
        boxes = boxes.gather(1, order.unsqueeze(-1).expand(-1, -1, 4))
        labels = labels.gather(1, order)
        keep = self.unsuppressed(boxes)
        scores = torch.where(keep, scores, 0.0)
        return boxes * keep.unsqueeze(-1), scores, torch.where(keep, labels, -1)

    def unsuppressed(self, boxes: Tensor) -> Tensor:
        """Non-maximum suppression over boxes in order of score, as a mask."""
        low = torch.maximum(boxes[:, :, None, :2], boxes[:, None, :, :2])
        high = torch.minimum(boxes[:, :, None, 2:], boxes[:, None, :, 2:])
        shared = (high - low).clamp(min=0).prod(dim=-1)
        area = (boxes[..., 2:] - boxes[..., :2]).prod(dim=-1)
        overlaps = shared / (area[:, :, None] + area[:, None, :] - shared) > 0.4
        ranks = torch.arange(self.CANDIDATES)
        keep = torch.ones_like(area, dtype=torch.bool)
        for best in range(self.CANDIDATES):
            beaten = overlaps[:, best] & (ranks > best) & keep[:, best : best + 1]
            keep = keep & ~beaten
        return keep


class Conditional(nn.Module):
    """One of two branches, by the sign of the operand's sum, as torch.cond."""

    def __init__(self) -> None:
        super().__init__()
        self.positive = nn.Linear(6, 6)
        self.negative = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, 6] to the same shape."""
        chosen = torch.cond(
            x.sum() > 0,
            lambda x: torch.relu(self.positive(x)),
            lambda x: torch.tanh(self.negative(x)),
            (x,),
        )
        return chosen + x


class Scripted(nn.Module):
    """A loop as long as the operand says, with a condition inside, for TorchScript."""

    def __init__(self) -> None:
        super().__init__()
        self.step = nn.Linear(6, 6)

    def forward(self, x: Tensor, steps: Tensor) -> Tensor:
        """x [batch, 6] and a scalar number of steps to [batch, 6]."""
        for index in range(int(steps)):
            x = torch.tanh(self.step(x)) + x
            if bool(x.sum() > 0):
                x = x - 0.5
            x = x + 0.25 * index
        return x


class Quantized(nn.Module):
    """Static quantization: activations per tensor to u8, weights per channel to s8."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.linear = nn.Linear(8, 4)

    @staticmethod
    def activation(x: Tensor, low: float, high: float) -> Tensor:
        """Round `x` to one of 256 levels between low and high."""
        scale = (high - low) / 255
        return torch.fake_quantize_per_tensor_affine(x, scale, round(-low / scale), 0, 255)

    @staticmethod
    def weight(x: Tensor, scales: Tensor) -> Tensor:
        """Round each channel to one of 255 levels around zero."""
        zero = torch.zeros(x.shape[0], dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(x, scales, zero, 0, -128, 127)

    def forward(self, image: Tensor) -> Tensor:
        """[batch, 3, 8, 8] to [batch, 4]."""
        x = self.activation(image, -4.0, 4.0)
        kernel = self.weight(self.conv.weight, torch.linspace(0.002, 0.003, 8))
        x = torch.relu(F.conv2d(x, kernel, self.conv.bias, padding=1))
        x = self.activation(self.activation(x, 0.0, 2.0).mean(dim=(2, 3)), 0.0, 1.0)
        return F.linear(x, self.weight(self.linear.weight, torch.full([4], 0.003)))


class TwoTowers(nn.Module):
    """Images and token bags embedded side by side, and the similarities of all pairs."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Sequential(
            nn.Conv2d(3, 8, 4, stride=4), nn.ReLU(), nn.Flatten(), nn.Linear(32, 16)
        )
        self.tokens = nn.Embedding(40, 12)
        self.text = nn.Sequential(nn.Linear(12, 24), nn.ELU(), nn.Linear(24, 16))
        self.temperature = nn.Parameter(torch.tensor(2.0))

    def forward(self, images: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
        """[images, 3, 8, 8] and [texts, length] to [images, texts] and its row-wise best."""
        left = F.normalize(self.image(images), dim=-1)
        right = F.normalize(self.text(self.tokens(texts).amax(dim=1)), dim=-1)
        similarity = self.temperature.exp() * left @ right.T
        return similarity, similarity.argmax(dim=-1)


class Ranker(nn.Module):
    """Bags of embeddings of several features, crossed and scored."""

    def __init__(self) -> None:
        super().__init__()
        self.bags = nn.ModuleList(
            nn.EmbeddingBag(rows, 8, mode=mode)
            for rows, mode in ((30, "sum"), (50, "mean"), (20, "sum"))
        )
        self.dense = nn.Linear(5, 8)
        self.score = nn.Sequential(nn.Linear(8 + 6, 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, dense: Tensor, first: Tensor, second: Tensor, third: Tensor) -> Tensor:
        """dense [batch, 5] and three bags of indices [batch, 3] to scores [batch]."""
        x = torch.relu(self.dense(dense))
        indices = (first, second, third)
        features = [x, *(bag(ids) for bag, ids in zip(self.bags, indices, strict=True))]
        stacked = torch.stack(features, dim=1)
        products = stacked @ stacked.transpose(1, 2)
        rows, columns = torch.tril_indices(4, 4, -1).unbind(0)
        crossed = products[:, rows, columns]
        return self.score(torch.cat([x, crossed], dim=1)).squeeze(-1)


class BranchedMLP(nn.Module):
    """Residual blocks whose branches differ in depth and activation."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.ModuleList(
                [
                    nn.Sequential(nn.LayerNorm(12), nn.Linear(12, 24), nn.Mish()),
                    nn.Sequential(nn.Linear(12, 6), nn.Tanh(), nn.Linear(6, 24), nn.Softplus()),
                    nn.Sequential(nn.Linear(12, 24), nn.Hardtanh()),
                ]
            )
            for _ in range(3)
        )
        self.joins = nn.ModuleList(nn.Linear(24, 12) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        """[batch, 12] to the same shape."""
        for branches, join in zip(self.blocks, self.joins, strict=True):
            first, second, third = (branch(x) for branch in branches)
            x = x + join(first * second.sigmoid() + third)
        return x


class Difference(nn.Module):
    """Two inputs that are not its first two parameters."""

    def forward(
        self, left: Tensor, mask: Tensor | None = None, right: Tensor | None = None
    ) -> Tensor:
        """left - right."""
        if mask is not None:
            raise ValueError("there is a mask:\n\n  none was expected\nhere")
        assert right is not None
        return left - right
